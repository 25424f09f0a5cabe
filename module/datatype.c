#include "datatype.h"

#include "alloc.h"

static long long values_bytes;

/* Values may be freed by the server's lazy-free thread: hence atomic. */
long long km_values_bytes(void) { return __atomic_load_n(&values_bytes, __ATOMIC_RELAXED); }
void km_values_bytes_add(long long bytes) { __atomic_add_fetch(&values_bytes, bytes, __ATOMIC_RELAXED); }

void km_rdb_save_text(RedisModuleIO *rdb, const char *text) { RedisModule_SaveStringBuffer(rdb, text, strlen(text)); }

char *km_rdb_load_text(RedisModuleIO *rdb, size_t max) {
    if (RedisModule_IsIOError(rdb)) return NULL;
    size_t len = 0;
    char *raw = RedisModule_LoadStringBuffer(rdb, &len);
    if (!raw) return NULL;
    char *text = !RedisModule_IsIOError(rdb) && len <= max && !memchr(raw, 0, len) ? km_memdup0(raw, len) : NULL;
    RedisModule_Free(raw);
    return text;
}

/* There are no values, so nothing else is ever called; this is, by RESTORE of a made-up payload. */
static void *no_value(RedisModuleIO *rdb, int encver) {
    (void)rdb;
    (void)encver;
    return NULL;
}

int km_aux_type_register(RedisModuleCtx *ctx, const char *name, int version, RedisModuleTypeMethods part) {
    part.version = REDISMODULE_TYPE_METHOD_VERSION;
    part.rdb_load = no_value;
    return RedisModule_CreateDataType(ctx, name, version, &part) ? REDISMODULE_OK : REDISMODULE_ERR;
}
