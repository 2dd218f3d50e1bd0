/* The backward pass for blocks of NV vectors of lanes; included once for every NV, number format and instruction set.

   NAME(x) makes names apart; REAL, VEC, IVEC (integers of REAL's size), SIGNLESS (all bits but the sign), V (lanes of a
   vector) and REGISTERS are set. Sums are of products in any order, with fused multiply-adds where the processor has
   them: what the guards of certified bounds allow for. */

#define LV (REGISTERS >= 32 ? NV : 1)    /* vectors of a block that a convolution treats at once */
#define MOST (REGISTERS >= 32 ? 24 : 12) /* accumulators that fit the registers */
#define STRIP 256                        /* vectors of a convolution's rows that are kept for the tail */
#define SUMS 4                           /* partial sums of a bound, so that additions do not wait for each other */

typedef struct {
    VEC *data;
    int64_t top, left, height, width; /* the rectangle, on its map */
} NAME(slot);

typedef struct {
    const REAL *mean, *half, *mean_offset, *half_offset, *multiplier, *size;
} NAME(lines);

INLINE VEC NAME(abs)(VEC a)
{
    return (VEC)((IVEC)a & SIGNLESS);
}

INLINE const REAL *NAME(at)(const gls_values *v, int64_t g, int64_t b, int64_t i)
{
    return v->data ? (const REAL *)v->data + g * v->member + b * v->image + i : 0;
}

/* -- through a ReLU, and the growth of the bound ------------------------------------------------------------------ */

/* A number of the lines: the same for all lanes, or, if they are `laned`, each lane's own. */
INLINE VEC NAME(line)(const REAL *of, int64_t x, int v, const int laned)
{
    if (laned)
        return ((const VEC *)of)[x * NV + v];
    return of[x] - (VEC){0};
}

#define LINE(of) NAME(line)(of, x, v, laned)

INLINE void NAME(tail_one)(const VEC *from, VEC *to, const NAME(lines) *p, int64_t x, VEC *one, VEC *other, const int relu,
                           const int added, const int weigh, const int store, const int laned)
{
    for (int v = 0; v < NV; v++) {
        VEC a = from[x * NV + v], size = NAME(abs)(a);
        if (relu) {
            one[v] += a * LINE(p->mean_offset);
            other[v] += size * LINE(p->half_offset);
            a = a * LINE(p->mean) + size * LINE(p->half);
            if (added)
                a += LINE(p->multiplier);
            if (weigh)
                one[v] += NAME(abs)(a) * LINE(p->size);
        } else if (weigh) {
            one[v] += size * LINE(p->size);
        }
        if (store)
            to[x * NV + v] = a;
    }
}

/* A box of channels, rows and pixels: how many of each, and how far apart they lie in what is read (pixels side by side),
   in what is written, and on the map. */
typedef struct {
    int64_t channels, rows, pixels;
    int64_t from_channel, from_row, to_channel, to_row, map_channel, map_row;
} NAME(box);

INLINE void NAME(tail_of)(const VEC *from, VEC *to, const NAME(box) *k, const NAME(lines) *lines, VEC *sums,
                          const int relu, const int added, const int weigh, const int store, const int laned)
{
    const int64_t each = laned ? NV * V : 1;
    VEC s[SUMS][NV];
    const int64_t n = k->pixels;
    memcpy(s, sums, sizeof s);
    for (int64_t c = 0; c < k->channels; c++)
        for (int64_t y = 0; y < k->rows; y++) {
            const VEC *a = from + c * k->from_channel + y * k->from_row;
            VEC *z = to + c * k->to_channel + y * k->to_row;
            const int64_t i = (c * k->map_channel + y * k->map_row) * each;
            NAME(lines) p;
            if (relu)
                p.mean = lines->mean + i, p.half = lines->half + i, p.mean_offset = lines->mean_offset + i,
                p.half_offset = lines->half_offset + i;
            if (added)
                p.multiplier = lines->multiplier + i;
            if (weigh)
                p.size = lines->size + i;
            int64_t x = 0;
            for (; x + 4 <= n; x += 4) {
                NAME(tail_one)(a, z, &p, x, s[0], s[2], relu, added, weigh, store, laned);
                NAME(tail_one)(a, z, &p, x + 1, s[1], s[3], relu, added, weigh, store, laned);
                NAME(tail_one)(a, z, &p, x + 2, s[2], s[0], relu, added, weigh, store, laned);
                NAME(tail_one)(a, z, &p, x + 3, s[3], s[1], relu, added, weigh, store, laned);
            }
            for (; x < n; x++)
                NAME(tail_one)(a, z, &p, x, s[0], s[2], relu, added, weigh, store, laned);
        }
    memcpy(sums, s, sizeof s);
}

