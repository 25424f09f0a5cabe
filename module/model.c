#include "model.h"

#include "alloc.h"
#include "command.h"
#include "datatype.h"
#include "foreign.h"
#include "shard_models.h"
#include "upload.h"

#define RDB_VERSION 1
#define MAX_TEXT_BYTES 4096

RedisModuleType *km_model_type;

unsigned long long km_next_version(void) {
    static unsigned long long last;
    if (last == 0) last = (unsigned long long)RedisModule_Milliseconds() << 16;
    return ++last;
}

km_model *km_model_new(char *backend, char *device, char *tag, km_strings inputs, km_strings outputs, km_blob *blob) {
    km_model *m = km_calloc(1, sizeof *m);
    m->backend = backend;
    m->device = device;
    m->tag = tag;
    m->inputs = inputs;
    m->outputs = outputs;
    m->blob = blob;
    m->version = km_next_version();
    m->n_bytes = km_blob_bytes(blob);
    km_values_bytes_add((long long)sizeof *m);
    return m;
}

void km_model_free(km_model *m) {
    if (!m) return;
    km_values_bytes_add(-(long long)sizeof *m);
    km_free(m->backend);
    km_free(m->device);
    km_free(m->tag);
    km_strings_free(&m->inputs);
    km_strings_free(&m->outputs);
    km_blob_release(m->blob);
    if (m->upload) RedisModule_FreeString(NULL, m->upload);
    km_free(m);
}

/* ---- the data type ---- */

void km_rdb_save_strings(RedisModuleIO *rdb, const km_strings *strings) {
    RedisModule_SaveUnsigned(rdb, (uint64_t)strings->n);
    for (int i = 0; i < strings->n; i++) RedisModule_SaveString(rdb, strings->items[i]);
}

static void rdb_save(RedisModuleIO *rdb, void *value) {
    const km_model *m = value;
    km_rdb_save_text(rdb, m->backend);
    km_rdb_save_text(rdb, m->device);
    km_rdb_save_text(rdb, m->tag);
    km_rdb_save_text(rdb, m->sha256);
    RedisModule_SaveUnsigned(rdb, (uint64_t)m->batch_size);
    RedisModule_SaveUnsigned(rdb, (uint64_t)m->min_batch_size);
    RedisModule_SaveUnsigned(rdb, (uint64_t)m->min_batch_timeout_ms);
    km_rdb_save_strings(rdb, &m->inputs);
    km_rdb_save_strings(rdb, &m->outputs);
    km_blob_save(rdb, m->blob);
}

int km_rdb_load_strings(RedisModuleIO *rdb, km_strings *out, uint64_t max) {
    if (RedisModule_IsIOError(rdb)) return -1;
    uint64_t n = RedisModule_LoadUnsigned(rdb);
    if (RedisModule_IsIOError(rdb) || n > max) return -1;
    out->items = km_calloc((size_t)n, sizeof *out->items);
    for (uint64_t i = 0; i < n; i++) {
        RedisModuleString *s = RedisModule_LoadString(rdb);
        if (!s) return -1;
        out->items[out->n++] = s;
        if (RedisModule_IsIOError(rdb)) return -1;
    }
    return 0;
}

