/*
 * Bytes read ahead are those that are read one by one; copies of tars are whole or not there.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/file.h"
#include "base/log.h"
#include "base/rng.h"
#include "corpus/ahead.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define BATCH 8

static char place[64];

static void run(const char *format, ...) MYR_PRINTF(1, 2);

/* A shell command in the test's folder. */
static void run(const char *format, ...)
{
    char command[4096];
    int n = snprintf(command, sizeof command, "cd %s && ", place);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(command + n, sizeof command - (size_t)n, format, arguments);
    va_end(arguments);
    assert_int_equal(system(command), 0);
}

static void make_member(const char *name, size_t n_bytes, uint64_t seed)
{
    FILE *file = fopen(name, "wb");
    assert_non_null(file);
    for (size_t i = 0; i < n_bytes; i += 8) {
        uint64_t bits = myr_hash64(i, seed);
        assert_int_equal(fwrite(&bits, 1, n_bytes - i < 8 ? n_bytes - i : 8, file), n_bytes - i < 8 ? n_bytes - i : 8);
    }
    assert_int_equal(fclose(file), 0);
}

/* one.tar: 300 members of 0 to 100 KB, one of 17 MB; two.tar: 50 small ones, with other files of 200 KB between;
 * loose/: 5. */
static int set_up(void **state)
{
    (void)state;
    strcpy(place, "/tmp/myriops-ahead-XXXXXX");
    myr_log_init("test", false, true);
    if (!mkdtemp(place) || chdir(place) != 0)
        return -1;
    run("mkdir one two loose");
    char name[64];
    for (uint64_t i = 0; i < 300; i++) {
        snprintf(name, sizeof name, "one/a%03d.jpg", (int)i);
        make_member(name, i == 150 ? 17 << 20 : i == 7 ? 0 : myr_hash64(i, 5) % 100000, i);
    }
    for (uint64_t i = 0; i < 50; i++) {
        snprintf(name, sizeof name, "two/b%03d.jpg", (int)i);
        make_member(name, 300, 1000 + i);
        snprintf(name, sizeof name, "two/b%03d.txt", (int)i);
        make_member(name, i < 25 ? 200000 : 10, 2000 + i);
    }
    for (uint64_t i = 0; i < 5; i++) {
        snprintf(name, sizeof name, "loose/c%03d.jpg", (int)i);
        make_member(name, 5000, 3000 + i);
    }
    run("tar cf one.tar --sort=name -C one . && tar cf two.tar --sort=name -C two . && rm -r one two");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    char command[96];
    snprintf(command, sizeof command, "rm -rf %s", place);
    return chdir("/") == 0 && system(command) == 0 ? 0 : -1;
}

static myr_corpus *open_all(void)
{
    static const char *const operands[] = {"one.tar", "two.tar", "loose"};
    myr_corpus *corpus = NULL;
    if (myr_corpus_open(operands, 3, NULL, &corpus) != MYR_OK)
        fail_msg("%s", myr_error_detail());
    assert_int_equal(myr_corpus_n_items(corpus), 355);
    return corpus;
}

static myr_item_list *list_of(const myr_corpus *corpus, int64_t first, int64_t n)
{
    myr_buffer message = {0};
    myr_item_list *list = NULL;
    assert_int_equal(myr_corpus_pack(corpus, first, n, &message), MYR_OK);
    assert_int_equal(myr_item_list_unpack(message.data, message.size, &list), MYR_OK);
    myr_buffer_free(&message);
    return list;
}

/* Whether an item's bytes, by this reader, are those of its file. */
static bool is_right(myr_item_reader *reader, const myr_item *item)
{
    const void *bytes;
    size_t n_bytes;
    if (myr_item_reader_read(reader, item, &bytes, &n_bytes) != MYR_OK || n_bytes != item->n_bytes || !bytes)
        return false;
    FILE *file = fopen(item->source, "rb");
    char *wanted = malloc(n_bytes + 1);
    bool fine = file && wanted && fseek(file, (long)item->offset, SEEK_SET) == 0 &&
                fread(wanted, 1, n_bytes, file) == n_bytes && memcmp(wanted, bytes, n_bytes) == 0;
    if (file)
        fclose(file);
    free(wanted);
    return fine;
}

typedef struct crowd {
    myr_item_list *list;
    myr_ahead_range *range;
    pthread_mutex_t lock;
    int64_t next, stop_at, n_right;
} crowd;