/* The tail of an operation for a box whose first pixel is number i of the map. */
static void NAME(tail)(const gls_op *op, int64_t g, int64_t b, int64_t i, const VEC *from, VEC *to,
                       const NAME(box) *k, VEC *sums)
{
    const int laned = op->laned >= 0;
    if (laned)
        i *= NV * V;
    NAME(lines) p = {NAME(at)(&op->mean, g, b, i),        NAME(at)(&op->half, g, b, i),
                     NAME(at)(&op->mean_offset, g, b, i), NAME(at)(&op->half_offset, g, b, i),
                     NAME(at)(&op->multiplier, g, b, i),  NAME(at)(&op->size, g, b, i)};
    if (laned && op->relu)
        op->weigh ? NAME(tail_of)(from, to, k, &p, sums, 1, 0, 1, 1, 1) : NAME(tail_of)(from, to, k, &p, sums, 1, 0, 0, 1, 1);
    else if (laned)
        op->store ? NAME(tail_of)(from, to, k, &p, sums, 0, 0, 1, 1, 1) : NAME(tail_of)(from, to, k, &p, sums, 0, 0, 1, 0, 1);
    else if (op->relu && p.multiplier)
        op->weigh ? NAME(tail_of)(from, to, k, &p, sums, 1, 1, 1, 1, 0) : NAME(tail_of)(from, to, k, &p, sums, 1, 1, 0, 1, 0);
    else if (op->relu)
        op->weigh ? NAME(tail_of)(from, to, k, &p, sums, 1, 0, 1, 1, 0) : NAME(tail_of)(from, to, k, &p, sums, 1, 0, 0, 1, 0);
    else if (op->weigh)
        op->store ? NAME(tail_of)(from, to, k, &p, sums, 0, 0, 1, 1, 0) : NAME(tail_of)(from, to, k, &p, sums, 0, 0, 1, 0, 0);
    else
        NAME(tail_of)(from, to, k, &p, sums, 0, 0, 0, 1, 0);
}

INLINE int NAME(has_tail)(const gls_op *op)
{
    return op->relu || op->weigh;
}

/* -- rows of a transposed convolution ----------------------------------------------------------------------------- */

/* Which rows of the coefficients, with which rows of the kernel, reach a row of the input: the first ones (counted in
   vectors and numbers), and steps to the next. */
typedef struct {
    int64_t count, from, from_step, kernel, kernel_step;
} NAME(taps);

typedef struct {
    const VEC *from;      /* the first channel's coefficients */
    const REAL *weight;   /* the kernel that the first output and this input channel share */
    int64_t from_channel; /* vectors between channels of the coefficients */
    int64_t weight_out;   /* numbers between kernels of outputs */
    int64_t outs;
    VEC *to;              /* the row written to, with room for pixels beyond its ends */
    const NAME(taps) *taps;
} NAME(row);

