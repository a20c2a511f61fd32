/*
 * Once warm, a run of a session allocates nothing, takes no lock and starts no thread: threads that embed side by side
 * then cannot wait for each other in there.
 *
 * The functions that would are replaced by ones that count and pass on. A symbol of the program comes before those of
 * libraries, so that calls from oneDNN, OpenBLAS, OpenMP and the C++ library are counted too, apart: what they do
 * inside a call of ours is not ours to change. It is printed, and held to what is known of it:
 *
 * - oneDNN's dnnl_primitive_execute puts its arguments into a hash table, a few small blocks a call, and locks nothing.
 * - OpenBLAS's sgemm allocates a packing buffer in its kernels for small products, and takes one mutex in
 *   blas_memory_alloc in the others.
 */
#include "files.h"

#include "myriops/calibration.h"

#include <dlfcn.h>
#include <execinfo.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#define SKIPPED 77

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define __SANITIZE_ADDRESS__
#endif
#endif

#if defined(__SANITIZE_ADDRESS__)
/* The sanitizer replaces the same functions. */
int main(void)
{
    return SKIPPED;
}
#else

#define REPLACED __attribute__((visibility("default")))
#define N_FRAMES 24
#define N_RUNS 10
#define N_VALUES (2 * 3 * 20 * 20) /* two pictures */

enum { ALLOCATIONS, RELEASES, MAPPINGS, LOCKS, THREADS, N_KINDS };
static const char *const kind_names[N_KINDS] = {"allocations", "releases", "mappings", "locks", "threads"};

static atomic_bool is_watching;
static atomic_int counts[N_KINDS], library_counts[N_KINDS];
static void *frames[N_KINDS][N_FRAMES]; /* of the first of each kind that is ours */
static int n_frames[N_KINDS];

/* Whether the code at this address belongs to a library that computes, or to one below it. */
static bool is_library(void *address)
{
    static const char *const libraries[] = {"libdnnl", "libopenblas", "libgomp", "libstdc++"};
    Dl_info place;
    if (!dladdr(address, &place) || !place.dli_fname)
        return false;
    for (size_t i = 0; i < sizeof libraries / sizeof *libraries; i++)
        if (strstr(place.dli_fname, libraries[i]))
            return true;
    return false;
}

static void count_call(int kind, void *caller)
{
    if (!atomic_load(&is_watching))
        return;
    atomic_store(&is_watching, false); /* looking at the caller and the stack may do what is counted */
    if (is_library(caller))
        atomic_fetch_add(&library_counts[kind], 1);
    else if (atomic_fetch_add(&counts[kind], 1) == 0)
        n_frames[kind] = backtrace(frames[kind], N_FRAMES);
    atomic_store(&is_watching, true);
}
#define count(kind) count_call(kind, __builtin_return_address(0))

/* The C library's own, under the names it has besides. */
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *block, size_t n);
void *__libc_memalign(size_t alignment, size_t n);
void __libc_free(void *block);

REPLACED void *malloc(size_t n)
{
    count(ALLOCATIONS);
    return __libc_malloc(n);
}

REPLACED void *calloc(size_t n, size_t size)
{
    count(ALLOCATIONS);
    return __libc_calloc(n, size);
}

REPLACED void *realloc(void *block, size_t n)
{
    count(ALLOCATIONS);
    return __libc_realloc(block, n);
}

REPLACED void *aligned_alloc(size_t alignment, size_t n)
{
    count(ALLOCATIONS);
    return __libc_memalign(alignment, n);
}

REPLACED void *memalign(size_t alignment, size_t n);
REPLACED void *memalign(size_t alignment, size_t n)
{
    count(ALLOCATIONS);
    return __libc_memalign(alignment, n);
}

REPLACED int posix_memalign(void **block, size_t alignment, size_t n)
{
    count(ALLOCATIONS);
    *block = __libc_memalign(alignment, n);
    return *block ? 0 : 12; /* ENOMEM */
}

