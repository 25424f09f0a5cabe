/* Reading one RESP2 value, in which RESP3 doubles may stand, that a worker sent as an answer. Bounded in depth; never reads past len. */
#ifndef KM_RESP_H
#define KM_RESP_H

#include <stddef.h>

#define KM_RESP_MAX_DEPTH 16

typedef struct {
    char type;        /* + - : , $ *, or 'n' (null bulk) and 'N' (null array) */
    const char *text; /* for + - $: the bytes, len of them */
    size_t len;
    long long number; /* for ':' the value, for '*' the number of elements */
    double real;      /* for ',' */
} km_resp;

/* Reads the head of the value at *pos and moves *pos behind it (for '*' before its first element).
 * Returns 0, or -1 if the bytes are none. */
int km_resp_next(const char *buf, size_t len, size_t *pos, km_resp *out);

/* 0 if buf holds exactly one complete value, nested at most KM_RESP_MAX_DEPTH deep, else -1. */
int km_resp_check(const char *buf, size_t len);

#endif