/* XB coefficients side by side meet KW weights each: sums of (XB - 1) S + KW pixels, the first one at `first`. */
INLINE void NAME(segment)(const NAME(row) *r, int64_t x, int64_t first, const int KW, const int S, const int XB)
{
    const int span = (XB - 1) * S + KW;
    for (int v = 0; v < NV; v += LV) {
        VEC sum[24 / LV + 1][LV];
#pragma GCC unroll 24
        for (int j = 0; j < span; j++)
#pragma GCC unroll 2
            for (int u = 0; u < LV; u++)
                sum[j][u] = r->to[(first + j) * NV + v + u];
        for (int64_t t = 0; t < r->taps->count; t++) {
            const VEC *a = r->from + r->taps->from + t * r->taps->from_step + x * NV + v;
            const REAL *w = r->weight + r->taps->kernel + t * r->taps->kernel_step;
            for (int64_t o = 0; o < r->outs; o++) {
#pragma GCC unroll 8
                for (int i = 0; i < XB; i++)
#pragma GCC unroll 8
                    for (int k = 0; k < KW; k++)
#pragma GCC unroll 2
                        for (int u = 0; u < LV; u++)
                            sum[i * S + k][u] += a[i * NV + u] * w[k];
                a += r->from_channel;
                w += r->weight_out;
            }
        }
#pragma GCC unroll 24
        for (int j = 0; j < span; j++)
#pragma GCC unroll 2
            for (int u = 0; u < LV; u++)
                r->to[(first + j) * NV + v + u] = sum[j][u];
    }
}

#ifdef FAST

#define FITTING(KW, S) ((MOST / LV - (KW)) / (S) + 1)

#define CASE(XB, KW, S)                                                                                                \
    if (step == XB && FITTING(KW, S) >= XB) {                                                                          \
        NAME(segment)(r, x, first + x * (S), KW, S, FITTING(KW, S) >= XB ? XB : 1);                                    \
        continue;                                                                                                      \
    }

