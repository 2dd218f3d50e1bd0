/* Intervals pushed forward for blocks of NV vectors of images; included once for every NV, format and instruction set.

   An output takes a run of products over its taps. OUTS output channels are summed at once, so that every number read is
   used as often, and their weights lie side by side, packed once for a member and block. */

#define OUTS (REGISTERS >= 32 ? 8 : 4)

/* Weights of an operation as [block of OUTS outputs][input channel][tap][output], signed, then absolute. */
static void NAME(pack)(const gls_push *op, int64_t g, REAL *to)
{
    const int64_t each = op->channels / op->groups * op->kernel[0] * op->kernel[1], outs = op->out_channels / op->groups;
    const int64_t blocks = (outs + OUTS - 1) / OUTS, half = op->groups * blocks * OUTS * each;
    const REAL *w = NAME(at)(&op->weight, g, 0, 0);
    for (int64_t group = 0; group < op->groups; group++)
        for (int64_t block = 0; block < blocks; block++, to += OUTS * each)
            for (int64_t k = 0; k < OUTS; k++) {
                const int64_t o = block * OUTS + k;
                const REAL *row = w + (group * outs + o) * each;
                for (int64_t i = 0; i < each; i++) {
                    const REAL value = o < outs ? row[i] : 0;
                    if (op->parts & 1)
                        to[i * OUTS + k] = value;
                    if (op->parts & 2)
                        to[half + i * OUTS + k] = value < 0 ? -value : value;
                }
            }
}

/* The taps of one output that lie on the map: where the numbers they read lie, counted from the output's first tap, and
   their weights. Outputs away from the border share them. */
typedef struct {
    int64_t count, top, bottom, left, right;
    int64_t (*at)[2];
} NAME(tap_list);

INLINE void NAME(inside)(int64_t place, int64_t kernel, int64_t dilation, int64_t end, int64_t *first, int64_t *last)
{
    *first = place < 0 ? (-place + dilation - 1) / dilation : 0;
    *last = place + (kernel - 1) * dilation >= end ? (end - place + dilation - 1) / dilation : kernel;
}

static void NAME(listed)(const gls_push *op, int64_t y, int64_t x, NAME(tap_list) *taps)
{
    const int64_t kw = op->kernel[1], inside = op->channels / op->groups, all = op->kernel[0] * kw;
    int64_t top, bottom, left, right, n = 0;
    NAME(inside)(y, op->kernel[0], op->dilation[0], op->height, &top, &bottom);
    NAME(inside)(x, kw, op->dilation[1], op->width, &left, &right);
    if (taps->count >= 0 && top == taps->top && bottom == taps->bottom && left == taps->left && right == taps->right)
        return;
    for (int64_t c = 0; c < inside; c++)
        for (int64_t i = top; i < bottom; i++)
            for (int64_t j = left; j < right; j++, n++) {
                taps->at[n][0] = ((c * op->height + i * op->dilation[0]) * op->width + j * op->dilation[1]) * NV;
                taps->at[n][1] = (c * all + i * kw + j) * OUTS;
            }
    taps->top = top, taps->bottom = bottom, taps->left = left, taps->right = right, taps->count = n;
}

/* One half (centre or radius) of a convolution for OUTS outputs of one group. */
static void NAME(push_outputs)(const gls_push *op, const VEC *from, const REAL *w, const REAL *bias, int64_t outs, VEC *to,
                               NAME(tap_list) *taps)
{
    const int64_t pixels = op->out_height * op->out_width;
    for (int64_t y = 0; y < op->out_height; y++)
        for (int64_t x = 0; x < op->out_width; x++) {
            const int64_t top = y * op->stride[0] - op->padding[0], left = x * op->stride[1] - op->padding[1];
            const VEC *first = from + (top * op->width + left) * NV;
            VEC sum[OUTS][NV];
            NAME(listed)(op, top, left, taps);
#pragma GCC unroll 8
            for (int k = 0; k < OUTS; k++)
#pragma GCC unroll 2
                for (int v = 0; v < NV; v++)
                    sum[k][v] = (VEC){0} + (bias && k < outs ? bias[k] : 0);
            for (int64_t t = 0; t < taps->count; t++) {
                const VEC *a = first + taps->at[t][0];
                const REAL *p = w + taps->at[t][1];
#pragma GCC unroll 8
                for (int k = 0; k < OUTS; k++)
#pragma GCC unroll 2
                    for (int v = 0; v < NV; v++)
                        sum[k][v] += a[v] * p[k];
            }
            VEC *z = to + (y * op->out_width + x) * NV;
#pragma GCC unroll 8
            for (int k = 0; k < OUTS; k++)
                if (k < outs)
#pragma GCC unroll 2
                    for (int v = 0; v < NV; v++)
                        z[k * pixels * NV + v] = sum[k][v];
        }
}

