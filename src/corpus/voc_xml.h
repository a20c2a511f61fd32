/*
 * An annotation of PASCAL VOC: the objects of one picture.
 */
#ifndef MYR_CORPUS_VOC_XML_H
#define MYR_CORPUS_VOC_XML_H

#include "myriops/form.h"
#include "myriops/status.h"

#include <stddef.h>

typedef struct myr_voc_object {
    char *name;  /* [owned] its class; NULL where it has none */
    myr_box box; /* width 0 where it has none, or one that makes no sense */
} myr_voc_object;

typedef struct myr_voc_objects {
    myr_voc_object *objects; /* [owned] */
    size_t n;
} myr_voc_objects;

/*
 * myr_voc_parse - the objects of an annotation, in its order.
 *
 *  bytes    [in]          n_bytes of XML
 *  objects  [out, owned]  release with myr_voc_clear
 *
 * Boxes are told in pixels from 1, both ends included: xmin 1, xmax 1 is one pixel wide. Parts of objects (heads,
 * hands) are passed over. Documents with a DOCTYPE, which VOC's have not and in which entities could grow, are refused.
 *
 * Returns:  MYR_OK | MYR_ERR_FORMAT (the sentence has no file's name) | MYR_ERR_LIMIT | MYR_ERR_NOMEM
 * Source:   PASCAL VOC Development Kit 2012, "Annotations", VOCreadxml.m; expat.
 */
myr_status myr_voc_parse(const void *bytes, size_t n_bytes, myr_voc_objects *objects);
void myr_voc_clear(myr_voc_objects *objects);

#endif
