/* Backward passes of bounds, compiled for several instruction sets; the one to use is named by whoever calls.

   A plain C interface: see chain.h. Nothing is kept between calls, and calls may run side by side. */

#include <float.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "chain.h"
#include "push.h"

#define MOST_LANED (1 << 17) /* vectors of lines with an image in each lane: beyond it they leave the cache */

#if defined(__GNUC__) || defined(__clang__)
#define INLINE static inline __attribute__((always_inline))
#define EXPORTED __attribute__((visibility("default")))
#else
#error "vector extensions of GCC or Clang are needed"
#endif

#define BYTES 16
#if defined(__x86_64__)
#define REGISTERS 16 /* hardly any processor needs this level: the plain loops do */
#else
#define REGISTERS 32
#define FAST
#endif
#define LEVEL base
#include "level.inc.h"
#undef BYTES
#undef REGISTERS
#undef LEVEL

#if defined(__x86_64__)
#define FAST
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif
#define BYTES 32
#define REGISTERS 16
#define LEVEL avx2
#include "level.inc.h"
#undef BYTES
#undef REGISTERS
#undef LEVEL
#if defined(__clang__)
#pragma clang attribute pop
#pragma clang attribute push(__attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma"))), apply_to = function)
#else
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma")
#endif
#define BYTES 64
#define REGISTERS 32
#define LEVEL avx512
#include "level.inc.h"
#undef BYTES
#undef REGISTERS
#undef LEVEL
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#endif

/* Number of the layout of all records: a library of another version is not used. */
EXPORTED int gls_version(void)
{
    return 6;
}

/* The highest level that this processor runs: 0 baseline, 1 AVX2, 2 AVX-512. */
EXPORTED int gls_level(void)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl"))
        return 2;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return 1;
#endif
    return 0;
}

/* Run a pass, or its share, at a level; wide: in double precision. Returns 0, or 1 if there was no memory. */
EXPORTED int gls_run(const gls_pass *p, int level, int wide)
{
#if defined(__x86_64__)
    if (level == 2)
        return wide ? pass_avx512_double(p) : pass_avx512_float(p);
    if (level == 1)
        return wide ? pass_avx2_double(p) : pass_avx2_float(p);
#endif
    (void)level;
    return wide ? pass_base_double(p) : pass_base_float(p);
}

/* Add the derivatives of a pass whose bounds have the derivatives d_out. Returns 0, or 1 if there was no memory. */
EXPORTED int gls_back(const gls_pass *p, const gls_slopes *slopes, const void *d_out, int level, int wide)
{
#if defined(__x86_64__)
    if (level == 2)
        return wide ? back_avx512_double(p, slopes, d_out) : back_avx512_float(p, slopes, d_out);
    if (level == 1)
        return wide ? back_avx2_double(p, slopes, d_out) : back_avx2_float(p, slopes, d_out);
#endif
    (void)level;
    return wide ? back_base_double(p, slopes, d_out) : back_base_float(p, slopes, d_out);
}

/* The lines of a layer of ReLUs. */
EXPORTED void gls_lines(const gls_bounds *p, int level, int wide)
{
#if defined(__x86_64__)
    if (level == 2) {
        wide ? all_lines_avx512_double1(p) : all_lines_avx512_float1(p);
        return;
    }
    if (level == 1) {
        wide ? all_lines_avx2_double1(p) : all_lines_avx2_float1(p);
        return;
    }
#endif
    (void)level;
    wide ? all_lines_base_double1(p) : all_lines_base_float1(p);
}

/* How many bytes the largest block of a sweep needs, whatever the level. */
EXPORTED int64_t gls_push_room(const gls_sweep *p, int wide)
{
    const int64_t each = wide ? sizeof(double) : sizeof(float), lanes = 2 * 64 / each;
    int64_t numbers = 0, weights = 0;
    for (int64_t i = 0; i < p->slots; i++)
        numbers += 2 * p->sizes[i] * lanes;
    for (int64_t i = 0; i < p->lines; i++)
        numbers += 4 * p->line_sizes[i] * lanes;
    for (int64_t i = 0; i < p->count; i++) {
        const gls_push *op = &p->ops[i];
        if (op->kind == GLS_PUSH_CONV) {
            const int64_t outs = (op->out_channels / op->groups + 7) / 8 * 8;
            const int64_t all = 2 * outs * op->channels * op->kernel[0] * op->kernel[1];
            weights = all > weights ? all : weights;
        }
    }
    return (numbers + weights) * each + p->taps * 2 * (int64_t)sizeof(int64_t);
}

/* Push intervals from the box through all operations, for all members. Returns 0, or 1 if there was no memory. */
EXPORTED int gls_push_all(const gls_sweep *p, int level, int wide)
{
#if defined(__x86_64__)
    if (level == 2)
        return wide ? push_avx512_double(p) : push_avx512_float(p);
    if (level == 1)
        return wide ? push_avx2_double(p) : push_avx2_float(p);
#endif
    (void)level;
    return wide ? push_base_double(p) : push_base_float(p);
}