static void NAME(push_convolution)(const gls_push *op, int64_t g, const VEC *from, const REAL *packed, VEC *to,
                                   int64_t (*at)[2])
{
    NAME(tap_list) taps = {-1, 0, 0, 0, 0, at};
    const int64_t inside = op->channels / op->groups, outs = op->out_channels / op->groups;
    const int64_t each = inside * op->kernel[0] * op->kernel[1], blocks = (outs + OUTS - 1) / OUTS;
    const int64_t in = op->channels * op->height * op->width, pixels = op->out_height * op->out_width;
    const REAL *bias = NAME(at)(&op->bias, g, 0, 0);
    for (int half = 0; half < 2; half++)
        for (int64_t group = 0; group < op->groups; group++)
            for (int64_t block = 0; block < blocks; block++, packed += OUTS * each) {
                const int64_t o = group * outs + block * OUTS, many = outs - block * OUTS < OUTS ? outs - block * OUTS : OUTS;
                if (!(op->parts >> half & 1))
                    continue;
                NAME(push_outputs)(op, from + (half * in + group * inside * op->height * op->width) * NV, packed,
                                   bias && !half ? bias + o : 0, many,
                                   to + (half * op->out_channels + o) * pixels * NV, &taps);
            }
}

/* Operations on numbers one by one. */
static void NAME(push_each)(const gls_push *op, int64_t g, const VEC *from, const VEC *other, VEC *to)
{
    const int64_t size = op->channels * op->height * op->width;
    const REAL *scale = NAME(at)(&op->weight, g, 0, 0), *shift = NAME(at)(&op->bias, g, 0, 0);
    const VEC zero = {0};
    for (int64_t i = 0; i < size; i++)
        for (int v = 0; v < NV; v++) {
            const int64_t j = i * NV + v;
            VEC c = from[j], r = from[size * NV + j];
            if (op->kind == GLS_PUSH_RELU) {
                VEC l = c - r, u = c + r;
                l = (VEC)((IVEC)l & ~(IVEC)(l < zero)); /* not a number stays one */
                u = (VEC)((IVEC)u & ~(IVEC)(u < zero));
                c = l + (u - l) * (REAL)0.5;
                r = u - c;
            } else if (op->kind == GLS_PUSH_ADD) {
                c += other[j];
                r += other[size * NV + j];
            } else if (op->kind == GLS_PUSH_SCALE) {
                c *= scale[i];
                r *= scale[i] < 0 ? -scale[i] : scale[i];
                if (shift)
                    c += shift[i];
            }
            to[j] = c;
            to[size * NV + j] = r;
        }
}

/* What is written for each image, from the first numbers of the value that lanes hold. */
static void NAME(written)(const gls_push *op, int64_t g, int64_t b, int64_t images, const VEC *value, int64_t size)
{
    for (int k = 0; k < 2; k++) {
        const REAL *part = (const REAL *)(value + k * size * NV);
        if (!op->out[k].data)
            continue;
        for (int64_t i = 0; i < size; i += 16) /* a few lines of the cache at a time */
            for (int64_t l = 0; l < NV * V && b + l < images; l++) {
                REAL *to = (REAL *)NAME(at)(&op->out[k], g, b + l, 0);
                for (int64_t j = i; j < size && j < i + 16; j++)
                    to[j] = part[j * NV * V + l];
            }
    }
}

/* The box of some images as lanes; lanes beyond the last image repeat it. */
static void NAME(laid)(const gls_sweep *p, int64_t g, int64_t b, VEC *to)
{
    const gls_values *parts[2] = {&p->centre, &p->radius};
    for (int half = 0; half < 2; half++)
        for (int64_t l = 0; l < NV * V; l++) {
            const REAL *from = NAME(at)(parts[half], g, b + l < p->images ? b + l : p->images - 1, 0);
            REAL *place = (REAL *)(to + half * p->size * NV) + l;
            for (int64_t i = 0; i < p->size; i++)
                place[i * NV * V] = from[i];
        }
}

