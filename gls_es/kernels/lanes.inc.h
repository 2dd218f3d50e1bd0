/* Backward passes with an image in each lane: one function after the other, for all images of a block. Few functions of
   many images fill the lanes better so. Lines and sizes are then each lane's own. Included for one vector a block. */

/* A backward pass with an image in each lane: one function after the other. `ops` are the pass' own with its lines. */
static void NAME(pass_laid)(const gls_pass *p, const gls_op *ops, int64_t g, int64_t b, NAME(slot) *slots)
{
    const int64_t size = p->channels * p->height * p->width;
    NAME(place)(p, slots, 0, 0);
    for (int64_t unit = 0; unit < p->units; unit++) {
        VEC sums[SUMS * NV], total;
        for (int64_t l = 0; l < V; l++) {
            const REAL *row = NAME(at)(&p->start, 0, b + l < p->images ? b + l : p->images - 1, unit * size);
            for (int64_t i = 0; i < size; i++)
                ((REAL *)slots[0].data)[i * V + l] = row[i];
        }
        memset(sums, 0, sizeof sums);
        for (int64_t i = 0; i < p->count; i++)
            NAME(operate)(&ops[i], g, b, slots, slots[p->slots].data, sums);
        total = (sums[0] + sums[1]) + (sums[2] + sums[3]);
        for (int64_t l = 0; l < V && b + l < p->images; l++)
            ((REAL *)p->out)[g * p->out_member + (b + l) * p->out_image + unit * p->out_unit] = ((const REAL *)&total)[l];
    }
}

/* Numbers of V images side by side; lanes beyond the last image repeat it. */
static void NAME(side_by_side)(const gls_values *from, int64_t g, int64_t b, int64_t images, int64_t size, VEC *to)
{
    for (int64_t i = 0; i < size; i += V)
        for (int64_t l = 0; l < V; l++) {
            const REAL *value = NAME(at)(from, g, b + l < images ? b + l : images - 1, 0);
            REAL *place = (REAL *)to + l;
            for (int64_t j = i; j < i + V && j < size; j++)
                place[j * V] = value[j];
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

/* All members and images; 0, or 1 if there is no memory. */
static int NAME(pass_images)(const gls_pass *p, int64_t count)
{
    NAME(slot) *slots = calloc(p->slots + 2, sizeof *slots);
    int64_t *most = calloc(p->slots + 2, sizeof *most);
    gls_op *ops = malloc(p->count * sizeof *ops);
    void *memory = 0;
    if (slots && most && ops)
        memory = malloc((NAME(sizes)(p, slots, most) + count) * sizeof(VEC) + 64);
    if (memory) {
        VEC *next = (VEC *)(((uintptr_t)memory + 63) / 64 * 64);
        for (int64_t i = 0; i < p->slots + 2; i++, next += most[i - 1])
            slots[i].data = next;
        for (int64_t g = 0; g < p->members; g++)
            for (int64_t b = 0; b < p->images; b += V) {
                VEC *place = next;
                for (int64_t i = 0; i < p->count; i++) {
                    gls_values *values[5];
                    ops[i] = p->ops[i];
                    const int many = NAME(laned_values)(&ops[i], values);
                    for (int k = 0; k < many; k++) {
                        const int64_t size = ops[i].channels * ops[i].height * ops[i].width;
                        NAME(side_by_side)(values[k], g, b, p->images, size, place);
                        *values[k] = (gls_values){place, 0, 0};
                        place += size;
                    }
                    ops[i].laned = 0;
                }
                NAME(pass_laid)(p, ops, g, b, slots);
            }
    }
    free(memory);
    free(ops);
    free(most);
    free(slots);
    return memory ? 0 : 1;
}
