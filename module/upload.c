#include "upload.h"

#include "alloc.h"
#include "command.h"
#include "datatype.h"
#include "model.h"

#define RDB_VERSION 1

static RedisModuleType *upload_type;

/* ---- the data type ---- */

static void *rdb_load(RedisModuleIO *rdb, int encver) {
    km_strings chunks = {0};
    if (encver == RDB_VERSION && km_rdb_load_strings(rdb, &chunks, KM_MODEL_MAX_CHUNKS) == 0) return km_blob_new(chunks);
    km_strings_free(&chunks);
    RedisModule_LogIOError(rdb, "warning", "keymiss: a saved part of a model is damaged");
    return NULL;
}

static void rdb_save(RedisModuleIO *rdb, void *value) { km_blob_save(rdb, value); }

static void aof_rewrite(RedisModuleIO *aof, RedisModuleString *key, void *value) {
    km_strings chunks = km_blob_strings(value, 0);
    for (int i = 0; i < chunks.n; i++) RedisModule_EmitAOF(aof, "KM.MODELPART", "ss", key, chunks.items[i]);
    km_strings_free(&chunks);
}

static size_t mem_usage(const void *value) { return km_blob_heap_bytes(value); }
static void digest(RedisModuleDigest *md, void *value) {
    km_blob_digest(md, value);
    RedisModule_DigestEndSequence(md);
}
static void free_value(void *value) { km_blob_release(value); }

/* ---- for those who store a model of it ---- */

km_blob *km_upload_at(RedisModuleCtx *ctx, RedisModuleString *name) {
    return km_value_at(ctx, name, upload_type, "ERR no part of a blob is at the key: KM.MODELPART sends them");
}

int km_upload_take(RedisModuleCtx *ctx, RedisModuleString *name, const km_blob *blob) {
    RedisModuleKey *key = RedisModule_OpenKey(ctx, name, REDISMODULE_READ | REDISMODULE_WRITE);
    int there = km_is_type(key, upload_type) && RedisModule_ModuleTypeGetValue(key) == blob;
    if (there) RedisModule_DeleteKey(key);
    RedisModule_CloseKey(key);
    if (there) RedisModule_SignalModifiedKey(ctx, name);
    return there;
}

/* KM.MODELPART key chunk: replies how many bytes are there now. */
static int modelpart_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc != 3) return RedisModule_WrongArity(ctx);
    size_t len;
    const char *bytes = RedisModule_StringPtrLen(argv[2], &len);
    if (len == 0) return RedisModule_ReplyWithError(ctx, "ERR the part is empty");
    RedisModuleKey *key = km_open_for_write(ctx, argv[1], upload_type);
    if (!key) return REDISMODULE_OK;
    km_blob *blob = km_is_type(key, upload_type) ? RedisModule_ModuleTypeGetValue(key) : NULL;
    const char *error = blob && !km_blob_may_grow(blob)                          ? "ERR a model is being stored of it"
                        : blob && km_blob_n_chunks(blob) == KM_MODEL_MAX_CHUNKS ? "ERR a model's blob is at most 1024 chunks"
                                                                                : NULL;
    if (error) {
        RedisModule_CloseKey(key);
        return RedisModule_ReplyWithError(ctx, error);
    }
    if (!blob) RedisModule_ModuleTypeSetValue(key, upload_type, blob = km_blob_new((km_strings){0}));
    int copy = km_cannot_block(ctx); /* model_store.c says why */
    if (!copy) RedisModule_RetainString(NULL, argv[2]);
    km_blob_append(blob, copy ? RedisModule_CreateString(NULL, bytes, len) : argv[2]);
    km_written(ctx, key, argv[1], "modelpart");
    return RedisModule_ReplyWithLongLong(ctx, (long long)km_blob_bytes(blob));
}

static const km_command commands[] = {
    {"km.modelpart", modelpart_command, "write deny-oom admin", 3, KM_KEYS(KM_KEY_AT(1, KM_CHANGE)),
     KM_ARGS(KM_KEY("key", 0), KM_TEXT("chunk")),
     "Adds a part to a blob, of which KM.MODELPUT makes a model.", "O(1)", NULL},
};

int km_upload_register(RedisModuleCtx *ctx) {
    RedisModuleTypeMethods methods = {
        .version = REDISMODULE_TYPE_METHOD_VERSION, .rdb_load = rdb_load, .rdb_save = rdb_save,
        .aof_rewrite = aof_rewrite, .mem_usage = mem_usage, .digest = digest, .free = free_value,
    };
    upload_type = RedisModule_CreateDataType(ctx, "km-upload", RDB_VERSION, &methods);
    return upload_type ? KM_REGISTER(ctx, commands) : REDISMODULE_ERR;
}
