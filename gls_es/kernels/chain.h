/* What a backward pass is told: a list of operations on buffers of coefficients, and where to start.

   Coefficients of one start position lie as [channel][row][column][lane]: a lane is one linear function that is bounded.
   Every buffer (slot) holds the rectangle of a map that the start position can see, cut off at the map's border. */

#ifndef GLS_CHAIN_H
#define GLS_CHAIN_H

#include <stdint.h>

enum { GLS_CONV, GLS_LINEAR, GLS_SCALE, GLS_COPY, GLS_STEP, GLS_FILL };

/* A tensor by members and images: element (g, b, i) is at data[g * member + b * image + i]. */
typedef struct {
    const void *data;
    int64_t member, image;
} gls_values;

/* One operation: coefficients in slot `from` give coefficients in slot `to`, which may be stepped through a ReLU and
   weighed at once. `add`: others have written to `to` before. */
typedef struct {
    int64_t kind, from, to, add;
    int64_t channels, height, width;             /* the map of `to`; flat values are one row of one channel */
    int64_t out_channels, out_height, out_width; /* the map of `from` */
    int64_t kernel[2], stride[2], padding[2], dilation[2], groups;
    int64_t relu, weigh, store; /* what happens on the way into `to` */
    gls_values weight;                                  /* of the layer */
    gls_values mean, half, mean_offset, half_offset;    /* lines of a ReLU */
    gls_values multiplier;                              /* added after the step, data NULL: none */
    gls_values size;                                    /* with weigh: the bound grows by sum |A| size */
    int64_t laned; /* lines and sizes lie in lanes, each lane with its own; -1: they do not, otherwise which ReLU's */
} gls_op;

/* A whole pass. Lane l < units is the l-th function, lane l >= units the negative of function l - units. */
typedef struct {
    int64_t members, images, rows, columns; /* positions of the start: rows x columns, 1 x 1 for whole values */
    int64_t units, mirrored;
    int64_t hoisted; /* the first operation does not depend on image and position */
    int64_t pixel;   /* functions read one position; otherwise the whole value */
    int64_t channels, height, width; /* the map of the start */
    int64_t slots, count;
    const gls_op *ops;
    gls_values start;                /* (units, channels height width) for member and image; data NULL: unit vectors */
    void *out;                       /* written at these strides */
    int64_t out_member, out_image, out_unit, out_position, out_sign;
    int64_t share, shares; /* which of how many parts of the work to do, each in a thread of its own: 0 of 1 is all */
} gls_pass;

/* Where derivatives by an operation's weight and lines are added, data NULL: nowhere. */
typedef struct {
    void *weight;
    int64_t weight_member;
    void *lines[4];
    int64_t member[4], image[4];
} gls_slopes;

/* Bounds of a layer of ReLUs, (members, images, channels, pixels) side by side, and where their lines go. */
typedef struct {
    int64_t members, images, channels, pixels, rule; /* rule: lower slope adaptive, same, zero, one */
    const void *lower, *upper, *base;                /* base NULL: zero */
    int64_t base_member, base_image, base_channel, base_pixel;
    void *out[4];
} gls_bounds;

#endif
