/*
 * Pictures named on the command line, as vectors: shared by query and classify.
 */
#ifndef MYR_CLI_PICTURES_H
#define MYR_CLI_PICTURES_H

#include "cli/cli.h"
#include "dist/encode.h"

typedef struct myr_pictures {
    myr_item_list *items;
    int64_t n;
    int dim;
    float *vectors; /* (n, dim) */
    char **reasons; /* (n) NULL where the picture is fine */
    double wall_s;
} myr_pictures;

/*
 * myr_pictures_encode - enumerate operands and encode them on this rank's threads.
 *
 * Local. A picture that cannot be used is warned of and has a reason; none that can is an error.
 */
myr_status myr_pictures_encode(const char *const *operands, size_t n_operands, const myr_corpus_options *options,
                               const myr_encoder *encoder, int n_threads, myr_pictures *pictures);
void myr_pictures_clear(myr_pictures *pictures);

#endif
