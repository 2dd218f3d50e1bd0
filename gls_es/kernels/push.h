/* What intervals are pushed through: a list of operations on values, and the box to start from.

   A value is a centre and a radius for each number of a map, images side by side as lanes: [centre, radius][number][lane].
   All members go through the same operations, each with its own weights. */

#ifndef GLS_PUSH_H
#define GLS_PUSH_H

#include "chain.h"

enum { GLS_PUSH_CONV, GLS_PUSH_SCALE, GLS_PUSH_ADD, GLS_PUSH_RELU, GLS_PUSH_COPY };

/* The value in slot `from` (for a sum, and in slot `other`) gives the one in slot `to`, which may be the same slot unless
   it is a convolution's. A linear map is a convolution whose kernel is one row, as wide as its input. `parts`: 1 for the
   centre, 2 for the radius, 3 for both. */
typedef struct {
    int64_t kind, from, other, to, parts;
    int64_t channels, height, width;             /* the map of `from` */
    int64_t out_channels, out_height, out_width; /* the map of `to` */
    int64_t kernel[2], stride[2], padding[2], dilation[2], groups;
    gls_values weight;    /* of a layer: (out_channels, channels / groups, kernel); of a scaling: one for each number */
    gls_values bias;      /* one for each output channel; of a scaling, for each number; data NULL: none */
    gls_values out[2];    /* where centre and radius of what is made are written; data NULL: nowhere */
    int64_t lines;        /* of a ReLU: which of the pass' lines are made from what is read; -1: none */
    int64_t rule;         /* of those lines, see gls_bounds */
    int64_t centred;      /* the constant part that they contain is the centre, otherwise `base` */
    gls_values base;      /* one for each number; data NULL: zero */
} gls_push;

typedef struct {
    int64_t members, images, slots, count, size; /* size: numbers of the box */
    int64_t taps;                                /* the most taps of an output, all channels together */
    int64_t shared;                              /* all members have the same box */
    const gls_push *ops;
    const int64_t *sizes;                        /* numbers of each slot; slot 0 is the box, and nothing is written to it */
    gls_values centre, radius;
    const gls_pass *pass;                        /* the backward pass that follows, NULL: none; its start is (1, images) */
    int64_t lines;                               /* how many ReLUs have lines, and */
    const int64_t *line_sizes;                   /* how many numbers */
    void *room;                                  /* gls_push_room bytes, aligned to 64 */
} gls_sweep;

#endif
