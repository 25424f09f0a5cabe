/* Memory of the pure data structures: the server's allocator in the module (so that it is counted in
 * used_memory), libc's in their own tests. Neither returns NULL: the server's aborts, and so do we. */
#ifndef KM_ALLOC_H
#define KM_ALLOC_H

#include <stdlib.h>
#include <string.h>

#ifdef KM_PURE
static inline void *km_alloc(size_t bytes) {
    void *p = malloc(bytes ? bytes : 1);
    if (!p) abort();
    return p;
}
static inline void *km_calloc(size_t n, size_t bytes) {
    void *p = calloc(n ? n : 1, bytes ? bytes : 1);
    if (!p) abort();
    return p;
}
static inline void km_free(void *p) { free(p); }
#else
#include "kmapi.h"
static inline void *km_alloc(size_t bytes) { return RedisModule_Alloc(bytes ? bytes : 1); }
static inline void *km_calloc(size_t n, size_t bytes) { return RedisModule_Calloc(n ? n : 1, bytes ? bytes : 1); }
static inline void km_free(void *p) {
    if (p) RedisModule_Free(p);
}
#endif

/* A copy of bytes with a NUL behind them, for the log and for strcmp. */
static inline char *km_memdup0(const void *bytes, size_t len) {
    char *copy = km_alloc(len + 1);
    if (len) memcpy(copy, bytes, len);
    copy[len] = '\0';
    return copy;
}

#endif
