/*
 * Status codes and error detail.
 *
 * Every fallible function of Myriops returns a myr_status. On failure it also
 * leaves one sentence for people (what, where, why, what to do) in a buffer of
 * the calling thread, read with myr_error_detail(). The codes and their texts
 * come from the one table below.
 */
#ifndef MYRIOPS_STATUS_H
#define MYRIOPS_STATUS_H

#include <stdarg.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define MYR_API __attribute__((visibility("default")))
#define MYR_PRINTF(text, first) __attribute__((format(printf, text, first)))
#else
#define MYR_API
#define MYR_PRINTF(text, first)
#endif

/* clang-format off */
#define MYR_STATUS_TABLE(X)                                                  \
    X(MYR_OK,              "done")                                           \
    X(MYR_ERR_ARG,         "an argument is out of its range")                \
    X(MYR_ERR_NOMEM,       "not enough memory")                              \
    X(MYR_ERR_IO,          "the operating system refused to read or write")  \
    X(MYR_ERR_NOT_FOUND,   "no such file or name")                           \
    X(MYR_ERR_FORMAT,      "the file is damaged or not what it claims to be")\
    X(MYR_ERR_UNSUPPORTED, "valid, but not supported")                       \
    X(MYR_ERR_LIMIT,       "larger than the limit set for it")               \
    X(MYR_ERR_CONTRACT,    "made by another model or preprocessing")         \
    X(MYR_ERR_STOPPED,     "stopped by a signal; finished work is kept")     \
    X(MYR_ERR_COMM,        "communication between ranks failed")             \
    X(MYR_ERR_INTERNAL,    "a bug in Myriops")
/* clang-format on */

typedef enum myr_status {
#define MYR_STATUS_ENUM(code, text) code,
    MYR_STATUS_TABLE(MYR_STATUS_ENUM)
#undef MYR_STATUS_ENUM
        MYR_N_STATUS
} myr_status;

/* myr_status_text - the table's text for a code. Static storage. */
MYR_API const char *myr_status_text(myr_status status);

/*
 * myr_error_detail - the sentence left by this thread's last failure.
 *
 * Returns:  [borrowed] text, never NULL, valid until this thread's next failure.
 * Threads:  one buffer a thread; a worker hands its text on before it ends.
 */
MYR_API const char *myr_error_detail(void);

/*
 * myr_fail - record a sentence for people and return the code.
 *
 * Typical use: return myr_fail(MYR_ERR_FORMAT, "%s: JPEG ends early", path);
 * Texts longer than 1023 bytes are cut. The format may use the old detail.
 */
MYR_API myr_status myr_fail(myr_status status, const char *format, ...) MYR_PRINTF(2, 3);

#ifdef __cplusplus
}
#endif
#endif
