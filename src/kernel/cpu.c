/*
 * The choice of kernels: what the CPU and its operating system offer, less what
 * MYRIOPS_DISABLE_CPU leaves out, so that every variant can be tested on one machine.
 */
#include "kernel/kernel.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static const myr_kernel *chosen;

static bool has_avx2(void)
{
#if defined(__x86_64__)
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
#else
    return false;
#endif
}

static bool has_avx512(void)
{
#if defined(__x86_64__)
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
#else
    return false;
#endif
}

/* Whether a comma-separated list holds the word. */
static bool lists(const char *list, const char *word)
{
    size_t n = strlen(word);
    while (list && *list) {
        size_t n_item = strcspn(list, ",");
        if (n_item == n && strncmp(list, word, n) == 0)
            return true;
        list += n_item + (list[n_item] == ',');
    }
    return false;
}

bool myr_cpu_may_use(const char *name)
{
    return !lists(getenv("MYRIOPS_DISABLE_CPU"), name);
}

static void choose(void)
{
    bool avx2 = has_avx2() && myr_cpu_may_use("avx2");
    bool avx512 = avx2 && has_avx512() && myr_cpu_may_use("avx512");
    chosen = &myr_kernel_ref;
#if defined(__x86_64__)
    if (avx2)
        chosen = &myr_kernel_avx2;
    if (avx512)
        chosen = &myr_kernel_avx512;
#else
    (void)avx512;
#endif
}

const myr_kernel *myr_kernel_get(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, choose);
    return chosen;
}

const myr_kernel *myr_kernel_variant(size_t i)
{
    const myr_kernel *variants[4] = {&myr_kernel_ref};
#if defined(__x86_64__)
    if (has_avx2())
        variants[1] = &myr_kernel_avx2;
    if (has_avx512())
        variants[2] = &myr_kernel_avx512;
#endif
    return i < 3 ? variants[i] : NULL;
}

const char *myr_cpu_name(void)
{
    return myr_kernel_get()->name;
}
