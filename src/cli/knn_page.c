/*
 * The page: a sample of the items is asked as the graph asks all, each is left out of its own answer, and what is known
 * of all of them is fetched in one go.
 */
#include "cli/knn_page.h"

#include "base/alloc.h"
#include "base/file.h"
#include "cli/sheet.h"
#include "dist/knn_graph.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct page {
    size_t n, k;
    float *vectors;
    int64_t *ids;
    myr_hit *found;        /* (n, k + 1) */
    myr_hit *hits;         /* (n, k) without the item itself */
    int64_t *asked;        /* (n + n k) items, then their neighbours */
    myr_item_facts *facts; /* likewise */
    myr_buffer texts;
} page;

/* Collective. Items and their neighbours, on the root. */
static myr_status find(myr_cluster *cluster, const myr_search_options *search, size_t n_wanted, page *all)
{
    const myr_comm *comm = cluster->comm;
    myr_status status = myr_cluster_sample(cluster, n_wanted, &all->vectors, &all->ids, &all->n);
    if (status != MYR_OK)
        return status;
    all->k = search->k - 1;
    size_t n_hits = all->n * all->k;
    all->found = myr_alloc(all->n * search->k, sizeof *all->found);
    all->hits = myr_alloc(n_hits, sizeof *all->hits);
    all->asked = myr_alloc(all->n + n_hits, sizeof *all->asked);
    all->facts = myr_alloc(all->n + n_hits, sizeof *all->facts);
    bool whole = all->found && all->hits && all->asked && all->facts;
    status = myr_comm_agree(comm, whole ? MYR_OK : myr_fail(MYR_ERR_NOMEM, "no memory for %zu neighbours", n_hits));
    if (status == MYR_OK)
        status = myr_cluster_search(cluster, all->vectors, all->n, search, all->found, NULL);
    if (status != MYR_OK)
        return status;
    for (size_t i = 0; i < all->n && comm->rank == 0; i++) {
        myr_hits_leave_out(all->found + i * search->k, search->k, all->ids[i], all->hits + i * all->k, all->k);
        all->asked[i] = all->ids[i];
        for (size_t j = 0; j < all->k; j++)
            all->asked[all->n + i * all->k + j] = all->hits[i * all->k + j].id;
    }
    return myr_cluster_describe(cluster, all->asked, all->n + n_hits, &all->texts, all->facts);
}

static myr_status write_page(const myr_index_manifest *index, const page *all, const char *path)
{
    const char **names = myr_alloc(all->n, sizeof *names), **sources = myr_alloc(all->n, sizeof *sources);
    int32_t *labels = myr_alloc(all->n, sizeof *labels);
    char summary[128];
    myr_buffer html = {0};
    myr_status status = names && sources && labels ? MYR_OK : myr_fail(MYR_ERR_NOMEM, "no memory for the page");
    for (size_t i = 0; i < all->n && status == MYR_OK; i++) {
        names[i] = all->facts[i].key ? all->facts[i].key : "";
        sources[i] = all->facts[i].source ? all->facts[i].source : "";
        labels[i] = all->facts[i].label;
    }
    snprintf(summary, sizeof summary, "%zu of %lld items, each beside its %zu nearest others (%s distance)", all->n,
             (long long)index->n_items, all->k, index->metric);
    const myr_answer_sheet answer = {.n = all->n,
                                     .k = all->k,
                                     .names = names,
                                     .sources = sources,
                                     .hits = all->hits,
                                     .facts = all->facts + all->n,
                                     .labels = labels,
                                     .classes = index->classes,
                                     .n_classes = index->n_classes,
                                     .summary = summary};
    if (status == MYR_OK)
        status = myr_answer_sheet_write(&answer, &html);
    if (status == MYR_OK)
        status = myr_file_replace(path, html.data, html.size);
    myr_buffer_free(&html);
    free(names);
    free(sources);
    free(labels);
    return status;
}

myr_status myr_knn_page_write(const myr_cli *cli, myr_cluster *cluster, const myr_search_options *search,
                              size_t n_wanted, const char *path)
{
    page all = {0};
    myr_status status = find(cluster, search, n_wanted, &all);
    if (status == MYR_OK && cli->speaks)
        status = write_page(&cluster->manifest, &all, path);
    status = myr_comm_agree(cli->comm, status);
    if (status == MYR_OK && cli->speaks)
        printf("%zu items and their neighbours into %s\n", all.n, path);
    myr_buffer_free(&all.texts);
    free(all.vectors);
    free(all.ids);
    free(all.found);
    free(all.hits);
    free(all.asked);
    free(all.facts);
    return status;
}
