/*
 * Groups on the root, and their items.
 */
#include "dist/groups.h"

#include "base/alloc.h"
#include "dist/exchange.h"
#include "kernel/kernel.h"

#include <stdlib.h>
#include <string.h>

#define TAG_MEMBERS 21
#define A_PIECE 65536                  /* items that are described together, */
#define PIECE_BYTES ((size_t)32 << 20) /* and the bytes of their vectors */

void myr_groups_free(myr_groups *groups)
{
    free(groups->members);
    free(groups->groups);
    *groups = (myr_groups){0};
}

/* ---- Gathering ---- */

/* Members in one message: bounded, since rank 0 has room for one only. */
static size_t a_message(void)
{
    size_t n = myr_message_bytes / 16 / sizeof(myr_member);
    return n > 0 ? n : 1;
}

/* Links of another rank, a message at a time; all are received, also where there is no memory to link them. */
static myr_status receive_links(const myr_comm *comm, int rank, uint64_t n, myr_member *room, myr_forest *forest)
{
    myr_status status = MYR_OK;
    for (uint64_t at = 0; at < n; at += a_message()) {
        uint64_t piece = n - at < a_message() ? n - at : a_message();
        MPI_Recv(room, (int)(piece * sizeof *room), MPI_BYTE, rank, TAG_MEMBERS, comm->mpi, MPI_STATUS_IGNORE);
        for (uint64_t i = 0; i < piece && status == MYR_OK; i++)
            status = myr_forest_link(forest, room[i].first, room[i].id);
    }
    return status;
}

/* Collective. */
static myr_status gather_links(const myr_comm *comm, myr_forest *forest)
{
    bool is_root = comm->rank == 0;
    myr_member *members = NULL;
    size_t n_members = 0;
    uint64_t n_mine, *n = myr_alloc((size_t)comm->size, sizeof *n);
    myr_member *room = myr_alloc(is_root && comm->size > 1 ? a_message() : 0, sizeof *room);
    myr_status status = n && room ? MYR_OK : myr_fail(MYR_ERR_NOMEM, "no memory to gather groups");
    if (status == MYR_OK && !is_root)
        status = myr_forest_members(forest, &members, &n_members);
    status = myr_comm_agree(comm, status);
    if (status == MYR_OK) {
        n_mine = n_members;
        MPI_Gather(&n_mine, 1, MPI_UINT64_T, n, 1, MPI_UINT64_T, 0, comm->mpi);
        for (int rank = 1; is_root && rank < comm->size; rank++) {
            myr_status one = receive_links(comm, rank, n[rank], room, forest);
            status = status == MYR_OK ? one : status;
        }
        for (size_t at = 0; at < n_members; at += a_message()) {
            size_t piece = n_members - at < a_message() ? n_members - at : a_message();
            MPI_Send(members + at, (int)(piece * sizeof *members), MPI_BYTE, 0, TAG_MEMBERS, comm->mpi);
        }
        status = myr_comm_agree(comm, status);
    }
    free(members);
    free(room);
    free(n);
    return status;
}

static int by_group(const void *a, const void *b)
{
    const myr_member *x = a, *y = b;
    return x->first != y->first ? (x->first > y->first) - (x->first < y->first) : (x->id > y->id) - (x->id < y->id);
}

static int largest_first(const void *a, const void *b)
{
    const myr_group *x = a, *y = b;
    return x->n != y->n ? (x->n < y->n) - (x->n > y->n) : (x->kept > y->kept) - (x->kept < y->kept);
}