static void *borrow_in_turn(void *context)
{
    crowd *all = context;
    myr_item_reader *reader = NULL;
    if (myr_item_reader_create(&reader) != MYR_OK)
        return NULL;
    for (;;) {
        pthread_mutex_lock(&all->lock);
        int64_t first = all->next, n_right = 0;
        all->next += BATCH;
        pthread_mutex_unlock(&all->lock);
        if (first >= all->stop_at)
            break;
        if (all->range)
            myr_ahead_lend(all->range, first, reader);
        for (int64_t i = first; i < first + BATCH && i < myr_item_list_n(all->list); i++) {
            myr_item item;
            myr_item_list_item(all->list, i, &item);
            n_right += is_right(reader, &item);
        }
        if (all->range)
            myr_ahead_return(all->range, first, reader);
        pthread_mutex_lock(&all->lock);
        all->n_right += n_right;
        pthread_mutex_unlock(&all->lock);
    }
    myr_item_reader_free(reader);
    return NULL;
}

/* Several lists at once, as a crew has them; the last ones are left before their end. */
static void threads_borrow_what_is_read(void **state)
{
    (void)state;
    myr_corpus *corpus = open_all();
    for (int turn = 0; turn < 20; turn++) {
        myr_ahead *ahead = NULL;
        assert_int_equal(myr_ahead_create(NULL, &ahead), MYR_OK);
        enum { N = 4 };
        static const int64_t firsts[N] = {0, 100, 260, 320}, counts[N] = {100, 160, 60, 35};
        crowd lists[N];
        for (int i = 0; i < N; i++) {
            lists[i] = (crowd){.list = list_of(corpus, firsts[i], counts[i]), .stop_at = counts[i]};
            pthread_mutex_init(&lists[i].lock, NULL);
            assert_int_equal(myr_ahead_add(ahead, lists[i].list, BATCH, &lists[i].range), MYR_OK);
            assert_int_equal(lists[i].range != NULL, true);
        }
        lists[1].stop_at = 16 * (turn % 10);
        for (int i = 0; i < N; i++) {
            pthread_t threads[3];
            for (int t = 0; t < 3; t++)
                assert_int_equal(pthread_create(&threads[t], NULL, borrow_in_turn, &lists[i]), 0);
            for (int t = 0; t < 3; t++)
                pthread_join(threads[t], NULL);
            assert_int_equal(lists[i].n_right, lists[i].stop_at);
            myr_ahead_end(lists[i].range);
        }
        myr_ahead_free(ahead);
        for (int i = 0; i < N; i++) {
            myr_item_list_free(lists[i].list);
            pthread_mutex_destroy(&lists[i].lock);
        }
    }
    myr_corpus_free(corpus);
}

/* What is lent is not read again: it is there when the file no longer is. What is not lent is missed. */
static void lent_bytes_need_no_file(void **state)
{
    (void)state;
    myr_corpus *corpus = open_all();
    myr_item_list *list = list_of(corpus, 0, 355);
    myr_ahead *ahead = NULL;
    myr_ahead_range *range = NULL;
    myr_item_reader *reader = NULL;
    assert_int_equal(myr_ahead_create(NULL, &ahead), MYR_OK);
    assert_int_equal(myr_ahead_add(ahead, list, BATCH, &range), MYR_OK);
    assert_int_equal(myr_item_reader_create(&reader), MYR_OK);
    int64_t n_lent = 0, n_read = 0;
    for (int64_t first = 0; first < 355; first += BATCH) {
        myr_ahead_lend(range, first, reader);
        run("mv one.tar away.one && mv two.tar away.two && mv loose away");
        for (int64_t i = first; i < first + BATCH && i < 355; i++) {
            myr_item item;
            const void *bytes;
            size_t n_bytes;
            myr_item_list_item(list, i, &item);
            n_lent += myr_item_reader_read(reader, &item, &bytes, &n_bytes) == MYR_OK;
            n_read++;
        }
        run("mv away.one one.tar && mv away.two two.tar && mv away loose");
        myr_ahead_return(range, first, reader);
    }
    assert_int_equal(n_read, 355);
    /* Not the batch with 17 MB, nor that across both tars, nor those that are small things far apart, nor loose files.
     */
    assert_in_range(n_lent, 300 - 16, 350);
    assert_in_range(n_lent, 1, 355 - 5 - 8 - 16);
    myr_ahead_end(range);
    myr_ahead_free(ahead);
    myr_item_reader_free(reader);
    myr_item_list_free(list);
    myr_corpus_free(corpus);
}

