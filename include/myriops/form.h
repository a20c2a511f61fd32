/*
 * How the bytes of an item become a picture: they are a picture file, or bare levels of a known size; and the picture
 * may be a part of what they show.
 */
#ifndef MYRIOPS_FORM_H
#define MYRIOPS_FORM_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A part of a picture, in pixels from its upper left corner. width 0 = the whole picture. */
typedef struct myr_box {
    int32_t x, y, width, height;
} myr_box;

/* All zero: a whole picture file. */
typedef struct myr_form {
    int32_t width, height; /* of bare levels, u8; 0 = the bytes are a JPEG, PNG or WebP file */
    int32_t n_channels;    /* of bare levels: 1 = grey, 3 = R G B */
    bool planar;           /* (n_channels, height, width), else (height, width, n_channels) */
    myr_box box;           /* the part that is the picture */
} myr_form;

#ifdef __cplusplus
}
#endif
#endif