/* `first`: where the first coefficient's first weight lands in the row written to. */
#define ROWS_OF(KW, S)                                                                                                 \
    static void NAME(rows_##KW##_##S)(const NAME(row) *r, int64_t n, int64_t first)                                    \
    {                                                                                                                  \
        const int64_t most = FITTING(KW, S) > 8 ? 8 : FITTING(KW, S) < 1 ? 1 : FITTING(KW, S);                         \
        for (int64_t x = 0, step; x < n; x += step) {                                                                  \
            const int64_t left = (n - x + most - 1) / most, even = left == 1 ? n - x : (n - x + left - 1) / left;      \
            step = even == 7 ? 4 : even == 5 ? 3 : even;                                                               \
            CASE(8, KW, S) CASE(6, KW, S) CASE(4, KW, S) CASE(3, KW, S) CASE(2, KW, S)                                 \
            NAME(segment)(r, x, first + x * (S), KW, S, 1);                                                            \
        }                                                                                                              \
    }

ROWS_OF(1, 1)
ROWS_OF(2, 1)
ROWS_OF(2, 2)
ROWS_OF(3, 1)
ROWS_OF(3, 2)
ROWS_OF(4, 2)
ROWS_OF(5, 1)
ROWS_OF(5, 2)

#endif

/* Any kernel, stride and dilation, a weight at a time. */
static void NAME(rows_any)(const NAME(row) *r, int64_t n, int64_t first, const gls_op *op)
{
    for (int64_t t = 0; t < r->taps->count; t++)
        for (int64_t o = 0; o < r->outs; o++)
            for (int64_t k = 0; k < op->kernel[1]; k++) {
                const VEC *a = r->from + r->taps->from + t * r->taps->from_step + o * r->from_channel;
                const REAL w = r->weight[r->taps->kernel + t * r->taps->kernel_step + o * r->weight_out + k];
                for (int64_t x = 0; x < n; x++) {
                    VEC *to = r->to + (first + x * op->stride[1] + k * op->dilation[1]) * NV;
                    for (int v = 0; v < NV; v++)
                        to[v] += a[x * NV + v] * w;
                }
            }
}

static void NAME(one_row)(const NAME(row) *r, int64_t n, int64_t first, const gls_op *op)
{
#ifdef FAST
    const int64_t k = op->kernel[1], s = op->stride[1], plain = op->dilation[1] == 1 || k == 1;
#define TRY(KW, S)                                                                                                     \
    if (plain && k == KW && s == S) {                                                                                  \
        NAME(rows_##KW##_##S)(r, n, first);                                                                            \
        return;                                                                                                        \
    }
    TRY(1, 1) TRY(2, 1) TRY(2, 2) TRY(3, 1) TRY(3, 2) TRY(4, 2) TRY(5, 1) TRY(5, 2)
#undef TRY
#endif
    NAME(rows_any)(r, n, first, op);
}

static void NAME(taps_of)(NAME(taps) *taps, const gls_op *op, const NAME(slot) *from, int64_t y)
{
    const int64_t s = op->stride[0], d = op->dilation[0], height = op->kernel[0];
    int64_t row = 0, reach = y + op->padding[0] - from->top * s; /* of the first row, in pixels from the kernel's start */
    taps->count = 0;
    while (row < from->height && (reach > (height - 1) * d || (d > 1 && reach % d)))
        row++, reach -= s;
    int64_t step = 1, fall = s; /* rows until a tap meets again, and how much the tap falls */
    if (d > 1) {
        while (step * s % d)
            step++;
        fall = step * s / d, reach = reach < 0 ? -1 : reach / d;
    }
    taps->from = row * from->width * NV, taps->from_step = step * from->width * NV;
    taps->kernel = reach * op->kernel[1], taps->kernel_step = -fall * op->kernel[1];
    for (; row < from->height && reach >= 0; row += step, reach -= fall)
        taps->count++;
}

static void NAME(convolution)(const gls_op *op, int64_t g, int64_t b, const NAME(slot) *from, const NAME(slot) *to,
                              VEC *scratch, VEC *sums, int tailed)
{
    const int64_t inside = op->channels / op->groups, outs = op->out_channels / op->groups;
    const int64_t kernel = op->kernel[0] * op->kernel[1], plane = from->height * from->width * NV;
    const int64_t first = from->left * op->stride[1] - op->padding[1] - to->left;
    const REAL *weight = NAME(at)(&op->weight, g, b, 0);
    NAME(taps) taps;
    const int64_t last = first + (from->width - 1) * op->stride[1] + (op->kernel[1] - 1) * op->dilation[1] + 1;
    const int64_t low = first < 0 ? first : 0, high = last > to->width ? last : to->width;
    if (to->width < 1 || to->height < 1) /* a window that sees nothing but padding */
        return;
    const int64_t width = high - low, many = STRIP / (width * NV) + 1;
    NAME(row) row = {0, 0, plane, inside * kernel, outs, 0, &taps};
    NAME(box) box = {1, 0, to->width, 0, width * NV, 0, to->width * NV, 0, op->width};
    for (int64_t y = 0; y < to->height; y += box.rows) {
        box.rows = to->height - y < many ? to->height - y : many;
        for (int64_t c = 0; c < op->channels; c++) {
            const int64_t group = c / inside, i = (c * op->height + to->top + y) * op->width + to->left;
            VEC *place = to->data + (c * to->height + y) * to->width * NV;
            row.from = from->data + group * outs * plane;
            row.weight = weight + (group * outs * inside + c % inside) * kernel;
            row.to = scratch - low * NV; /* pixels beyond the ends are padding: computed, and left out */
            memset(scratch, 0, box.rows * width * NV * sizeof(VEC));
            for (int64_t k = 0; k < box.rows; k++, row.to += width * NV) {
                if (op->add)
                    memcpy(row.to, place + k * to->width * NV, to->width * NV * sizeof(VEC));
                NAME(taps_of)(&taps, op, from, to->top + y + k);
                NAME(one_row)(&row, from->width, first, op);
            }
            if (tailed)
                NAME(tail)(op, g, b, i, scratch - low * NV, place, &box, sums);
            else
                NAME(tail_of)(scratch - low * NV, place, &box, 0, sums, 0, 0, 0, 1, 0);
        }
    }
}

/* -- a transposed linear map -------------------------------------------------------------------------------------- */

INLINE void NAME(products)(const VEC *a, const REAL *w, int64_t outs, int64_t stride, VEC *to, int add, const int count)
{
    for (int v = 0; v < NV; v += LV) {
        VEC sum[16][LV];
#pragma GCC unroll 16
        for (int i = 0; i < count; i++)
#pragma GCC unroll 2
            for (int u = 0; u < LV; u++)
            {
                sum[i][u] = (VEC){0};
                if (add)
                    sum[i][u] = to[i * NV + v + u];
            }
        for (int64_t o = 0; o < outs; o++) {
#pragma GCC unroll 16
            for (int i = 0; i < count; i++)
#pragma GCC unroll 2
                for (int u = 0; u < LV; u++)
                    sum[i][u] += a[o * NV + v + u] * w[o * stride + i];
        }
#pragma GCC unroll 16
        for (int i = 0; i < count; i++)
#pragma GCC unroll 2
            for (int u = 0; u < LV; u++)
                to[i * NV + v + u] = sum[i][u];
    }
}

#define MANY (REGISTERS < 32 || LV == 2 ? 8 : 16)
#define PIECE 64

static void NAME(linear)(const gls_op *op, int64_t g, int64_t b, const NAME(slot) *from, const NAME(slot) *to,
                         VEC *sums, int tailed)
{
    const int64_t size = op->channels * op->height * op->width, outs = op->out_channels * op->out_height * op->out_width;
    const REAL *w = NAME(at)(&op->weight, g, b, 0);
    for (int64_t i = 0, n; i < size; i += n) {
        n = size - i < PIECE ? size - i : PIECE; /* so that the tail finds them in the cache */
        for (int64_t j = i, step; j < i + n; j += step) {
            VEC *place = to->data + j * NV;
            step = i + n - j >= MANY ? MANY : 1;
            if (step == MANY)
                NAME(products)(from->data, w + j, outs, size, place, op->add, MANY);
            else
                NAME(products)(from->data, w + j, outs, size, place, op->add, 1);
        }
        NAME(box) box = {1, 1, n, 0, 0, 0, 0, 0, 0};
        if (tailed)
            NAME(tail)(op, g, b, i, to->data + i * NV, to->data + i * NV, &box, sums);
    }
}

/* -- elementwise operations --------------------------------------------------------------------------------------- */

INLINE void NAME(scaled)(const VEC *from, VEC *to, int64_t n, const REAL *scale, int add)
{
    for (int64_t x = 0; x < n; x++)
        for (int v = 0; v < NV; v++) {
            VEC a = from[x * NV + v];
            if (scale)
                a = a * scale[x];
            if (add)
                a = a + to[x * NV + v];
            to[x * NV + v] = a;
        }
}

/* A scaling, a sum of nodes read backwards, or a ReLU by itself, on the part that both slots have. */
static void NAME(elementwise)(const gls_op *op, int64_t g, int64_t b, const NAME(slot) *from, const NAME(slot) *to,
                              VEC *scratch, VEC *sums)
{
    const int same = from->height == to->height && from->width == to->width;
    const int64_t down = from->top - to->top, along = from->left - to->left, plane = op->height * op->width;
    const int64_t first = from->top * op->width + from->left;
    VEC *place = to->data + (down * to->width + along) * NV;
    if (op->kind == GLS_STEP && !op->add) {
        NAME(box) box = {op->channels, from->height, from->width,
                         from->height * from->width * NV, from->width * NV,
                         to->height * to->width * NV, to->width * NV, plane, op->width};
        if (!same)
            memset(to->data, 0, op->channels * to->height * to->width * NV * sizeof(VEC));
        NAME(tail)(op, g, b, first, from->data, place, &box, sums);
        return;
    }
    if (!op->add && !same)
        memset(to->data, 0, op->channels * to->height * to->width * NV * sizeof(VEC));
    for (int64_t c = 0; c < op->channels; c++)
        for (int64_t y = 0; y < from->height; y++) {
            const int64_t i = c * plane + first + y * op->width;
            const VEC *a = from->data + (c * from->height + y) * from->width * NV;
            VEC *z = place + (c * to->height + y) * to->width * NV;
            NAME(box) box = {1, 1, from->width, 0, 0, 0, 0, 0, 0};
            if (op->kind == GLS_STEP) {
                NAME(tail)(op, g, b, i, a, scratch, &box, sums);
                NAME(scaled)(scratch, z, from->width, 0, 1);
            } else {
                NAME(scaled)(a, z, from->width, NAME(at)(&op->weight, g, b, i), op->add);
            }
        }
}

/* -- passes ------------------------------------------------------------------------------------------------------- */

/* The rectangle that an operation writes, joined with what others wrote; `whole`: not cut off at the map's border. */
static void NAME(reach)(const gls_op *op, const NAME(slot) *from, NAME(slot) *to, int whole)
{
    int64_t low[2] = {from->top, from->left}, high[2] = {from->top + from->height, from->left + from->width};
    const int64_t end[2] = {op->height, op->width};
    if (op->kind == GLS_LINEAR || op->kind == GLS_FILL) {
        low[0] = low[1] = 0;
        high[0] = end[0], high[1] = end[1];
    }
    for (int i = 0; op->kind == GLS_CONV && i < 2; i++) {
        low[i] = low[i] * op->stride[i] - op->padding[i];
        high[i] = (high[i] - 1) * op->stride[i] - op->padding[i] + (op->kernel[i] - 1) * op->dilation[i] + 1;
        if (!whole) {
            low[i] = low[i] < 0 ? 0 : low[i] > end[i] ? end[i] : low[i];
            high[i] = high[i] > end[i] ? end[i] : high[i] < low[i] ? low[i] : high[i];
        }
    }
    if (op->add) {
        low[0] = to->top < low[0] ? to->top : low[0];
        low[1] = to->left < low[1] ? to->left : low[1];
        high[0] = to->top + to->height > high[0] ? to->top + to->height : high[0];
        high[1] = to->left + to->width > high[1] ? to->left + to->width : high[1];
    }
    to->top = low[0], to->left = low[1];
    to->height = high[0] - low[0], to->width = high[1] - low[1];
}

/* The rectangles of all slots for the start at (row, column), or the whole start where there is one position only. */
static void NAME(place)(const gls_pass *p, NAME(slot) *slots, int64_t row, int64_t column)
{
    slots[0].top = row;
    slots[0].left = column;
    slots[0].height = p->pixel ? 1 : p->height;
    slots[0].width = p->pixel ? 1 : p->width;
    for (int64_t i = 0; i < p->count; i++)
        NAME(reach)(&p->ops[i], &slots[p->ops[i].from], &slots[p->ops[i].to], 0);
}

static void NAME(operate)(const gls_op *op, int64_t g, int64_t b, NAME(slot) *slots, VEC *scratch, VEC *sums)
{
    const NAME(slot) *from = &slots[op->from], *to = &slots[op->to];
    if (op->kind == GLS_CONV)
        NAME(convolution)(op, g, b, from, to, scratch, sums, NAME(has_tail)(op));
    else if (op->kind == GLS_LINEAR)
        NAME(linear)(op, g, b, from, to, sums, NAME(has_tail)(op));
    else
        NAME(elementwise)(op, g, b, from, to, scratch, sums);
}

/* The first lanes of a block: unit vectors or given functions, and their negatives. */
static void NAME(begin)(const gls_pass *p, int64_t g, int64_t b, int64_t lane, VEC *data)
{
    const int64_t size = p->pixel ? p->channels : p->channels * p->height * p->width;
    const REAL *rows = NAME(at)(&p->start, g, b, 0);
    memset(data, 0, size * NV * sizeof(VEC));
    for (int64_t l = 0; l < NV * V && lane + l < p->units * (1 + p->mirrored); l++) {
        const int64_t unit = (lane + l) % p->units;
        const REAL sign = lane + l < p->units ? 1 : -1;
        REAL *place = (REAL *)data + l;
        if (!rows)
            place[unit * NV * V] = sign;
        for (int64_t i = 0; rows && i < size; i++)
            place[i * NV * V] = sign * rows[unit * size + i];
    }
}

/* What the first operation gave once for a position at (0, 0), as another position sees it. */
static void NAME(again)(const gls_op *op, int64_t g, int64_t b, const NAME(slot) *once, const NAME(slot) *to,
                        VEC *sums)
{
    NAME(box) box = {op->channels, to->height, to->width,
                     once->height * once->width * NV, once->width * NV,
                     to->height * to->width * NV, to->width * NV, op->height * op->width, op->width};
    const VEC *a = once->data + ((to->top - once->top) * once->width + to->left - once->left) * NV;
    NAME(tail)(op, g, b, to->top * op->width + to->left, a, to->data, &box, sums);
}

static void NAME(finish)(const gls_pass *p, int64_t g, int64_t b, int64_t position, int64_t lane, const VEC *sums)
{
    VEC total[NV];
    for (int v = 0; v < NV; v++)
        total[v] = (sums[v] + sums[NV + v]) + (sums[2 * NV + v] + sums[3 * NV + v]);
    REAL *out = (REAL *)p->out + g * p->out_member + b * p->out_image + position * p->out_position;
    for (int64_t l = 0; l < NV * V && lane + l < p->units * (1 + p->mirrored); l++)
        out[(lane + l) % p->units * p->out_unit + (lane + l) / p->units * p->out_sign] = ((const REAL *)total)[l];
}

/* The longest row that an operation works on: its own, and pixels beyond the ends of the map. */
INLINE int64_t NAME(longest)(const gls_op *op, const NAME(slot) *from, const NAME(slot) *to)
{
    const int64_t reach = from->width * op->stride[1] + op->kernel[1] * op->dilation[1] + op->padding[1];
    return op->kind == GLS_CONV ? 2 * (reach + to->width) : from->width + to->width;
}

/* How many vectors every slot needs, with the longest row as the last one; the sum of all. */
static int64_t NAME(sizes)(const gls_pass *p, NAME(slot) *slots, int64_t *most)
{
    const gls_op *first = p->ops;
    int64_t total = 0;
    memset(most, 0, (p->slots + 2) * sizeof(int64_t));
    most[0] = p->pixel ? p->channels : p->channels * p->height * p->width;
    for (int64_t r = 0; r < p->rows; r++)
        for (int64_t c = 0; c < p->columns; c++) {
            NAME(place)(p, slots, r, c);
            for (int64_t i = 0; i < p->count; i++) {
                const NAME(slot) *to = &slots[p->ops[i].to], *from = &slots[p->ops[i].from];
                const int64_t size = p->ops[i].channels * to->height * to->width;
                const int64_t width = NAME(longest)(&p->ops[i], from, to);
                most[p->ops[i].to] = size > most[p->ops[i].to] ? size : most[p->ops[i].to];
                most[p->slots] = width > most[p->slots] ? width : most[p->slots];
            }
        }
    if (p->hoisted) {
        NAME(slot) once = {0, 0, 0, 0, 0}, unit = {0, 0, 0, 1, 1};
        NAME(reach)(first, p->pixel ? &unit : &slots[0], &once, 1);
        most[p->slots + 1] = first->channels * once.height * once.width;
        if (NAME(longest)(first, &unit, &once) > most[p->slots])
            most[p->slots] = NAME(longest)(first, &unit, &once);
    }
    most[p->slots] += STRIP / NV + most[p->slots];
    for (int64_t i = 0; i < p->slots + 2; i++)
        total += most[i] * NV;
    return total;
}

/* Whether part number `turn` of the work belongs to the share that this pass does. */
INLINE int NAME(ours)(const gls_pass *p, int64_t turn)
{
    return turn % p->shares == p->share;
}

/* The same of a row of positions; the image's functions are begun with the first row that does. */
INLINE int NAME(row_ours)(const gls_pass *p, int64_t g, int64_t b, int64_t row, int64_t lane, int64_t turn, int *begun,
                          VEC *data)
{
    if (!NAME(ours)(p, turn + b * p->rows + row))
        return 0;
    if (!*begun)
        NAME(begin)(p, g, b, lane, data);
    *begun = 1;
    return 1;
}

/* Images and positions for NV V lanes of a member from `lane` on; 0, or 1 if there is no memory. Blocks, their images and
   rows of positions take turns, so that shares are equal where there are many of any of these. */
static int NAME(block)(const gls_pass *p, int64_t g, int64_t lane, int64_t turn)
{
    if (p->images * p->rows == 1 && !NAME(ours)(p, turn))
        return 0;
    NAME(slot) *slots = calloc(p->slots + 2, sizeof *slots);
    int64_t *most = calloc(p->slots + 2, sizeof *most);
    void *memory = 0;
    if (slots && most)
        memory = malloc(NAME(sizes)(p, slots, most) * sizeof(VEC) + 64);
    if (memory) {
        VEC *next = (VEC *)(((uintptr_t)memory + 63) / 64 * 64), sums[SUMS * NV];
        for (int64_t i = 0; i < p->slots + 2; i++) {
            slots[i].data = next;
            next += most[i] * NV;
        }
        NAME(slot) *once = &slots[p->slots + 1];
        VEC *scratch = slots[p->slots].data;
        NAME(place)(p, slots, 0, 0);
        if (!p->start.data)
            NAME(begin)(p, g, 0, lane, slots[0].data);
        if (p->hoisted) {
            NAME(reach)(p->ops, &slots[0], once, 1);
            if (p->ops->kind == GLS_CONV)
                NAME(convolution)(p->ops, g, 0, &slots[0], once, scratch, sums, 0);
            else
                NAME(linear)(p->ops, g, 0, &slots[0], once, sums, 0);
        }
        const int64_t top = once->top, left = once->left;
        for (int64_t b = 0; b < p->images; b++) {
            int begun = !p->start.data;
            for (int64_t r = 0; r < p->rows; r++) {
                if (!NAME(row_ours)(p, g, b, r, lane, turn, &begun, slots[0].data))
                    continue;
                for (int64_t c = 0; c < p->columns; c++) {
                    memset(sums, 0, sizeof sums);
                    NAME(place)(p, slots, r, c);
                    for (int64_t i = 0; i < p->count; i++) {
                        if (i || !p->hoisted) {
                            NAME(operate)(&p->ops[i], g, b, slots, scratch, sums);
                        } else {
                            once->top = top + r * p->ops->stride[0] * (p->ops->kind == GLS_CONV);
                            once->left = left + c * p->ops->stride[1] * (p->ops->kind == GLS_CONV);
                            NAME(again)(p->ops, g, b, once, &slots[p->ops->to], sums);
                        }
                    }
                    NAME(finish)(p, g, b, r * p->columns + c, lane, sums);
                }
            }
        }
    }
    free(memory);
    free(most);
    free(slots);
    return memory ? 0 : 1;
}

#undef LV
#undef MOST
#undef MANY
#undef PIECE
#undef STRIP
#undef FITTING
#undef CASE
#undef ROWS_OF
#undef LINE
