/* A model: an opaque blob that workers load, what it is for, and what its runs cost. */
#ifndef KM_MODEL_H
#define KM_MODEL_H

#include "blob.h"

#define KM_MODEL_MAX_NAMES 1024
#define KM_MODEL_MAX_CHUNKS 1024

typedef struct {
    char *backend, *device, *tag;
    long long batch_size, min_batch_size, min_batch_timeout_ms;
    km_strings inputs, outputs; /* their names; none of both: nobody has looked into it */
    km_blob *blob;
    size_t n_bytes; /* of the blob */
    RedisModuleString *upload; /* the key that has its parts until it is stored, here and on replicas; NULL: none has */
    unsigned long long version; /* new at every store and load: workers cache by it */
    char sha256[65];            /* of the blob, in hex, as a worker computed it; "" before */
    long long calls, samples, duration_us, errors; /* since the start or RESETSTAT; not saved */
} km_model;

extern RedisModuleType *km_model_type;
int km_model_type_register(RedisModuleCtx *ctx);

/* Takes all of it over. */
km_model *km_model_new(char *backend, char *device, char *tag, km_strings inputs, km_strings outputs, km_blob *blob);
void km_model_free(km_model *model);
km_model *km_model_copy(const km_model *model);
km_model *km_model_empty(void); /* to stand at a key for a moment */
/* Replicates the model as a command that stores it, with what was found in it. */
void km_model_replicate(RedisModuleCtx *ctx, RedisModuleString *key, const km_model *model);
unsigned long long km_next_version(void); /* of models and scripts */
static inline int km_model_is_known(const km_model *m) { return m->inputs.n + m->outputs.n > 0; }

/* ai_commands.c */
int km_model_reply_part(RedisModuleCtx *ctx, const km_model *model, long long offset, long long length);
/* The model at a key if it still is that version ("*": any), else NULL after an error reply. */
km_model *km_model_of_version(RedisModuleCtx *ctx, RedisModuleString *name, RedisModuleString *version);

void km_rdb_save_strings(RedisModuleIO *rdb, const km_strings *strings);
int km_rdb_load_strings(RedisModuleIO *rdb, km_strings *out, uint64_t max); /* 0, or -1: what was loaded is in out */

#endif
