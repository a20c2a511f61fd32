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
/*
 * myr_pictures_prepare - pictures as a card's network wants them, at most n_most of those that can be used, spread
 * over all.
 *
 *  prepared  [out, owned]  (n, 3, height, width) f32; release with free()
 */
myr_status myr_pictures_prepare(const char *const *operands, size_t n_operands, const myr_card *card, size_t n_most,
                                float **prepared, size_t *n);

/* What --crop-objects, --coarse-labels and --synsets ask for. [borrowed] from config */
void myr_cli_data_sets(const myr_config *config, myr_corpus_options *options);

/* What --precision and --cosine ask for. least_cosine: 0 unless the precision is to be chosen by it. */
myr_precision myr_cli_precision(const myr_config *config, double *least_cosine);

void myr_pictures_clear(myr_pictures *pictures);

#endif