#if NV == 1

/* The lines of a ReLU for the images of a block, [mean, half, mean_offset, half_offset][number]. */
static void NAME(lines_laid)(const gls_push *op, int64_t g, const VEC *value, VEC *to)
{
    const int64_t size = op->channels * op->height * op->width;
    const REAL *base = NAME(at)(&op->base, g, 0, 0);
    for (int64_t i = 0; i < size; i++) {
        const VEC c = value[i], r = value[size + i];
        VEC constant = {0}, made[4];
        if (op->centred)
            constant = c;
        else if (base)
            constant = base[i] - constant;
        NAME(lines_at)(c - r, c + r, constant, op->centred || base, op->rule, made);
#pragma GCC unroll 4
        for (int k = 0; k < 4; k++)
            to[k * size + i] = made[k];
    }
}

#endif

/* Where everything lies for a block: values, lines, packed weights and lists of taps, one after the other. */
typedef struct {
    VEC *values[64], *lines[64];
    int64_t (*at)[2];
    REAL *packed;
} NAME(layout);

static void NAME(lay_out)(const gls_sweep *p, NAME(layout) *room)
{
    VEC *next = (VEC *)p->room;
    for (int64_t i = 0; i < p->slots; i++, next += 2 * p->sizes[i - 1] * NV)
        room->values[i] = next;
    for (int64_t i = 0; i < p->lines; i++, next += 4 * p->line_sizes[i - 1] * NV)
        room->lines[i] = next;
    room->at = (int64_t(*)[2])next;
    room->packed = (REAL *)(room->at + p->taps);
}

/* All members' values for NV V images from `b` on; then, if there is one, their backward passes. */
static void NAME(push_block)(const gls_sweep *p, int64_t b, const NAME(layout) *room, const gls_op *ops, NAME(slot) *slots)
{
    VEC *const *values = room->values;
    for (int64_t g = 0; g < p->members; g++) {
        if (!g || !p->shared)
            NAME(laid)(p, g, b, values[0]);
        for (int64_t i = 0; i < p->count; i++) {
            const gls_push *op = &p->ops[i];
            const int64_t out = op->out_channels * op->out_height * op->out_width;
#if NV == 1
            if (op->lines >= 0)
                NAME(lines_laid)(op, g, values[op->from], room->lines[op->lines]);
#endif
            if (op->kind == GLS_PUSH_CONV) {
                NAME(pack)(op, g, room->packed);
                NAME(push_convolution)(op, g, values[op->from], room->packed, values[op->to], room->at);
            } else if (op->kind != GLS_PUSH_COPY) {
                NAME(push_each)(op, g, values[op->from], values[op->other], values[op->to]);
            }
            NAME(written)(op, g, b, p->images, values[op->to], out);
        }
#if NV == 1
        if (p->pass)
            NAME(pass_laid)(p->pass, ops, g, b, slots);
#else
        (void)ops, (void)slots;
#endif
    }
}

#if NV == 1

/* All images with a backward pass behind them, a vector of them at a time; 0, or 1 if there is no memory. */
static int NAME(push_pass)(const gls_sweep *p)
{
    const gls_pass *pass = p->pass;
    NAME(layout) room;
    NAME(lane_room) lanes = NAME(lanes_opened)(pass, 0);
    if (lanes.memory) {
        NAME(lay_out)(p, &room);
        for (int64_t i = 0; i < pass->count; i++) {
            gls_op *op = &lanes.ops[i];
            op->size = (gls_values){room.values[0] + p->size, 0, 0}; /* at the box, its radius */
            if (op->relu) {
                const VEC *lines = room.lines[op->laned];
                const int64_t size = p->line_sizes[op->laned];
                op->mean = (gls_values){lines, 0, 0}, op->half = (gls_values){lines + size, 0, 0};
                op->mean_offset = (gls_values){lines + 2 * size, 0, 0};
                op->half_offset = (gls_values){lines + 3 * size, 0, 0};
            }
        }
        for (int64_t b = 0; b < p->images; b += V)
            NAME(push_block)(p, b, &room, lanes.ops, lanes.slots);
    }
    return NAME(lanes_closed)(&lanes);
}

#endif

static void NAME(push_plain)(const gls_sweep *p, int64_t b)
{
    NAME(layout) room;
    NAME(lay_out)(p, &room);
    NAME(push_block)(p, b, &room, 0, 0);
}

#undef OUTS