REPLACED void free(void *block)
{
    if (block)
        count(RELEASES);
    __libc_free(block);
}

REPLACED void *mmap(void *address, size_t n, int protection, int flags, int file, off_t offset)
{
    count(MAPPINGS);
    return (void *)syscall(SYS_mmap, address, n, protection, flags, file, offset);
}

REPLACED int munmap(void *address, size_t n)
{
    count(MAPPINGS);
    return (int)syscall(SYS_munmap, address, n);
}

/* A function of this name and one argument in the library behind. */
#define PASS_ON(kind, name, type)                                                                                      \
    REPLACED int name(type *object)                                                                                    \
    {                                                                                                                  \
        static int (*next)(type *);                                                                                    \
        count(kind);                                                                                                   \
        if (!next)                                                                                                     \
            *(void **)&next = dlsym(RTLD_NEXT, #name);                                                                 \
        return next(object);                                                                                           \
    }

PASS_ON(LOCKS, pthread_mutex_lock, pthread_mutex_t)
PASS_ON(LOCKS, pthread_mutex_trylock, pthread_mutex_t)
PASS_ON(LOCKS, pthread_rwlock_rdlock, pthread_rwlock_t)
PASS_ON(LOCKS, pthread_rwlock_wrlock, pthread_rwlock_t)
PASS_ON(LOCKS, pthread_rwlock_tryrdlock, pthread_rwlock_t)
PASS_ON(LOCKS, pthread_rwlock_trywrlock, pthread_rwlock_t)

/* The declaration says that the lock is volatile. */
REPLACED int pthread_spin_lock(pthread_spinlock_t *lock)
{
    static int (*next)(pthread_spinlock_t *);
    count(LOCKS);
    if (!next)
        *(void **)&next = dlsym(RTLD_NEXT, "pthread_spin_lock");
    return next(lock);
}

REPLACED int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *argument)
{
    static int (*next)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    count(THREADS);
    if (!next)
        *(void **)&next = dlsym(RTLD_NEXT, "pthread_create");
    return next(thread, attributes, start, argument);
}

static void clear_counts(void)
{
    for (int i = 0; i < N_KINDS; i++) {
        atomic_store(&counts[i], 0);
        atomic_store(&library_counts[i], 0);
    }
}

/* Without these, a test that counts nothing would prove nothing. */
static void all_kinds_are_counted(void **state)
{
    (void)state;
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    void *volatile block;
    clear_counts();
    atomic_store(&is_watching, true);
    block = malloc(1);
    free(block);
    block = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(block, 4096);
    pthread_mutex_lock(&mutex);
    atomic_store(&is_watching, false);
    pthread_mutex_unlock(&mutex);
    assert_int_equal(atomic_load(&counts[ALLOCATIONS]), 1);
    assert_int_equal(atomic_load(&counts[RELEASES]), 1);
    assert_int_equal(atomic_load(&counts[MAPPINGS]), 2);
    assert_int_equal(atomic_load(&counts[LOCKS]), 1);
}

/* Convolutions of all sorts, sums, pools, products; attention; products with one value a channel. */
static const char *const cases[] = {"residual", "inverted", "pooled", "fire", "excite", "token", "tiled"};

/* Nothing was counted over the runs of a warm session, but what libraries are known to do. */
static bool check_counts(const char *network, const char *backend)
{
    bool steady = true;
    for (int i = 0; i < N_KINDS; i++) {
        int n = atomic_load(&counts[i]), n_library = atomic_load(&library_counts[i]);
        bool may = i == ALLOCATIONS || i == RELEASES || (i == LOCKS && strcmp(backend, "openblas") == 0);
        if (n_library > 0)
            print_message("%s on %s: %.1f %s a run in the library\n", network, backend, (double)n_library / N_RUNS,
                          kind_names[i]);
        if (n == 0 && (n_library == 0 || may))
            continue;
        steady = false;
        print_error("%s on %s: %d %s in %d runs; the first of ours:\n", network, backend, n, kind_names[i], N_RUNS);
        backtrace_symbols_fd(frames[i], n_frames[i], 2);
    }
    return steady && atomic_load(&library_counts[ALLOCATIONS]) == atomic_load(&library_counts[RELEASES]);
}

