/* One number format for one instruction set: the pass for all lanes, in blocks of two vectors, the last one of one. */

#define VEC GLUE3(vec, LEVEL, FORMAT, )
#define IVEC GLUE3(ivec, LEVEL, FORMAT, )
#define UNALIGNED GLUE3(unaligned, LEVEL, FORMAT, )
#define V (BYTES / (int)sizeof(REAL))
typedef REAL VEC __attribute__((vector_size(BYTES), aligned(BYTES), may_alias));
typedef REAL UNALIGNED __attribute__((vector_size(BYTES), aligned(sizeof(REAL)), may_alias));
typedef INTEGER IVEC __attribute__((vector_size(BYTES), aligned(BYTES), may_alias));

#define NAME(x) GLUE3(x, LEVEL, FORMAT, NV)
#define NV 1
#include "lines.inc.h"
#include "chain.inc.h"
#include "adjoint.inc.h"
#include "lanes.inc.h"
#include "push.inc.h"
#undef SUMS
#undef NV
#define NV 2
#include "chain.inc.h"
#include "adjoint.inc.h"
#include "push.inc.h"
#undef SUMS
#undef NV
#undef NAME

static int GLUE3(pass, LEVEL, FORMAT, )(const gls_pass *p)
{
    const int64_t laned = GLUE3(worth_lanes, LEVEL, FORMAT, 1)(p);
    int failed = 0;
    int64_t turn = 0;
    if (laned)
        return GLUE3(pass_images, LEVEL, FORMAT, 1)(p, laned);
    for (int64_t g = 0; g < p->members; g++)
        for (int64_t lane = 0, all = p->units * (1 + p->mirrored); lane < all; lane += 2 * V, turn++)
            failed |= all - lane > V ? GLUE3(block, LEVEL, FORMAT, 2)(p, g, lane, turn)
                                     : GLUE3(block, LEVEL, FORMAT, 1)(p, g, lane, turn);
    return failed;
}

static int GLUE3(back, LEVEL, FORMAT, )(const gls_pass *p, const gls_slopes *slopes, const void *d_out)
{
    int failed = 0;
    int64_t turn = 0;
    for (int64_t g = 0; g < p->members; g++)
        for (int64_t lane = 0, all = p->units * (1 + p->mirrored); lane < all; lane += 2 * V, turn++)
            failed |= all - lane > V ? GLUE3(block_back, LEVEL, FORMAT, 2)(p, slopes, d_out, g, lane, turn)
                                     : GLUE3(block_back, LEVEL, FORMAT, 1)(p, slopes, d_out, g, lane, turn);
    return failed;
}

/* Images in blocks of two vectors, the last one of one if that is enough; with a backward pass in blocks of one. */
static int GLUE3(push, LEVEL, FORMAT, )(const gls_sweep *p)
{
    if (p->pass)
        return GLUE3(push_pass, LEVEL, FORMAT, 1)(p);
    for (int64_t b = 0; b < p->images; b += 2 * V)
        p->images - b > V ? GLUE3(push_plain, LEVEL, FORMAT, 2)(p, b) : GLUE3(push_plain, LEVEL, FORMAT, 1)(p, b);
    return 0;
}

#undef VEC
#undef IVEC
#undef V
#undef UNALIGNED
#undef TINY
#undef FORMAT
#undef REAL
#undef INTEGER
#undef SIGNLESS