/* A file that became shorter is found out item by item. */
static void a_changed_tar_is_told(void **state)
{
    (void)state;
    myr_corpus *corpus = open_all();
    myr_item_list *list = list_of(corpus, 0, 100);
    run("cp one.tar whole && truncate -s 1000000 one.tar");
    myr_ahead *ahead = NULL;
    myr_ahead_range *range = NULL;
    myr_item_reader *reader = NULL;
    assert_int_equal(myr_ahead_create(NULL, &ahead), MYR_OK);
    assert_int_equal(myr_ahead_add(ahead, list, BATCH, &range), MYR_OK);
    assert_int_equal(myr_item_reader_create(&reader), MYR_OK);
    int n_fine = 0, n_changed = 0;
    for (int64_t first = 0; first < 100; first += BATCH) {
        myr_ahead_lend(range, first, reader);
        for (int64_t i = first; i < first + BATCH && i < 100; i++) {
            myr_item item;
            const void *bytes;
            size_t n_bytes;
            myr_item_list_item(list, i, &item);
            myr_status status = myr_item_reader_read(reader, &item, &bytes, &n_bytes);
            n_fine += status == MYR_OK;
            n_changed += status == MYR_ERR_FORMAT && strstr(myr_error_detail(), "changed since it was listed");
        }
        myr_ahead_return(range, first, reader);
    }
    assert_true(n_fine > 5 && n_changed > 50 && n_fine + n_changed == 100);
    run("mv whole one.tar");
    myr_ahead_end(range);
    myr_ahead_free(ahead);
    myr_item_reader_free(reader);
    myr_item_list_free(list);
    myr_corpus_free(corpus);
}

static void wait_for(const myr_stage *stage, const char *source)
{
    for (int i = 0; i < 2000 && !myr_stage_find(stage, source); i++)
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    assert_non_null(myr_stage_find(stage, source));
}

static void tars_are_copied_once(void **state)
{
    (void)state;
    myr_corpus *corpus = open_all();
    myr_buffer list = {0};
    myr_stage *copier = NULL, *other = NULL;
    assert_int_equal(myr_stage_list(corpus, &list), MYR_OK);
    assert_int_equal(myr_stage_open("near/by", list.data, list.size, true, true, &copier), MYR_OK);
    assert_int_equal(myr_stage_open("near/by", list.data, list.size, false, true, &other), MYR_OK);
    wait_for(copier, "one.tar");
    wait_for(other, "two.tar");
    assert_null(myr_stage_find(copier, "loose/c000.jpg"));
    assert_null(myr_stage_find(NULL, "one.tar"));
    run("cmp one.tar %s && cmp two.tar %s && [ $(ls near/by | wc -l) = 2 ]", myr_stage_find(other, "one.tar"),
        myr_stage_find(copier, "two.tar"));
    assert_int_equal(myr_stage_n_copied(other), 0);
    myr_stage_close(other);
    myr_stage_close(copier);
    run("[ $(ls near/by | wc -l) = 2 ]");

    /* Kept ones are taken as they are; a copy of another size is none, a tar that changed has another. */
    assert_int_equal(myr_stage_open("near/by", list.data, list.size, true, false, &copier), MYR_OK);
    wait_for(copier, "two.tar");
    assert_int_equal(myr_stage_n_copied(copier), 0);
    run("touch near/by/left.partial"); /* of somebody else: stays */
    myr_stage_close(copier);
    run("[ $(ls near/by) = left.partial ]");
    char *half = NULL;
    assert_int_equal(myr_stage_open("near/by", list.data, list.size, true, true, &copier), MYR_OK);
    wait_for(copier, "two.tar");
    half = myr_strdup(myr_stage_find(copier, "one.tar"));
    myr_stage_close(copier);
    run("truncate -s 5000 %s && touch %s.partial", half, half);
    assert_int_equal(myr_stage_open("near/by", list.data, list.size, true, true, &copier), MYR_OK);
    wait_for(copier, "one.tar");
    run("cmp one.tar %s && [ ! -e %s.partial ]", half, half);
    for (int i = 0; i < 2000 && myr_stage_n_copied(copier) == 0; i++) /* counted when its folder is on disk too */
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    assert_int_equal(myr_stage_n_copied(copier), 1);
    myr_stage_close(copier);
    run("touch -d '2001-01-01' one.tar");
    myr_buffer_clear(&list);
    assert_int_equal(myr_stage_list(corpus, &list), MYR_OK);
    assert_int_equal(myr_stage_open("near/by", list.data, list.size, true, false, &copier), MYR_OK);
    wait_for(copier, "one.tar");
    assert_string_not_equal(myr_stage_find(copier, "one.tar"), half);
    myr_stage_close(copier);
    free(half);

    /* Damaged lists are refused. */
    for (size_t n = 1; n < list.size; n++) {
        myr_status status = myr_stage_open("near/by", list.data, n, false, false, &copier);
        assert_true(status == MYR_ERR_FORMAT || status == MYR_OK);
        if (status == MYR_OK)
            myr_stage_close(copier);
        else
            assert_null(copier);
    }
    assert_int_equal(myr_stage_open("one.tar/folder", list.data, list.size, false, false, &copier), MYR_ERR_IO);
    myr_buffer_free(&list);
    myr_corpus_free(corpus);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_borrow_what_is_read),
        cmocka_unit_test(lent_bytes_need_no_file),
        cmocka_unit_test(a_changed_tar_is_told),
        cmocka_unit_test(tars_are_copied_once),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
