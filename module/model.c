#include "model.h"

#include "alloc.h"
#include "datatype.h"

#define RDB_VERSION 1
#define MAX_TEXT_BYTES 4096

RedisModuleType *km_model_type;

void km_strings_free(km_strings *strings) {
    for (int i = 0; i < strings->n; i++) RedisModule_FreeString(NULL, strings->items[i]);
    km_free(strings->items);
    *strings = (km_strings){0};
}

static size_t strings_bytes(const km_strings *strings) {
    size_t sum = 0;
    for (int i = 0; i < strings->n; i++) {
        size_t len;
        RedisModule_StringPtrLen(strings->items[i], &len);
        sum += len;
    }
    return sum;
}

km_model *km_model_new(char *backend, char *device, char *tag, km_strings inputs, km_strings outputs, km_strings chunks) {
    static unsigned long long last_version;
    if (last_version == 0) last_version = (unsigned long long)RedisModule_Milliseconds() << 16;
    km_model *m = km_calloc(1, sizeof *m);
    m->backend = backend;
    m->device = device;
    m->tag = tag;
    m->inputs = inputs;
    m->outputs = outputs;
    m->chunks = chunks;
    m->version = ++last_version;
    m->n_bytes = strings_bytes(&chunks);
    km_values_bytes_add((long long)(sizeof *m + m->n_bytes));
    return m;
}

void km_model_free(km_model *m) {
    if (!m) return;
    km_values_bytes_add(-(long long)(sizeof *m + m->n_bytes));
    km_free(m->backend);
    km_free(m->device);
    km_free(m->tag);
    km_strings_free(&m->inputs);
    km_strings_free(&m->outputs);
    km_strings_free(&m->chunks);
    km_free(m);
}

/* ---- the data type ---- */

static void save_strings(RedisModuleIO *rdb, const km_strings *strings) {
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
    save_strings(rdb, &m->inputs);
    save_strings(rdb, &m->outputs);
    save_strings(rdb, &m->chunks);
}

static int load_strings(RedisModuleIO *rdb, km_strings *out, uint64_t max) {
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
    if (!bad && (load_strings(rdb, &inputs, KM_MODEL_MAX_NAMES) || load_strings(rdb, &outputs, KM_MODEL_MAX_NAMES)))
        bad = "its inputs and outputs";
    if (!bad && (load_strings(rdb, &chunks, KM_MODEL_MAX_CHUNKS) || strings_bytes(&chunks) == 0)) bad = "its blob";
    if (!bad && sha256[0] && strspn(sha256, "0123456789abcdef") != 64) bad = "its digest";
    if (!bad) {
        km_model *m = km_model_new(backend, device, tag, inputs, outputs, chunks);
        m->batch_size = (long long)batch[0];
        m->min_batch_size = (long long)batch[1];
        m->min_batch_timeout_ms = (long long)batch[2];
        memcpy(m->sha256, sha256, strlen(sha256) + 1);
        km_free(sha256);
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
        for (int i = 0; i < groups[g]->n; i++) {
            RedisModule_RetainString(NULL, groups[g]->items[i]);
            out.items[out.n++] = groups[g]->items[i];
        }
    }
    return out;
}

static void aof_rewrite(RedisModuleIO *aof, RedisModuleString *key, void *value) {
    const km_model *m = value;
    km_strings names = names_arguments(m);
    RedisModule_EmitAOF(aof, "AI.MODELSTORE", "sccccclclclvcv", key, m->backend, m->device, "TAG", m->tag, "BATCHSIZE",
                        m->batch_size, "MINBATCHSIZE", m->min_batch_size, "MINBATCHTIMEOUT", m->min_batch_timeout_ms,
                        names.items, (size_t)names.n, "BLOB", m->chunks.items, (size_t)m->chunks.n);
    km_strings_free(&names);
    if (m->sha256[0]) RedisModule_EmitAOF(aof, "KM.MODELDIGEST", "scc", key, "*", m->sha256);
}

static size_t mem_usage(const void *value) {
    const km_model *m = value;
    return sizeof *m + m->n_bytes;
}

static void digest(RedisModuleDigest *md, void *value) {
    const km_model *m = value;
    const char *texts[] = {m->backend, m->device, m->tag, m->sha256};
    const long long batch[] = {m->batch_size, m->min_batch_size, m->min_batch_timeout_ms};
    const km_strings *groups[] = {&m->inputs, &m->outputs, &m->chunks};
    for (int i = 0; i < 4; i++) RedisModule_DigestAddStringBuffer(md, texts[i], strlen(texts[i]));
    for (int i = 0; i < 3; i++) RedisModule_DigestAddLongLong(md, batch[i]);
    for (int g = 0; g < 3; g++) {
        RedisModule_DigestAddLongLong(md, groups[g]->n);
        for (int i = 0; i < groups[g]->n; i++) {
            size_t len;
            const char *bytes = RedisModule_StringPtrLen(groups[g]->items[i], &len);
            RedisModule_DigestAddStringBuffer(md, bytes, len);
        }
    }
    RedisModule_DigestEndSequence(md);
}

static km_strings copy_strings(const km_strings *from) {
    km_strings twin = {from->n, km_calloc((size_t)from->n, sizeof *twin.items)};
    for (int i = 0; i < from->n; i++) {
        size_t len;
        const char *bytes = RedisModule_StringPtrLen(from->items[i], &len);
        twin.items[i] = RedisModule_CreateString(NULL, bytes, len);
    }
    return twin;
}

/* COPY: the bytes too, since either of the two may be freed by the lazy-free thread. */
static void *copy(RedisModuleString *from, RedisModuleString *to, const void *value) {
    (void)from;
    (void)to;
    const km_model *m = value;
    km_model *twin = km_model_new(km_memdup0(m->backend, strlen(m->backend)), km_memdup0(m->device, strlen(m->device)),
                                  km_memdup0(m->tag, strlen(m->tag)), copy_strings(&m->inputs), copy_strings(&m->outputs),
                                  copy_strings(&m->chunks));
    twin->batch_size = m->batch_size;
    twin->min_batch_size = m->min_batch_size;
    twin->min_batch_timeout_ms = m->min_batch_timeout_ms;
    memcpy(twin->sha256, m->sha256, sizeof twin->sha256);
    return twin;
}

static void type_free(void *value) { km_model_free(value); }

int km_model_type_register(RedisModuleCtx *ctx) {
    RedisModuleTypeMethods methods = {
        .version = REDISMODULE_TYPE_METHOD_VERSION, .rdb_load = rdb_load, .rdb_save = rdb_save,
        .aof_rewrite = aof_rewrite, .mem_usage = mem_usage, .digest = digest, .free = type_free,
        .copy = copy,
    };
    km_model_type = RedisModule_CreateDataType(ctx, "km-aimodl", RDB_VERSION, &methods);
    return km_model_type ? REDISMODULE_OK : REDISMODULE_ERR;
}
