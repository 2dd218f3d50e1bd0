/* Backward passes with an image in each lane: one function after the other, for all images of a block. Few functions of
   many images fill the lanes better so. Lines and sizes are then each lane's own. Included for one vector a block. */

/* V vectors as the rows of a square, turned into its columns: quarters change places, then quarters of quarters. */
INLINE void NAME(turned)(VEC *rows)
{
#if defined(__clang__)
    VEC from[V];
    memcpy(from, rows, sizeof from);
    for (int i = 0; i < V; i++)
        for (int j = 0; j < V; j++)
            rows[i][j] = from[j][i];
#else
    const IVEC j = NAME(count)();
#pragma GCC unroll 4
    for (int half = V / 2; half; half /= 2) {
        const IVEC right = (j & half) != 0; /* all bits where the column is in the right half */
        const IVEC up = j + (right & (V - half)), down = up + half;
#pragma GCC unroll 16
        for (int i = 0; i < V; i++)
            if (!(i & half)) {
                const VEC one = rows[i], other = rows[i + half];
                rows[i] = __builtin_shuffle(one, other, up);
                rows[i + half] = __builtin_shuffle(one, other, down);
            }
    }
#endif
}

/* Numbers of V images side by side; lanes beyond the last image repeat it. */
static void NAME(side_by_side)(const gls_values *from, int64_t g, int64_t b, int64_t images, int64_t size, VEC *to)
{
    const REAL *values[V];
    int64_t i = 0;
    for (int64_t l = 0; l < V; l++)
        values[l] = NAME(at)(from, g, b + l < images ? b + l : images - 1, 0);
    for (; i + V <= size; i += V) {
        VEC rows[V];
        for (int64_t l = 0; l < V; l++)
            memcpy(&rows[l], values[l] + i, sizeof(VEC));
        NAME(turned)(rows);
        memcpy(to + i, rows, sizeof rows);
    }
    for (; i < size; i++)
        for (int64_t l = 0; l < V; l++)
            ((REAL *)to)[i * V + l] = values[l][i];
}

/* A backward pass with an image in each lane: one function after the other. `ops` are the pass' own with its lines. */
static void NAME(pass_laid)(const gls_pass *p, const gls_op *ops, int64_t g, int64_t b, NAME(slot) *slots)
{
    const int64_t size = p->channels * p->height * p->width;
    NAME(place)(p, slots, 0, 0);
    for (int64_t unit = 0; unit < p->units; unit++) {
        VEC sums[SUMS * NV], total;
        const gls_values row = {NAME(at)(&p->start, 0, 0, unit * size), 0, p->start.image};
        NAME(side_by_side)(&row, g, b, p->images, size, slots[0].data);
        memset(sums, 0, sizeof sums);
        for (int64_t i = 0; i < p->count; i++)
            NAME(operate)(&ops[i], g, b, slots, slots[p->slots].data, sums);
        total = (sums[0] + sums[1]) + (sums[2] + sums[3]);
        for (int64_t l = 0; l < V && b + l < p->images; l++)
            ((REAL *)p->out)[g * p->out_member + (b + l) * p->out_image + unit * p->out_unit] = ((const REAL *)&total)[l];
    }
}

/* What an operation has in lanes: its lines and size, in this order. */
INLINE int NAME(laned_values)(gls_op *op, gls_values **values)
{
    int count = 0;
    if (op->relu) {
        values[count++] = &op->mean, values[count++] = &op->half;
        values[count++] = &op->mean_offset, values[count++] = &op->half_offset;
    }
    if (op->weigh)
        values[count++] = &op->size;
    return count;
}

/* How many vectors all lines and sizes of a pass take; 0 if they cannot be laid out, or an image in each lane is no gain. */
static int64_t NAME(worth_lanes)(const gls_pass *p)
{
    const int64_t by_unit = (p->units + V - 1) / V * p->images, by_image = p->units * ((p->images + V - 1) / V);
    int64_t count = 0;
    if (p->pixel || p->mirrored || !p->start.data || p->start.member || by_image * 4 > by_unit * 3)
        return 0;
    for (int64_t i = 0; i < p->count; i++) {
        gls_op op = p->ops[i];
        gls_values *values[5];
        if (op.multiplier.data || op.laned >= 0)
            return 0;
        count += NAME(laned_values)(&op, values) * op.channels * op.height * op.width;
    }
    return count > MOST_LANED ? 0 : count;
}

/* What a pass with an image in each lane works in: its slots, a copy of its operations, and `count` vectors more. */
typedef struct {
    NAME(slot) *slots;
    gls_op *ops;
    VEC *more;
    void *memory; /* NULL: there was none */
} NAME(lane_room);

static NAME(lane_room) NAME(lanes_opened)(const gls_pass *p, int64_t count)
{
    NAME(lane_room) room = {calloc(p->slots + 2, sizeof *room.slots), malloc(p->count * sizeof *room.ops), 0, 0};
    int64_t *most = calloc(p->slots + 2, sizeof *most);
    if (room.slots && most && room.ops)
        room.memory = malloc((NAME(sizes)(p, room.slots, most) + count) * sizeof(VEC) + 64);
    if (room.memory) {
        room.more = (VEC *)(((uintptr_t)room.memory + 63) / 64 * 64);
        for (int64_t i = 0; i < p->slots + 2; i++) {
            room.slots[i].data = room.more;
            room.more += most[i];
        }
        memcpy(room.ops, p->ops, p->count * sizeof *room.ops);
    }
    free(most);
    return room;
}

/* 0, or 1 if there was no memory. */
static int NAME(lanes_closed)(NAME(lane_room) *room)
{
    free(room->memory);
    free(room->ops);
    free(room->slots);
    return room->memory ? 0 : 1;
}

/* Members and images, V of these at a turn; 0, or 1 if there is no memory. */
static int NAME(pass_images)(const gls_pass *p, int64_t count)
{
    NAME(lane_room) room = NAME(lanes_opened)(p, count);
    int64_t turn = 0;
    for (int64_t g = 0; room.memory && g < p->members; g++)
        for (int64_t b = 0; b < p->images; b += V) {
            VEC *place = room.more;
            if (!NAME(ours)(p, turn++))
                continue;
            for (int64_t i = 0; i < p->count; i++) {
                gls_op *op = &room.ops[i];
                gls_values *values[5];
                *op = p->ops[i];
                const int many = NAME(laned_values)(op, values);
                for (int k = 0; k < many; k++) {
                    const int64_t size = op->channels * op->height * op->width;
                    NAME(side_by_side)(values[k], g, b, p->images, size, place);
                    *values[k] = (gls_values){place, 0, 0};
                    place += size;
                }
                op->laned = 0;
            }
            NAME(pass_laid)(p, room.ops, g, b, room.slots);
        }
    return NAME(lanes_closed)(&room);
}