/* Root. */
static myr_status make_groups(myr_forest *forest, myr_groups *groups)
{
    myr_status status = myr_forest_members(forest, &groups->members, &groups->n_members);
    if (status != MYR_OK || groups->n_members == 0)
        return status;
    qsort(groups->members, groups->n_members, sizeof *groups->members, by_group);
    size_t n = 1;
    for (size_t i = 1; i < groups->n_members; i++)
        n += groups->members[i].first != groups->members[i - 1].first;
    groups->groups = myr_alloc(n, sizeof *groups->groups);
    if (!groups->groups)
        return myr_fail(MYR_ERR_NOMEM, "no memory for %zu groups", n);
    for (size_t i = 0; i < groups->n_members; i++) {
        if (i == 0 || groups->members[i].first != groups->members[i - 1].first)
            groups->groups[groups->n_groups++] = (myr_group){.kept = groups->members[i].first, .first = i, .n = 1};
        groups->groups[groups->n_groups - 1].n++;
    }
    qsort(groups->groups, n, sizeof *groups->groups, largest_first);
    return MYR_OK;
}

myr_status myr_groups_gather(const myr_comm *comm, myr_forest *forest, myr_groups *groups)
{
    *groups = (myr_groups){0};
    myr_status status = gather_links(comm, forest);
    if (status == MYR_OK && comm->rank == 0)
        status = make_groups(forest, groups);
    return myr_comm_agree(comm, status);
}

/* ---- Telling ---- */

/* Where the root is among all items of all groups: the one kept first, then the others. */
typedef struct place {
    size_t group, item;
} place;

/* A piece of the items, alike on all ranks. */
typedef struct piece {
    const myr_member *items; /* (n) those of a group follow each other */
    size_t n;
    const float *kept; /* (groups of the piece, dim) vectors of the ones kept */
} piece;

/* Root: up to n_most items from a place on. */
static void list_items(const myr_groups *groups, place at, size_t n_most, myr_buffer *list)
{
    for (size_t n = 0; n < n_most && at.group < groups->n_groups; n++) {
        const myr_group *group = &groups->groups[at.group];
        myr_member one = {.first = group->kept,
                          .id = at.item == 0 ? group->kept : groups->members[group->first + at.item - 1].id};
        myr_buffer_append(list, &one, sizeof one);
        if (++at.item == group->n)
            at = (place){.group = at.group + 1};
    }
}

/* The shard that this rank keeps an item in, and its row there; NULL where it does not. */
static myr_status find_item(const myr_cluster *cluster, int64_t id, const myr_shard **shard, int64_t *row)
{
    myr_status status = MYR_OK;
    *shard = NULL;
    for (size_t s = 0; s < cluster->manifest.n_shards && !*shard && status == MYR_OK; s++) {
        if (!myr_hosts_keeps(&cluster->hosts, s, cluster->comm->rank))
            continue;
        status = myr_shard_find(&cluster->shards[s], id, row);
        if (status == MYR_OK && *row >= 0)
            *shard = &cluster->shards[s];
    }
    return status;
}

static bool begins_group(const piece *part, size_t i)
{
    return i == 0 || part->items[i].first != part->items[i - 1].first;
}

/* This rank's share of the vectors of the ones kept: number of the group in the piece, vector. */
static myr_status send_kept(const myr_cluster *cluster, const piece *part, float *vector, myr_buffer *out)
{
    myr_status status = MYR_OK;
    int64_t number = -1;
    for (size_t i = 0; i < part->n && status == MYR_OK; i++) {
        const myr_shard *shard = NULL;
        int64_t row;
        if (!begins_group(part, i))
            continue;
        number++;
        status = find_item(cluster, part->items[i].first, &shard, &row);
        if (status == MYR_OK && shard)
            status = myr_hnsw_vector(shard->graph, (size_t)row, vector);
        if (status != MYR_OK || !shard)
            continue;
        myr_buffer_put_i64(out, number);
        myr_buffer_append(out, vector, (size_t)cluster->manifest.dim * sizeof *vector);
    }
    return status == MYR_OK && out->failed ? myr_fail(MYR_ERR_NOMEM, "no memory for vectors of groups") : status;
}

