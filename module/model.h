/* A model: an opaque blob that workers load, what it is for, and what its runs cost. */
#ifndef KM_MODEL_H
#define KM_MODEL_H

#include "kmapi.h"

#define KM_MODEL_MAX_NAMES 64
#define KM_MODEL_MAX_CHUNKS 1024

typedef struct {
    int n;
    RedisModuleString **items;
} km_strings;

typedef struct {
    char *backend, *device, *tag;
    long long batch_size, min_batch_size, min_batch_timeout_ms;
    km_strings inputs, outputs, chunks; /* chunks: the blob, as it was sent */
    size_t n_bytes;
    unsigned long long version; /* new at every store and load: workers cache by it */
    char sha256[65];            /* of the blob, in hex, as a worker computed it; "" before */
    long long calls, samples, duration_us, errors; /* since the start or RESETSTAT; not saved */
} km_model;

extern RedisModuleType *km_model_type;
int km_model_type_register(RedisModuleCtx *ctx);

/* Takes the strings over. */
km_model *km_model_new(char *backend, char *device, char *tag, km_strings inputs, km_strings outputs, km_strings chunks);
void km_model_free(km_model *model);
void km_strings_free(km_strings *strings);

#endif
