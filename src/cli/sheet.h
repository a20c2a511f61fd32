/*
 * The contact sheet of a query's answer: thumbnails read again from their sources.
 */
#ifndef MYR_CLI_SHEET_H
#define MYR_CLI_SHEET_H

#include "base/buffer.h"
#include "base/topk.h"
#include "dist/cluster.h"

/*
 * myr_sheet_of_hits - one self-contained HTML page.
 *
 * Local. A picture that cannot be read any more is shown as missing.
 *
 *  names, sources  [in]      (n) captions and files of the queries; source "" = not a file of its own
 *  hits, facts     [in]      (n, k)
 *  html            [in, out] the page is appended
 *
 * Returns:  MYR_OK | MYR_ERR_NOMEM
 */
myr_status myr_sheet_of_hits(const char *const *names, const char *const *sources, size_t n, const myr_hit *hits,
                             const myr_item_facts *facts, size_t k, myr_buffer *html);

#endif
