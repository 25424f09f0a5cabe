#include "script.h"

#include "alloc.h"
#include "datatype.h"
#include "foreign.h"

#define RDB_VERSION 1
#define MAX_TEXT_BYTES 4096

RedisModuleType *km_script_type;

km_script *km_script_new(char *device, char *tag, char *source, size_t source_len, km_strings entry_points) {
    km_script *s = km_calloc(1, sizeof *s);
    s->device = device;
    s->tag = tag;
    s->source = source;
    s->source_len = source_len;
    s->entry_points = entry_points;
    s->version = km_next_version();
    km_values_bytes_add((long long)(sizeof *s + source_len));
    return s;
}

void km_script_free(void *script) {
    km_script *s = script;
    if (!s) return;
    km_values_bytes_add(-(long long)(sizeof *s + s->source_len));
    km_free(s->device);
    km_free(s->tag);
    km_free(s->source);
    km_strings_free(&s->entry_points);
    km_free(s);
}

/* ---- the data type ---- */

static void rdb_save(RedisModuleIO *rdb, void *value) {
    const km_script *s = value;
    km_rdb_save_text(rdb, s->device);
    km_rdb_save_text(rdb, s->tag);
    RedisModule_SaveStringBuffer(rdb, s->source, s->source_len);
    km_rdb_save_strings(rdb, &s->entry_points);
}

static void *rdb_load(RedisModuleIO *rdb, int encver) {
    char *device = NULL, *tag = NULL, *source = NULL;
    km_strings entry_points = {0};
    if (encver == RDB_VERSION && (device = km_rdb_load_text(rdb, MAX_TEXT_BYTES)) && (tag = km_rdb_load_text(rdb, MAX_TEXT_BYTES)) &&
        (source = km_rdb_load_text(rdb, KM_SCRIPT_MAX_BYTES)) && km_rdb_load_strings(rdb, &entry_points, KM_MODEL_MAX_NAMES) == 0)
        return km_script_new(device, tag, source, strlen(source), entry_points);
    km_free(device);
    km_free(tag);
    km_free(source);
    km_strings_free(&entry_points);
    RedisModule_LogIOError(rdb, "warning", "keymiss: a saved script is damaged, or of a version this module does not know");
    return NULL;
}

static void *foreign_load(RedisModuleIO *rdb, int encver) {
    if (encver != KM_FOREIGN_VERSION) return km_foreign_script(rdb, encver);
    km_foreign_loaded(rdb);
    return rdb_load(rdb, RDB_VERSION);
}

static void aof_rewrite(RedisModuleIO *aof, RedisModuleString *key, void *value) {
    const km_script *s = value;
    const km_strings *e = &s->entry_points;
    if (e->n)
        RedisModule_EmitAOF(aof, "AI.SCRIPTSTORE", "scccclvcb", key, s->device, "TAG", s->tag, "ENTRY_POINTS", (long long)e->n, e->items, (size_t)e->n,
                            "SOURCE", s->source, s->source_len);
    else
        RedisModule_EmitAOF(aof, "AI.SCRIPTSET", "sccccb", key, s->device, "TAG", s->tag, "SOURCE", s->source, s->source_len);
}

void km_script_replicate(RedisModuleCtx *ctx, RedisModuleString *key, const km_script *s) {
    const km_strings *e = &s->entry_points;
    if (e->n)
        RedisModule_Replicate(ctx, "AI.SCRIPTSTORE", "scccclvcb", key, s->device, "TAG", s->tag, "ENTRY_POINTS", (long long)e->n, e->items, (size_t)e->n,
                              "SOURCE", s->source, s->source_len);
    else
        RedisModule_Replicate(ctx, "AI.SCRIPTSET", "sccccb", key, s->device, "TAG", s->tag, "SOURCE", s->source, s->source_len);
}

static size_t mem_usage(const void *value) {
    const km_script *s = value;
    return sizeof *s + s->source_len;
}

static void digest(RedisModuleDigest *md, void *value) {
    const km_script *s = value;
    RedisModule_DigestAddStringBuffer(md, s->device, strlen(s->device));
    RedisModule_DigestAddStringBuffer(md, s->tag, strlen(s->tag));
    RedisModule_DigestAddStringBuffer(md, s->source, s->source_len);
    for (int i = 0; i < s->entry_points.n; i++) {
        size_t len;
        const char *name = RedisModule_StringPtrLen(s->entry_points.items[i], &len);
        RedisModule_DigestAddStringBuffer(md, name, len);
    }
    RedisModule_DigestEndSequence(md);
}

static void *copy(RedisModuleString *from, RedisModuleString *to, const void *value) {
    (void)from;
    (void)to;
    const km_script *s = value;
    return km_script_new(km_memdup0(s->device, strlen(s->device)), km_memdup0(s->tag, strlen(s->tag)), km_memdup0(s->source, s->source_len),
                         s->source_len, km_strings_copy(&s->entry_points));
}

int km_script_type_register(RedisModuleCtx *ctx) {
    RedisModuleTypeMethods methods = {
        .version = REDISMODULE_TYPE_METHOD_VERSION, .rdb_load = rdb_load, .rdb_save = rdb_save, .aof_rewrite = aof_rewrite,
        .mem_usage = mem_usage, .digest = digest, .free = km_script_free, .copy = copy,
    };
    km_script_type = RedisModule_CreateDataType(ctx, "km-script", RDB_VERSION, &methods);
    if (!km_script_type) return REDISMODULE_ERR;
    methods.rdb_load = foreign_load;
    return km_foreign_type_register(ctx, "AI_SCRIPT", &methods, km_script_type, sizeof(km_script));
}