static void fill(float *pictures)
{
    for (int i = 0; i < N_VALUES; i++)
        pictures[i] = (float)(i * 37 % 101 - 50) / 8;
}

/* As many layers in 8 bits as there are; NULL where none could be. */
static myr_calibration *calibrate(const myr_model *model, const char *backend)
{
    float pictures[N_VALUES];
    myr_calibration *found = NULL;
    fill(pictures);
    myr_status status = myr_calibration_measure(model, "out", pictures, 2,
                                                &(myr_calibration_options){.backend = backend, .cosine = 1e-6}, &found);
    assert_true(status == MYR_OK || status == MYR_ERR_UNSUPPORTED);
    return found;
}

static bool is_steady(const char *what, const char *backend, myr_precision precision)
{
    char path[256];
    myr_model *model;
    myr_network *network;
    myr_session *session;
    const char *output = "out";
    snprintf(path, sizeof path, "%s/%s.onnx", folder, what);
    assert_int_equal(myr_model_load(path, &model), MYR_OK);
    myr_network_options options = {.backend = backend, .batch = 2, .precision = precision};
    myr_calibration *calibration = precision == MYR_PRECISION_INT8 ? calibrate(model, backend) : NULL;
    options.calibration = calibration;
    if (precision == MYR_PRECISION_INT8 && !calibration) {
        myr_model_free(model);
        return true;
    }
    assert_int_equal(myr_network_create(model, &options, &output, 1, &network), MYR_OK);
    myr_calibration_free(calibration);
    myr_model_free(model);
    assert_int_equal(myr_session_create(network, &session), MYR_OK);
    fill(myr_session_input(session));
    for (int i = 0; i < 3; i++)
        assert_int_equal(myr_session_run(session), MYR_OK);
    clear_counts();
    atomic_store(&is_watching, true);
    for (int i = 0; i < N_RUNS; i++)
        myr_session_run(session);
    atomic_store(&is_watching, false);
    snprintf(path, sizeof path, "%s in %s", what, myr_precision_name(myr_network_precision(network)));
    bool steady = check_counts(path, backend);
    myr_session_free(session);
    myr_network_free(network);
    return steady;
}

static bool all_are_steady(void)
{
    bool steady = true;
    for (const char *const *backend = myr_backend_names(); *backend; backend++)
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
            for (myr_precision precision = MYR_PRECISION_F32; precision <= MYR_PRECISION_INT8; precision++)
                steady = is_steady(cases[i], *backend, precision) && steady;
    return steady;
}

static void runs_take_nothing(void **state)
{
    (void)state;
    if (!has_models)
        skip();
    assert_true(all_are_steady());
}

static void *run_in_thread(void *steady)
{
    *(bool *)steady = all_are_steady();
    return NULL;
}

/* As the program's workers do: a thread that is not the first. */
static void runs_in_a_worker_take_nothing(void **state)
{
    (void)state;
    pthread_t thread;
    bool steady = false;
    if (!has_models)
        skip();
    assert_int_equal(pthread_create(&thread, NULL, run_in_thread, &steady), 0);
    pthread_join(thread, NULL);
    assert_true(steady);
}

static int make_all(void **state)
{
    if (make_folder(state) != 0)
        return -1;
    void *frame[1];
    backtrace(frame, 1); /* loads a library at its first call */
    make_files("make_models.py", "", "blocks");
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_kinds_are_counted),
        cmocka_unit_test(runs_take_nothing),
        cmocka_unit_test(runs_in_a_worker_take_nothing),
    };
    return cmocka_run_group_tests(tests, make_all, remove_folder);
}
#endif