static void *rdb_load(RedisModuleIO *rdb, int encver) {
    char *backend = NULL, *device = NULL, *tag = NULL, *sha256 = NULL;
    km_strings inputs = {0}, outputs = {0}, chunks = {0};
    uint64_t batch[3] = {0};
    const char *bad = encver == RDB_VERSION ? NULL : "a version this module does not know";
    if (!bad && (!(backend = km_rdb_load_text(rdb, MAX_TEXT_BYTES)) || !(device = km_rdb_load_text(rdb, MAX_TEXT_BYTES)) ||
                 !(tag = km_rdb_load_text(rdb, MAX_TEXT_BYTES)) || !(sha256 = km_rdb_load_text(rdb, 64))))
        bad = "its texts";
    for (int i = 0; i < 3 && !bad; i++) {
        batch[i] = RedisModule_LoadUnsigned(rdb);
        if (RedisModule_IsIOError(rdb) || batch[i] > INT32_MAX) bad = "its batch settings";
    }
    if (!bad && (km_rdb_load_strings(rdb, &inputs, KM_MODEL_MAX_NAMES) || km_rdb_load_strings(rdb, &outputs, KM_MODEL_MAX_NAMES)))
        bad = "its inputs and outputs";
    if (!bad && (km_rdb_load_strings(rdb, &chunks, KM_MODEL_MAX_CHUNKS) || km_strings_bytes(&chunks) == 0)) bad = "its blob";
    if (!bad && sha256[0] && strspn(sha256, "0123456789abcdef") != 64) bad = "its digest";
    if (!bad) {
        km_model *m = km_model_new(backend, device, tag, inputs, outputs, km_blob_new(chunks));
        m->batch_size = (long long)batch[0];
        m->min_batch_size = (long long)batch[1];
        m->min_batch_timeout_ms = (long long)batch[2];
        memcpy(m->sha256, sha256, strlen(sha256) + 1);
        km_free(sha256);
        const RedisModuleString *key = RedisModule_GetKeyNameFromIO(rdb);
        if (key) km_shard_models_note((RedisModuleString *)key, m);
        return m;
    }
    km_free(backend);
    km_free(device);
    km_free(tag);
    km_free(sha256);
    km_strings_free(&inputs);
    km_strings_free(&outputs);
    km_strings_free(&chunks);
    RedisModule_LogIOError(rdb, "warning", "keymiss: a saved model is damaged: %s", bad);
    return NULL;
}

static RedisModuleString *number_text(long long n) { return RedisModule_CreateStringPrintf(NULL, "%lld", n); }

/* INPUTS n names OUTPUTS n names, in new strings. */
static km_strings names_arguments(const km_model *m) {
    km_strings out = {0, km_calloc(4 + (size_t)m->inputs.n + (size_t)m->outputs.n, sizeof *out.items)};
    const km_strings *groups[] = {&m->inputs, &m->outputs};
    const char *words[] = {"INPUTS", "OUTPUTS"};
    for (int g = 0; g < 2; g++) {
        if (groups[g]->n == 0) continue;
        out.items[out.n++] = RedisModule_CreateStringPrintf(NULL, "%s", words[g]);
        out.items[out.n++] = number_text(groups[g]->n);
        km_strings names = km_strings_copy(groups[g]);
        for (int i = 0; i < names.n; i++) out.items[out.n++] = names.items[i];
        km_free(names.items);
    }
    return out;
}

/* What a command that stores a model has from its key on, without the blob. */
#define SETTINGS_FORMAT "sccccclclclv"
#define SETTINGS(key, m, names)                                                                                                          \
    (key), (m)->backend, (m)->device, "TAG", (m)->tag, "BATCHSIZE", (m)->batch_size, "MINBATCHSIZE", (m)->min_batch_size, "MINBATCHTIMEOUT", \
        (m)->min_batch_timeout_ms, (names).items, (size_t)(names).n
#define BLOB_FORMAT "cv"
#define BLOB(chunks) "BLOB", (chunks).items, (size_t)(chunks).n

static void aof_rewrite(RedisModuleIO *aof, RedisModuleString *key, void *value) {
    const km_model *m = value;
    km_strings names = names_arguments(m), chunks = km_blob_strings(m->blob, 0);
    RedisModule_EmitAOF(aof, "AI.MODELSTORE", SETTINGS_FORMAT BLOB_FORMAT, SETTINGS(key, m, names), BLOB(chunks));
    km_strings_free(&names);
    km_strings_free(&chunks);
    if (m->sha256[0]) RedisModule_EmitAOF(aof, "KM.MODELDIGEST", "scc", key, "*", m->sha256);
}

