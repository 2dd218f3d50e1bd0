/* Derivatives of the bounds of a pass: coefficients are computed again, kept, and walked through in reverse.

   Included after chain.inc.h, under the same names. Every operation is by itself here: steps through ReLUs are not part
   of layers. */

/* 0, 1, 2, ...: orders of lanes are computed from it, so that compilers see constants. */
INLINE IVEC NAME(count)(void)
{
    static const INTEGER numbers[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    IVEC all;
    memcpy(&all, numbers, sizeof all);
    return all;
}

INLINE REAL NAME(total)(VEC a)
{
    REAL sum = 0;
#if defined(__clang__)
    for (int i = 0; i < V; i++)
        sum += a[i];
#else
#pragma GCC unroll 4
    for (int half = V / 2; half; half /= 2)
        a += __builtin_shuffle(a, NAME(count)() ^ half);
    sum = a[0];
#endif
    return sum;
}

/* The totals of four vectors at once: halves and quarters of several are added side by side. */
INLINE void NAME(totals)(const VEC *s, REAL *out)
{
#if !defined(__clang__)
    if (V >= 4) {
        const int h = V / 2, q = V >= 4 ? V / 4 : 1;
        const IVEC i = NAME(count)(), low = i + (i & h), first = (i & (q - 1)) + (i & h) * 2 + (i & q) * 2;
        const VEC u = __builtin_shuffle(s[0], s[1], low) + __builtin_shuffle(s[0], s[1], low + h);
        const VEC w = __builtin_shuffle(s[2], s[3], low) + __builtin_shuffle(s[2], s[3], low + h);
        VEC r = __builtin_shuffle(u, w, first) + __builtin_shuffle(u, w, first + q);
#pragma GCC unroll 2
        for (int half = q / 2; half; half /= 2)
            r += __builtin_shuffle(r, i ^ half);
#pragma GCC unroll 4
        for (int k = 0; k < 4; k++)
            out[k] = r[k * q];
        return;
    }
#endif
    for (int k = 0; k < 4; k++)
        out[k] = NAME(total)(s[k]);
}

INLINE VEC NAME(product)(const VEC *a, const VEC *b)
{
    VEC sum = a[0] * b[0];
#pragma GCC unroll 2
    for (int v = 1; v < NV; v++)
        sum += a[v] * b[v];
    return sum;
}

/* t where a is positive, -t where it is negative */
INLINE VEC NAME(signed)(VEC a, VEC t)
{
    return (VEC)((IVEC)t & (IVEC)(a > (VEC){0})) - (VEC)((IVEC)t & (IVEC)(a < (VEC){0}));
}

INLINE REAL *NAME(into)(void *data, int64_t offset)
{
    return data ? (REAL *)data + offset : 0;
}

/* The growth of the bound by |A| size. */
static void NAME(weighed)(const gls_op *op, int64_t g, int64_t b, const NAME(slot) *to, VEC *d, const VEC *dv)
{
    for (int64_t c = 0; c < op->channels; c++)
        for (int64_t y = 0; y < to->height; y++) {
            const REAL *size = NAME(at)(&op->size, g, b, (c * op->height + to->top + y) * op->width + to->left);
            const int64_t row = (c * to->height + y) * to->width;
            for (int64_t x = 0; x < to->width; x++)
                for (int v = 0; v < NV; v++)
                    d[(row + x) * NV + v] += NAME(signed)(to->data[(row + x) * NV + v], dv[v] * size[x]);
        }
}

/* Scalings, sums, and ReLUs, whose lines get derivatives. */
static void NAME(elementwise_back)(const gls_op *op, const gls_slopes *to_lines, int64_t g, int64_t b,
                                   const NAME(slot) *from, VEC *df, const NAME(slot) *to, const VEC *dt, const VEC *dv)
{
    for (int64_t c = 0; c < op->channels; c++)
        for (int64_t y = 0; y < from->height; y++) {
            const int64_t i = (c * op->height + from->top + y) * op->width + from->left;
            const VEC *a = from->data + (c * from->height + y) * from->width * NV;
            VEC *e = df + (c * from->height + y) * from->width * NV;
            const VEC *d = dt + ((c * to->height + from->top + y - to->top) * to->width + from->left - to->left) * NV;
            const REAL *scale = op->kind == GLS_SCALE ? NAME(at)(&op->weight, g, b, i) : 0;
            if (!op->relu) {
                for (int64_t x = 0; x < from->width; x++)
                    for (int v = 0; v < NV; v++) {
                        VEC t = d[x * NV + v];
                        if (scale)
                            t = t * scale[x];
                        e[x * NV + v] += t;
                    }
                continue;
            }
            const REAL *mean = NAME(at)(&op->mean, g, b, i), *half = NAME(at)(&op->half, g, b, i);
            const REAL *gm = NAME(at)(&op->mean_offset, g, b, i), *gh = NAME(at)(&op->half_offset, g, b, i);
            REAL *out[4];
#pragma GCC unroll 4
            for (int k = 0; k < 4; k++)
                out[k] = NAME(into)(to_lines->lines[k], g * to_lines->member[k] + b * to_lines->image[k] + i);
            for (int64_t x = 0; x < from->width; x++) {
                VEC sums[4] = {{0}};
#pragma GCC unroll 2
                for (int v = 0; v < NV; v++) {
                    const VEC one = a[x * NV + v], size = NAME(abs)(one), t = d[x * NV + v];
                    sums[0] += one * t;
                    sums[1] += size * t;
                    sums[2] += one * dv[v];
                    sums[3] += size * dv[v];
                    e[x * NV + v] += t * mean[x] + dv[v] * gm[x] + NAME(signed)(one, t * half[x] + dv[v] * gh[x]);
                }
                REAL found[4];
                NAME(totals)(sums, found);
#pragma GCC unroll 4
                for (int k = 0; k < 4; k++)
                    if (out[k])
                        out[k][x] += found[k];
            }
        }
}

#define MOST_TAPS 10 /* taps in registers: a row of five, for two outputs */

/* Coefficients of OB outputs, `plane` vectors apart, against KW taps: what they and the taps get. `p` starts where the
   first tap of the first one lies, `apart` pixels before the next one's. Taps and their sums stay in registers. */
INLINE void NAME(taps_back)(const VEC *a, VEC *d, int64_t plane, const VEC *p, int64_t rows, int64_t pixels, int64_t line,
                            int64_t apart, const REAL *w, REAL *dw, int64_t next, const int KW, const int OB)
{
    VEC all[MOST_TAPS] = {{0}};
    for (int v = 0; v < NV; v++) {
        VEC tap[MOST_TAPS], sum[MOST_TAPS];
#pragma GCC unroll 16
        for (int i = 0; i < OB * KW; i++)
            sum[i] = (VEC){0}, tap[i] = w[i / KW * next + i % KW] - (VEC){0};
        for (int64_t y = 0; y < rows; y++) {
            const VEC *q = p + y * line + v;
            int64_t at = y * pixels * NV + v;
            for (int64_t x = 0; x < pixels; x++, at += NV, q += apart * NV) {
                VEC t[2], one[2];
#pragma GCC unroll 2
                for (int o = 0; o < OB; o++)
                    one[o] = a[o * plane + at], t[o] = d[o * plane + at];
#pragma GCC unroll 8
                for (int k = 0; k < KW; k++) {
                    const VEC value = q[k * NV];
#pragma GCC unroll 2
                    for (int o = 0; o < OB; o++) {
                        t[o] += value * tap[o * KW + k];
                        sum[o * KW + k] += one[o] * value;
                    }
                }
#pragma GCC unroll 2
                for (int o = 0; o < OB; o++)
                    d[o * plane + at] = t[o];
            }
        }
#pragma GCC unroll 16
        for (int i = 0; i < OB * KW; i++)
            all[i] += sum[i];
    }
    if (!dw)
        return;
#pragma GCC unroll 16
    for (int i = 0; i < OB * KW; i++)
        dw[i / KW * next + i % KW] += NAME(total)(all[i]);
}

#define BACK(KW, OB)                                                                                                   \
    NAME(taps_back)(a, d, plane, p, from->height, from->width, line, s, w, dw, inside * kh * kw, KW, OB)

static void NAME(convolution_back)(const gls_op *op, const gls_slopes *out, int64_t g, int64_t b, const NAME(slot) *from,
                                   VEC *df, const NAME(slot) *to, const VEC *dt, VEC *scratch)
{
    const int64_t inside = op->channels / op->groups, outs = op->out_channels / op->groups;
    const int64_t kh = op->kernel[0], kw = op->kernel[1], plane = from->height * from->width * NV;
    const int64_t top = from->top * op->stride[0] - op->padding[0], left = from->left * op->stride[1] - op->padding[1];
    const int64_t height = (from->height - 1) * op->stride[0] + (kh - 1) * op->dilation[0] + 1;
    const int64_t width = (from->width - 1) * op->stride[1] + (kw - 1) * op->dilation[1] + 1;
    const int64_t low = to->left - left > 0 ? to->left - left : 0;
    const int64_t high = to->left + to->width - left < width ? to->left + to->width - left : width;
    if (from->height < 1 || from->width < 1)
        return;
    for (int64_t c = 0; c < op->channels; c++) {
        memset(scratch, 0, height * width * NV * sizeof(VEC));
        for (int64_t y = 0; y < height; y++) {
            const int64_t row = top + y - to->top;
            if (row >= 0 && row < to->height && high > low)
                memcpy(scratch + (y * width + low) * NV,
                       dt + ((c * to->height + row) * to->width + left + low - to->left) * NV,
                       (high - low) * NV * sizeof(VEC));
        }
        for (int64_t o = c / inside * outs, end = o + outs, step = 1; o < end; o += step)
            for (int64_t y = 0; y < kh; y++) {
                const int64_t at = ((o * inside + c % inside) * kh + y) * kw;
                const REAL *w = NAME(at)(&op->weight, g, b, at);
                REAL *dw = NAME(into)(out->weight, g * out->weight_member + at);
                const VEC *a = from->data + o * plane, *p = scratch + y * op->dilation[0] * width * NV;
                VEC *d = df + o * plane;
                const int64_t line = op->stride[0] * width * NV, s = op->stride[1];
                step = REGISTERS >= 32 && end - o > 1 && kw <= 5 && op->dilation[1] == 1 ? 2 : 1;
#define TRY(KW)                                                                                                        \
    if (kw == KW && op->dilation[1] == 1) {                                                                            \
        step == 2 ? BACK(KW, 2) : BACK(KW, 1);                                                                         \
        continue;                                                                                                      \
    }
                TRY(1) TRY(2) TRY(3) TRY(4) TRY(5)
#undef TRY
                for (int64_t k = 0; k < kw; k++, p += op->dilation[1] * NV, w++, dw = dw ? dw + 1 : 0)
                    BACK(1, 1);
            }
    }
}

#undef BACK
#undef MOST_TAPS

static void NAME(linear_back)(const gls_op *op, const gls_slopes *out, int64_t g, int64_t b, const NAME(slot) *from,
                              VEC *df, const VEC *d)
{
    const int64_t size = op->channels * op->height * op->width, outs = op->out_channels * op->out_height * op->out_width;
    for (int64_t o = 0; o < outs; o++) {
        const REAL *w = NAME(at)(&op->weight, g, b, o * size);
        REAL *dw = NAME(into)(out->weight, g * out->weight_member + o * size);
        VEC sum[4][NV] = {{{0}}};
        const VEC *dt = d;
        int64_t i = 0;
        for (; i + 4 <= size; i += 4)
#pragma GCC unroll 4
            for (int k = 0; k < 4; k++)
#pragma GCC unroll 2
                for (int v = 0; v < NV; v++)
                    sum[k][v] += dt[(i + k) * NV + v] * w[i + k];
        for (; i < size; i++)
#pragma GCC unroll 2
            for (int v = 0; v < NV; v++)
                sum[0][v] += dt[i * NV + v] * w[i];
#pragma GCC unroll 2
        for (int v = 0; v < NV; v++)
            df[o * NV + v] += (sum[0][v] + sum[1][v]) + (sum[2][v] + sum[3][v]);
        const VEC *a = from->data + o * NV;
        for (i = 0; dw && i + 4 <= size; i += 4, dt += 4 * NV) {
            const VEC four[4] = {NAME(product)(a, dt), NAME(product)(a, dt + NV), NAME(product)(a, dt + 2 * NV),
                                 NAME(product)(a, dt + 3 * NV)};
            REAL found[4];
            NAME(totals)(four, found);
#pragma GCC unroll 4
            for (int k = 0; k < 4; k++)
                dw[i + k] += found[k];
        }
        for (; dw && i < size; i++, dt += NV)
            dw[i] += NAME(total)(NAME(product)(a, dt));
    }
}

/* The same where the coefficients are unit vectors. */
static void NAME(units_back)(const gls_pass *p, const gls_slopes *out, int64_t g, int64_t lane, const VEC *dt)
{
    const gls_op *op = p->ops;
    const int64_t size = op->channels * op->height * op->width;
    for (int64_t l = 0; out->weight && l < NV * V && lane + l < p->units * (1 + p->mirrored); l++) {
        REAL *dw = NAME(into)(out->weight, g * out->weight_member + (lane + l) % p->units * size);
        const REAL sign = lane + l < p->units ? 1 : -1, *d = (const REAL *)dt + l;
        for (int64_t i = 0; i < size; i++)
            dw[i] += sign * d[i * NV * V];
    }
}

/* One operation in reverse. */
static void NAME(undo)(const gls_pass *p, const gls_slopes *slopes, int64_t i, int64_t g, int64_t b, NAME(slot) *slots,
                       VEC **d, VEC *scratch, const VEC *dv)
{
    const gls_op *op = &p->ops[i];
    const NAME(slot) *from = &slots[op->from], *to = &slots[op->to], *once = &slots[p->slots + 1];
    if (op->weigh)
        NAME(weighed)(op, g, b, to, d[op->to], dv);
    if (!i && p->hoisted) {
        for (int64_t c = 0; c < op->channels; c++)
            for (int64_t y = 0; y < to->height; y++) {
                VEC *e = d[p->slots + 1] + ((c * once->height + to->top + y - once->top) * once->width + to->left -
                                            once->left) * NV;
                const VEC *t = d[op->to] + (c * to->height + y) * to->width * NV;
                for (int64_t x = 0; x < to->width * NV; x++)
                    e[x] += t[x];
            }
    } else if (op->kind == GLS_CONV) {
        NAME(convolution_back)(op, &slopes[i], g, b, from, d[op->from], to, d[op->to], scratch);
    } else if (op->kind == GLS_LINEAR) {
        NAME(linear_back)(op, &slopes[i], g, b, from, d[op->from], d[op->to]);
    } else if (op->from != op->to) {
        NAME(elementwise_back)(op, &slopes[i], g, b, from, d[op->from], to, d[op->to], dv);
    }
}

/* The most vectors that a convolution's plane takes, all positions and the first operation alone included. */
static int64_t NAME(planes)(const gls_pass *p, NAME(slot) *slots)
{
    int64_t most = 1;
    for (int64_t r = 0; r < p->rows; r++)
        for (int64_t c = 0; c < p->columns; c++) {
            NAME(place)(p, slots, r, c);
            for (int64_t i = 0; i < p->count; i++) {
                const gls_op *op = &p->ops[i];
                const NAME(slot) *from = &slots[op->from];
                const int64_t size = (from->height * op->stride[0] + op->kernel[0] * op->dilation[0]) *
                                     (from->width * op->stride[1] + op->kernel[1] * op->dilation[1]);
                most = size > most ? size : most;
            }
        }
    return most;
}

/* Adds the derivatives of sum(out * d_out) for NV V lanes of a member; 0, or 1 if there is no memory. Turns are as in
   `block`; every share adds to numbers of its own. */
static int NAME(block_back)(const gls_pass *p, const gls_slopes *slopes, const REAL *d_out, int64_t g, int64_t lane,
                            int64_t turn)
{
    if (p->images * p->rows == 1 && !NAME(ours)(p, turn))
        return 0;
    const int64_t count = p->slots + 2, all = p->units * (1 + p->mirrored);
    NAME(slot) *slots = calloc(count, sizeof *slots);
    int64_t *most = calloc(count, sizeof *most);
    VEC **d = calloc(count, sizeof *d);
    void *memory = 0;
    if (slots && most && d) {
        const int64_t plane = NAME(planes)(p, slots) * NV, each = NAME(sizes)(p, slots, most);
        memory = malloc((2 * each + plane) * sizeof(VEC) + 64);
    }
    if (memory) {
        VEC *next = (VEC *)(((uintptr_t)memory + 63) / 64 * 64), sums[SUMS * NV], dv[NV];
        for (int64_t i = 0; i < count; i++) {
            slots[i].data = next;
            d[i] = next + most[i] * NV;
            next += 2 * most[i] * NV;
        }
        NAME(slot) *once = &slots[p->slots + 1];
        VEC *scratch = slots[p->slots].data, *plane = next;
        const int64_t hoisted = p->hoisted && p->ops->kind == GLS_CONV;
        NAME(place)(p, slots, 0, 0);
        if (!p->start.data)
            NAME(begin)(p, g, 0, lane, slots[0].data);
        if (p->hoisted) {
            NAME(reach)(p->ops, &slots[0], once, 1);
            if (hoisted)
                NAME(convolution)(p->ops, g, 0, &slots[0], once, scratch, sums, 0);
            else
                NAME(linear)(p->ops, g, 0, &slots[0], once, sums, 0);
            memset(d[p->slots + 1], 0, most[p->slots + 1] * NV * sizeof(VEC));
        }
        const int64_t top = once->top, left = once->left;
        for (int64_t b = 0; b < p->images; b++) {
            int begun = !p->start.data;
            for (int64_t r = 0; r < p->rows; r++) {
                if (!NAME(row_ours)(p, g, b, r, lane, turn, &begun, slots[0].data))
                    continue;
                for (int64_t c = 0; c < p->columns; c++) {
                    NAME(place)(p, slots, r, c);
                    once->top = top + r * p->ops->stride[0] * hoisted;
                    once->left = left + c * p->ops->stride[1] * hoisted;
                    int wanted = 0; /* nothing depends on the bounds of ReLUs that are all stable */
                    memset(dv, 0, sizeof dv);
                    const REAL *from = d_out + g * p->out_member + b * p->out_image +
                                       (r * p->columns + c) * p->out_position;
                    for (int64_t l = 0; l < NV * V && lane + l < all; l++) {
                        const REAL d_lane =
                            from[(lane + l) % p->units * p->out_unit + (lane + l) / p->units * p->out_sign];
                        ((REAL *)dv)[l] = d_lane;
                        wanted |= d_lane != 0;
                    }
                    if (!wanted)
                        continue;
                    for (int64_t i = 0; i < p->count; i++)
                        if (i || !p->hoisted)
                            NAME(operate)(&p->ops[i], g, b, slots, scratch, sums);
                        else
                            NAME(again)(p->ops, g, b, once, &slots[p->ops->to], sums);
                    for (int64_t i = 0; i < p->slots; i++)
                        memset(d[i], 0, most[i] * NV * sizeof(VEC));
                    for (int64_t i = p->count - 1; i >= 0; i--)
                        NAME(undo)(p, slopes, i, g, b, slots, d, plane, dv);
                }
            }
        }
        if (p->hoisted) {
            NAME(place)(p, slots, 0, 0);
            once->top = top, once->left = left;
            if (hoisted)
                NAME(convolution_back)(p->ops, slopes, g, 0, &slots[0], d[0], once, d[p->slots + 1], plane);
            else
                NAME(units_back)(p, slopes, g, lane, d[p->slots + 1]);
        }
    }
    free(memory);
    free(d);
    free(most);
    free(slots);
    return memory ? 0 : 1;
}