/* Root: what came in, in the order of groups. */
static myr_status place_kept(const myr_buffer *all, size_t n_groups, size_t dim, myr_buffer *kept)
{
    myr_cursor cursor = {.data = all->data, .size = all->size};
    float *vectors = myr_alloc(n_groups, dim * sizeof *vectors);
    if (!vectors)
        return myr_fail(MYR_ERR_NOMEM, "no memory for vectors of groups");
    while (cursor.at < cursor.size && !cursor.failed) {
        int64_t number = myr_cursor_i64(&cursor);
        const void *vector = myr_cursor_bytes(&cursor, dim * sizeof *vectors);
        if (!cursor.failed && number >= 0 && (size_t)number < n_groups)
            memcpy(vectors + (size_t)number * dim, vector, dim * sizeof *vectors);
    }
    myr_buffer_append(kept, vectors, n_groups * dim * sizeof *vectors);
    free(vectors);
    return kept->failed ? myr_fail(MYR_ERR_NOMEM, "no memory for vectors of groups") : MYR_OK;
}

/* The vectors of the ones kept, on all ranks. Collective. */
static myr_status share_kept(myr_cluster *cluster, const piece *part, float *vector, myr_buffer *kept)
{
    size_t n_groups = 0;
    myr_buffer mine = {0}, all = {0};
    for (size_t i = 0; i < part->n; i++)
        n_groups += begins_group(part, i);
    myr_status status = myr_comm_agree(cluster->comm, send_kept(cluster, part, vector, &mine));
    if (status == MYR_OK)
        status = myr_gather_bytes(cluster->comm, &mine, &all);
    if (status == MYR_OK && cluster->comm->rank == 0)
        status = place_kept(&all, n_groups, (size_t)cluster->manifest.dim, kept);
    status = myr_comm_agree(cluster->comm, status);
    if (status == MYR_OK)
        status = myr_comm_share(cluster->comm, kept);
    myr_buffer_free(&mine);
    myr_buffer_free(&all);
    return status;
}

/* This rank's share of what is known: place in the piece, distance to the one kept, label, key, source. */
static myr_status send_facts(const myr_cluster *cluster, const piece *part, float *vector, myr_buffer *out)
{
    size_t dim = (size_t)cluster->manifest.dim, n_begun = 0;
    myr_metric metric = MYR_METRIC_L2;
    myr_metric_of(cluster->manifest.metric, &metric);
    myr_status status = MYR_OK;
    for (size_t i = 0; i < part->n && status == MYR_OK; i++) {
        const myr_shard *shard;
        int64_t row;
        int32_t label;
        const char *key, *source;
        n_begun += begins_group(part, i);
        status = find_item(cluster, part->items[i].id, &shard, &row);
        if (status == MYR_OK && shard)
            status = myr_hnsw_vector(shard->graph, (size_t)row, vector);
        if (status == MYR_OK && shard)
            status = myr_shard_item(shard, row, &label, &key, &source);
        if (status != MYR_OK || !shard)
            continue;
        const float *kept = part->kept + (n_begun - 1) * dim;
        float distance = myr_hit_distance(myr_kernel_get(), metric, kept, vector, dim);
        if (part->items[i].id == part->items[i].first)
            distance = 0;
        myr_buffer_put_i64(out, (int64_t)i);
        myr_buffer_append(out, &distance, sizeof distance);
        myr_buffer_put_i64(out, label);
        myr_buffer_put_text(out, key);
        myr_buffer_put_text(out, source);
    }
    return status == MYR_OK && out->failed ? myr_fail(MYR_ERR_NOMEM, "no memory for keys of groups") : status;
}