void km_model_replicate(RedisModuleCtx *ctx, RedisModuleString *key, const km_model *m) {
    km_strings names = names_arguments(m), chunks = {0};
    if (m->upload && km_upload_take(ctx, m->upload, m->blob)) { /* replicas have the parts */
        RedisModule_Replicate(ctx, "KM.MODELPUT", "s" SETTINGS_FORMAT, m->upload, SETTINGS(key, m, names));
    } else {
        chunks = km_blob_strings(m->blob, km_cannot_block(ctx)); /* model_store.c says why */
        RedisModule_Replicate(ctx, "AI.MODELSTORE", SETTINGS_FORMAT BLOB_FORMAT, SETTINGS(key, m, names), BLOB(chunks));
    }
    km_strings_free(&names);
    km_strings_free(&chunks);
    if (m->sha256[0]) RedisModule_Replicate(ctx, "KM.MODELDIGEST", "scc", key, "*", m->sha256);
}

static size_t mem_usage(const void *value) {
    const km_model *m = value;
    return sizeof *m + km_blob_heap_bytes(m->blob);
}

static void digest(RedisModuleDigest *md, void *value) {
    const km_model *m = value;
    const char *texts[] = {m->backend, m->device, m->tag, m->sha256};
    const long long batch[] = {m->batch_size, m->min_batch_size, m->min_batch_timeout_ms};
    const km_strings *groups[] = {&m->inputs, &m->outputs};
    for (int i = 0; i < 4; i++) RedisModule_DigestAddStringBuffer(md, texts[i], strlen(texts[i]));
    for (int i = 0; i < 3; i++) RedisModule_DigestAddLongLong(md, batch[i]);
    for (int g = 0; g < 2; g++) {
        RedisModule_DigestAddLongLong(md, groups[g]->n);
        for (int i = 0; i < groups[g]->n; i++) {
            size_t len;
            const char *bytes = RedisModule_StringPtrLen(groups[g]->items[i], &len);
            RedisModule_DigestAddStringBuffer(md, bytes, len);
        }
    }
    km_blob_digest(md, m->blob);
    RedisModule_DigestEndSequence(md);
}

/* The names too, since either of the two may be freed by the lazy-free thread. The blob is counted. */
km_model *km_model_copy(const km_model *m) {
    km_model *twin = km_model_new(km_memdup0(m->backend, strlen(m->backend)), km_memdup0(m->device, strlen(m->device)),
                                  km_memdup0(m->tag, strlen(m->tag)), km_strings_copy(&m->inputs), km_strings_copy(&m->outputs),
                                  km_blob_share(m->blob));
    twin->batch_size = m->batch_size;
    twin->min_batch_size = m->min_batch_size;
    twin->min_batch_timeout_ms = m->min_batch_timeout_ms;
    memcpy(twin->sha256, m->sha256, sizeof twin->sha256);
    return twin;
}

static void *copy(RedisModuleString *from, RedisModuleString *to, const void *value) {
    (void)from;
    km_model *twin = km_model_copy(value);
    km_shard_models_note(to, twin);
    return twin;
}

km_model *km_model_empty(void) {
    return km_model_new(km_memdup0("", 0), km_memdup0("", 0), km_memdup0("", 0), (km_strings){0}, (km_strings){0}, km_blob_new((km_strings){0}));
}

static void unlinked(RedisModuleString *key, const void *value) { km_shard_models_leaves(key, value); }

static void type_free(void *value) { km_model_free(value); }

static void *foreign_load(RedisModuleIO *rdb, int encver) {
    if (encver != KM_FOREIGN_VERSION) return km_foreign_model(rdb, encver);
    km_foreign_loaded(rdb);
    return rdb_load(rdb, RDB_VERSION);
}

int km_model_type_register(RedisModuleCtx *ctx) {
    RedisModuleTypeMethods methods = {
        .version = REDISMODULE_TYPE_METHOD_VERSION, .rdb_load = rdb_load, .rdb_save = rdb_save,
        .aof_rewrite = aof_rewrite, .mem_usage = mem_usage, .digest = digest, .free = type_free,
        .copy = copy, .unlink = unlinked,
    };
    km_model_type = RedisModule_CreateDataType(ctx, "km-aimodl", RDB_VERSION, &methods);
    if (!km_model_type) return REDISMODULE_ERR;
    methods.rdb_load = foreign_load;
    return km_foreign_type_register(ctx, "AI__MODEL", &methods, km_model_type, sizeof(km_model));
}
