/* The two lines of ReLUs on [lower, upper] as half-sums and half-differences, a vector at a time; see relaxation.py. Not
   a number in a bound gives lines that are not numbers. */

#define VECTOR_AT(p) (*(const UNALIGNED *)(p))
#define CHOSEN(mask, a, b) ((VEC)(((IVEC)(a) & (mask)) | ((IVEC)(b) & ~(mask))))

INLINE void NAME(lines_at)(VEC l, VEC u, VEC base, int has_base, int rule, VEC *made)
{
    const VEC zero = {0};
    const VEC above = CHOSEN((IVEC)(u < zero), zero, u), below = CHOSEN((IVEC)(l > zero), zero, l);
    VEC width = above - below;
    width = CHOSEN((IVEC)(width < TINY), zero + TINY, width);
    const VEC slope = above / width, one = zero + 1;
    VEC other = slope;
    if (rule == 0)
        other = CHOSEN((IVEC)(u + l > zero), one, zero);
    else if (rule == 2)
        other = CHOSEN((IVEC)(l >= zero) & (IVEC)(u > zero), one, zero);
    else if (rule == 3)
        other = CHOSEN((IVEC)(u > zero), one, zero);
    const VEC offset = slope * below * (REAL)-0.5, mean = (slope + other) * (REAL)0.5, half = (slope - other) * (REAL)0.5;
    VEC mean_offset = offset, half_offset = offset;
    if (has_base) {
        mean_offset += mean * base;
        half_offset += half * base;
    }
    made[0] = mean, made[1] = half, made[2] = mean_offset, made[3] = half_offset;
}

INLINE void NAME(lines_of)(const REAL *lower, const REAL *upper, VEC base, int has_base, int rule, REAL *const *out,
                           int64_t i)
{
    VEC made[4];
    NAME(lines_at)(VECTOR_AT(lower), VECTOR_AT(upper), base, has_base, rule, made);
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++)
        *(UNALIGNED *)(out[k] + i) = made[k];
}

/* n pixels side by side, which share the base or have each their own. */
static void NAME(lines_along)(const REAL *lower, const REAL *upper, const REAL *base, int64_t base_step, int rule, int64_t n,
                        REAL *const *out, int64_t at)
{
    const VEC zero = {0};
    const int64_t many = BYTES / (int64_t)sizeof(REAL);
    int64_t i = 0;
    for (; i + many <= n; i += many) {
        VEC constant = zero;
        if (base && base_step)
            constant = VECTOR_AT(base + i);
        else if (base)
            constant = zero + *base;
        NAME(lines_of)(lower + i, upper + i, constant, !!base, rule, out, at + i);
    }
    if (i < n) {
        REAL rest[7][BYTES / sizeof(REAL)] = {{0}}, *parts[4] = {rest[3], rest[4], rest[5], rest[6]};
        for (int64_t j = 0; j < n - i; j++) {
            rest[0][j] = lower[i + j], rest[1][j] = upper[i + j];
            rest[2][j] = base ? base[(i + j) * base_step] : 0;
        }
        NAME(lines_of)(rest[0], rest[1], VECTOR_AT(rest[2]), !!base, rule, parts, 0);
        for (int k = 0; k < 4; k++)
            memcpy(out[k] + at + i, parts[k], (n - i) * sizeof(REAL));
    }
}

static void NAME(all_lines)(const gls_bounds *p)
{
    REAL *const out[4] = {p->out[0], p->out[1], p->out[2], p->out[3]};
    int64_t at = 0;
    for (int64_t g = 0; g < p->members; g++)
        for (int64_t b = 0; b < p->images; b++)
            for (int64_t c = 0; c < p->channels; c++, at += p->pixels) {
                const REAL *base = (const REAL *)p->base;
                base = base ? base + g * p->base_member + b * p->base_image + c * p->base_channel : 0;
                NAME(lines_along)((const REAL *)p->lower + at, (const REAL *)p->upper + at, base, p->base_pixel, p->rule,
                            p->pixels, out, at);
            }
}

#undef VECTOR_AT
#undef CHOSEN