/* Root: the piece's items in their order, to whom it may concern. */
static myr_status hand_on(const myr_groups *groups, place *at, const piece *part, const myr_buffer *all,
                          myr_dedup_take take, void *context)
{
    myr_dedup_row *rows = myr_alloc(part->n, sizeof *rows);
    myr_cursor cursor = {.data = all->data, .size = all->size};
    myr_status status = rows ? MYR_OK : myr_fail(MYR_ERR_NOMEM, "no memory for %zu items of groups", part->n);
    while (cursor.at < cursor.size && !cursor.failed && status == MYR_OK) {
        size_t i = (size_t)myr_cursor_i64(&cursor);
        const void *distance = myr_cursor_bytes(&cursor, sizeof(float));
        int32_t label = (int32_t)myr_cursor_i64(&cursor);
        const char *key = myr_cursor_text(&cursor), *source = myr_cursor_text(&cursor);
        if (cursor.failed || i >= part->n)
            status = myr_fail(MYR_ERR_INTERNAL, "a damaged message came in while describing groups");
        else
            rows[i] = (myr_dedup_row){.label = label, .key = key, .source = source};
        if (status == MYR_OK)
            memcpy(&rows[i].distance, distance, sizeof rows[i].distance);
    }
    for (size_t i = 0; i < part->n && status == MYR_OK; i++) {
        const myr_group *group = &groups->groups[at->group];
        rows[i].group = (int64_t)at->group + 1;
        rows[i].size = (int64_t)group->n;
        rows[i].id = part->items[i].id;
        rows[i].keep = at->item == 0;
        if (!rows[i].key)
            status = myr_fail(MYR_ERR_INTERNAL, "item %lld is in no shard", (long long)rows[i].id);
        else
            status = take(context, &rows[i]);
        if (++at->item == group->n)
            *at = (place){.group = at->group + 1};
    }
    free(rows);
    return status;
}

/* Collective. The place moves on, on the root. */
static myr_status tell_piece(myr_cluster *cluster, const myr_groups *groups, place *at, myr_buffer *items,
                             float *vector, myr_dedup_take take, void *context)
{
    piece part = {.items = (const myr_member *)(const void *)items->data, .n = items->size / sizeof(myr_member)};
    myr_buffer kept = {0}, mine = {0}, all = {0};
    myr_status status = share_kept(cluster, &part, vector, &kept);
    if (status == MYR_OK) {
        part.kept = (const float *)(const void *)kept.data;
        status = myr_comm_agree(cluster->comm, send_facts(cluster, &part, vector, &mine));
    }
    if (status == MYR_OK)
        status = myr_gather_bytes(cluster->comm, &mine, &all);
    if (status == MYR_OK && cluster->comm->rank == 0)
        status = hand_on(groups, at, &part, &all, take, context);
    myr_buffer_free(&kept);
    myr_buffer_free(&mine);
    myr_buffer_free(&all);
    return myr_comm_agree(cluster->comm, status);
}

myr_status myr_groups_tell(myr_cluster *cluster, const myr_groups *groups, myr_dedup_take take, void *context)
{
    const myr_comm *comm = cluster->comm;
    size_t dim = (size_t)cluster->manifest.dim, by_bytes = PIECE_BYTES / (dim * sizeof(float));
    size_t n_most = by_bytes < 1 ? 1 : by_bytes < A_PIECE ? by_bytes : A_PIECE;
    float *vector = myr_alloc(dim, sizeof *vector);
    place at = {0};
    myr_status status = myr_comm_agree(comm, vector ? MYR_OK : myr_fail(MYR_ERR_NOMEM, "no memory for a vector"));
    for (bool more = true; more && status == MYR_OK;) {
        myr_buffer items = {0};
        if (comm->rank == 0)
            list_items(groups, at, n_most, &items);
        if (myr_stop_requested)
            status = myr_fail(MYR_ERR_STOPPED, "stopped by a signal; nothing was written");
        else if (items.failed)
            status = myr_fail(MYR_ERR_NOMEM, "no memory for a piece of the groups");
        status = myr_comm_agree(comm, status);
        if (status == MYR_OK)
            status = myr_comm_share(comm, &items);
        more = items.size > 0;
        if (status == MYR_OK && more)
            status = tell_piece(cluster, groups, &at, &items, vector, take, context);
        myr_buffer_free(&items);
    }
    free(vector);
    return status;
}
