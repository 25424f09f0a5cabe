/* AI.TENSORSET, AI.MODELGET and the rest: glue between arguments and the two data types. Storing a model: model_store.c. */
#include <limits.h>

#include "command.h"
#include "jobs.h"
#include "model.h"
#include "tensor.h"

#define MAX_CHUNK_REPLY (16 * 1024 * 1024)
/* VALUES is for people: 4 Mi of them are 120 MB of reply at most and 0.1 s of the main thread. */
#define MAX_VALUES_REPLY (1LL << 22)

static const char *const no_tensor = "ERR tensor key is empty: AI.TENSORSET makes one";
static const char *const no_model = "ERR model key is empty: AI.MODELSTORE makes one";

static void *open_tensor(RedisModuleCtx *ctx, RedisModuleString *name) { return km_value_at(ctx, name, km_tensor_type, no_tensor); }
static void *open_model(RedisModuleCtx *ctx, RedisModuleString *name) { return km_value_at(ctx, name, km_model_type, no_model); }

static int written(RedisModuleCtx *ctx, RedisModuleKey *key, RedisModuleString *name, const char *event) {
    km_written(ctx, key, name, event);
    return RedisModule_ReplyWithSimpleString(ctx, "OK");
}

/* AI.TENSORSET key type dim [dim ...] [BLOB data | VALUES value [value ...]] */
static int tensorset_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc < 4) return RedisModule_WrongArity(ctx);
    size_t len;
    const char *type_name = RedisModule_StringPtrLen(argv[2], &len);
    const km_dtype *dtype = km_dtype_by_name(type_name, len);
    if (!dtype)
        return RedisModule_ReplyWithError(ctx, "ERR invalid data type: use FLOAT, DOUBLE, INT8, INT16, INT32, INT64, UINT8, UINT16 or BOOL");
    long long dims[KM_TENSOR_MAX_DIMS];
    int n_dims = 0, i = 3, has_blob = 0, has_values = 0;
    for (; i < argc; i++) {
        has_blob = km_is_word(argv[i], "blob");
        has_values = km_is_word(argv[i], "values");
        if (has_blob || has_values) break;
        if (n_dims == KM_TENSOR_MAX_DIMS) return RedisModule_ReplyWithError(ctx, "ERR a tensor has from 1 to 32 dimensions");
        if (RedisModule_StringToLongLong(argv[i], &dims[n_dims++]) != REDISMODULE_OK)
            return RedisModule_ReplyWithError(ctx, "ERR every dimension of a tensor must be a whole number, 1 or more");
    }
    i++;
    if (n_dims == 0) return RedisModule_ReplyWithError(ctx, "ERR a tensor has from 1 to 32 dimensions");
    if (has_blob && argc - i != 1) return RedisModule_ReplyWithError(ctx, "ERR BLOB takes one argument: the tensor's bytes");
    const char *error;
    km_tensor *tensor = NULL;
    const char *blob = has_blob ? RedisModule_StringPtrLen(argv[i], &len) : NULL;
    long long n_given = has_values ? argc - i : 0, n = 1;
    /* Counted before anything is allocated: huge dimensions with a small blob cost nothing. */
    for (int k = 0; k < n_dims; k++) n = dims[k] > 0 && n > 0 && n <= KM_TENSOR_MAX_BYTES / dims[k] ? n * dims[k] : -1;
    if (n > 0 && has_blob && len != (size_t)n * dtype->size)
        return RedisModule_ReplyWithError(ctx, "ERR the length of BLOB is not the dimensions' product times the type's size");
    if (n > 0 && has_values && n_given != n)
        return RedisModule_ReplyWithError(ctx, "ERR the number of VALUES is not the dimensions' product");
    tensor = km_tensor_new(dtype, dims, n_dims, &error);
    if (!tensor) return RedisModule_ReplyWithError(ctx, error);
    if (has_blob) {
        memcpy(tensor->data, blob, len);
        for (size_t k = 0; dtype->kind == 'b' && k < len; k++) tensor->data[k] = tensor->data[k] != 0;
    }
    for (long long k = 0; k < n_given; k++) {
        if (km_tensor_set_value(tensor, k, argv[i + k]) == 0) continue;
        km_tensor_free(tensor);
        return RedisModule_ReplyWithError(ctx, "ERR a value is not a number of the tensor's type, or out of its range");
    }
    RedisModuleKey *key = km_open_for_write(ctx, argv[1], km_tensor_type);
    if (!key) {
        km_tensor_free(tensor);
        return REDISMODULE_OK;
    }
    RedisModule_ModuleTypeSetValue(key, km_tensor_type, tensor);
    return written(ctx, key, argv[1], "tensorset");
}

static void reply_values(RedisModuleCtx *ctx, const km_tensor *t) {
    RedisModule_ReplyWithArray(ctx, (long)t->n_elements);
    for (long long i = 0; i < t->n_elements; i++) km_tensor_reply_value(ctx, t, i);
}

/* AI.TENSORGET key [META] [BLOB | VALUES] */
static int tensorget_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc < 2 || argc > 4) return RedisModule_WrongArity(ctx);
    int meta = 0, blob = 0, values = 0;
    for (int i = 2; i < argc; i++) {
        if (km_is_word(argv[i], "meta"))
            meta = 1;
        else if (km_is_word(argv[i], "blob"))
            blob = 1;
        else if (km_is_word(argv[i], "values"))
            values = 1;
        else
            return RedisModule_ReplyWithError(ctx, "ERR unknown option: the syntax is AI.TENSORGET key [META] [BLOB | VALUES]");
    }
    if (blob && values) return RedisModule_ReplyWithError(ctx, "ERR BLOB and VALUES exclude each other");
    if (argc == 2) meta = blob = 1;
    const km_tensor *t = open_tensor(ctx, argv[1]);
    if (!t) return REDISMODULE_OK;
    if (values && t->n_elements > MAX_VALUES_REPLY)
        return RedisModule_ReplyWithError(ctx, "ERR the tensor has more than 4194304 values: ask for its BLOB");
    if (!meta) {
        if (values)
            reply_values(ctx, t);
        else
            RedisModule_ReplyWithStringBuffer(ctx, t->data, t->n_bytes);
        return REDISMODULE_OK;
    }
    RedisModule_ReplyWithArray(ctx, blob || values ? 6 : 4);
    RedisModule_ReplyWithCString(ctx, "dtype");
    RedisModule_ReplyWithCString(ctx, t->dtype->name);
    RedisModule_ReplyWithCString(ctx, "shape");
    RedisModule_ReplyWithArray(ctx, t->n_dims);
    for (int i = 0; i < t->n_dims; i++) RedisModule_ReplyWithLongLong(ctx, t->dims[i]);
    if (blob) {
        RedisModule_ReplyWithCString(ctx, "blob");
        RedisModule_ReplyWithStringBuffer(ctx, t->data, t->n_bytes);
    } else if (values) {
        RedisModule_ReplyWithCString(ctx, "values");
        reply_values(ctx, t);
    }
    return REDISMODULE_OK;
}

static void reply_names(RedisModuleCtx *ctx, const char *field, const km_strings *names) {
    RedisModule_ReplyWithCString(ctx, field);
    RedisModule_ReplyWithArray(ctx, names->n);
    for (int i = 0; i < names->n; i++) RedisModule_ReplyWithString(ctx, names->items[i]);
}

static void reply_blob(RedisModuleCtx *ctx, const km_model *m) {
    if (m->chunks.n > 1) RedisModule_ReplyWithArray(ctx, m->chunks.n);
    for (int i = 0; i < m->chunks.n; i++) RedisModule_ReplyWithString(ctx, m->chunks.items[i]);
}

/* AI.MODELGET key [META] [BLOB] */
static int modelget_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc < 2 || argc > 4) return RedisModule_WrongArity(ctx);
    int meta = argc == 2, blob = argc == 2;
    for (int i = 2; i < argc; i++) {
        if (km_is_word(argv[i], "meta"))
            meta = 1;
        else if (km_is_word(argv[i], "blob"))
            blob = 1;
        else
            return RedisModule_ReplyWithError(ctx, "ERR unknown option: the syntax is AI.MODELGET key [META] [BLOB]");
    }
    const km_model *m = open_model(ctx, argv[1]);
    if (!m) return REDISMODULE_OK;
    if (!meta) {
        reply_blob(ctx, m);
        return REDISMODULE_OK;
    }
    RedisModule_ReplyWithArray(ctx, blob ? 18 : 16);
    km_reply_text(ctx, "backend", m->backend);
    km_reply_text(ctx, "device", m->device);
    km_reply_text(ctx, "tag", m->tag);
    km_reply_number(ctx, "batchsize", m->batch_size);
    km_reply_number(ctx, "minbatchsize", m->min_batch_size);
    reply_names(ctx, "inputs", &m->inputs);
    reply_names(ctx, "outputs", &m->outputs);
    km_reply_number(ctx, "minbatchtimeout", m->min_batch_timeout_ms);
    if (blob) {
        RedisModule_ReplyWithCString(ctx, "blob");
        reply_blob(ctx, m);
    }
    return REDISMODULE_OK;
}

/* AI.MODELDEL key */
static int modeldel_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc != 2) return RedisModule_WrongArity(ctx);
    if (!open_model(ctx, argv[1])) return REDISMODULE_OK;
    RedisModuleKey *key = RedisModule_OpenKey(ctx, argv[1], REDISMODULE_READ | REDISMODULE_WRITE);
    RedisModule_DeleteKey(key);
    return written(ctx, key, argv[1], "modeldel");
}

/* AI.MODELEXECUTE key INPUTS n key [key ...] OUTPUTS n key [key ...] [TIMEOUT ms] */
static int modelexecute_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    int asking_keys = RedisModule_IsKeysPositionRequest(ctx);
    if (argc < 8) return asking_keys ? REDISMODULE_OK : RedisModule_WrongArity(ctx);
    long long n_in = 0, n_out = 0, timeout_ms = 0;
    int ok = km_is_word(argv[2], "inputs") && km_read_number(argv[3], 1, KM_MODEL_MAX_NAMES, &n_in) == 0 && n_in <= argc - 7;
    int out_at = ok ? 4 + (int)n_in : 0;
    ok = ok && km_is_word(argv[out_at], "outputs") && km_read_number(argv[out_at + 1], 1, KM_MODEL_MAX_NAMES, &n_out) == 0;
    int end = ok ? out_at + 2 + (int)n_out : 0;
    ok = ok && (end == argc || (end + 2 == argc && km_is_word(argv[end], "timeout") && km_read_number(argv[end + 1], 0, 86400000, &timeout_ms) == 0));
    if (asking_keys) {
        if (!ok) return REDISMODULE_OK;
        RedisModule_KeyAtPosWithFlags(ctx, 1, KM_READ);
        for (int i = 0; i < n_in; i++) RedisModule_KeyAtPosWithFlags(ctx, 4 + i, KM_READ);
        for (int i = 0; i < n_out; i++) RedisModule_KeyAtPosWithFlags(ctx, out_at + 2 + i, KM_OVERWRITE);
        return REDISMODULE_OK;
    }
    if (!ok)
        return RedisModule_ReplyWithError(ctx, "ERR the syntax is AI.MODELEXECUTE key INPUTS n key [key ...] OUTPUTS n key [key ...] "
                                               "[TIMEOUT ms], n from 1 to 64");
    if (!open_model(ctx, argv[1])) return REDISMODULE_OK;
    for (int i = 0; i < n_in; i++)
        if (!open_tensor(ctx, argv[4 + i])) return REDISMODULE_OK;
    int n = 3 + (int)(n_in + n_out), k = 0;
    RedisModuleString **payload = km_alloc(sizeof *payload * (size_t)n);
    payload[k++] = argv[1];
    for (int i = 3; i < 4 + n_in; i++) payload[k++] = argv[i];
    for (int i = out_at + 1; i < end; i++) payload[k++] = argv[i];
    int result = km_jobs_submit(ctx, KM_JOB_MODEL, payload, n, timeout_ms > 0 ? timeout_ms : km_config.model_timeout_ms,
                                "ERR AI.MODELEXECUTE cannot wait inside MULTI, a script or a module's call");
    km_free(payload);
    return result;
}

/* AI.INFO key [RESETSTAT] */
static int info_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc != 2 && argc != 3) return RedisModule_WrongArity(ctx);
    if (argc == 3 && !km_is_word(argv[2], "resetstat")) return RedisModule_ReplyWithError(ctx, "ERR unknown option: the syntax is AI.INFO key [RESETSTAT]");
    km_model *m = open_model(ctx, argv[1]);
    if (!m) return REDISMODULE_OK;
    if (argc == 3) {
        m->calls = m->samples = m->duration_us = m->errors = 0;
        return RedisModule_ReplyWithSimpleString(ctx, "OK");
    }
    RedisModule_ReplyWithArray(ctx, 18);
    RedisModule_ReplyWithCString(ctx, "key");
    RedisModule_ReplyWithString(ctx, argv[1]);
    km_reply_text(ctx, "type", "MODEL");
    km_reply_text(ctx, "backend", m->backend);
    km_reply_text(ctx, "device", m->device);
    km_reply_text(ctx, "tag", m->tag);
    km_reply_number(ctx, "duration", m->duration_us);
    km_reply_number(ctx, "samples", m->samples);
    km_reply_number(ctx, "calls", m->calls);
    km_reply_number(ctx, "errors", m->errors);
    return REDISMODULE_OK;
}

/* AI.CONFIG GET name: clients ask for MODEL_CHUNK_SIZE, in bytes, before they store a model. */
static int config_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc != 3) return RedisModule_WrongArity(ctx);
    if (!km_is_word(argv[1], "get")) return RedisModule_ReplyWithError(ctx, "ERR the syntax is AI.CONFIG GET name: settings are changed by CONFIG SET keymiss.<name>");
    if (!km_is_word(argv[2], "model_chunk_size")) return RedisModule_ReplyWithNull(ctx);
    return RedisModule_ReplyWithLongLong(ctx, 256 * 1024 * 1024); /* half of what one argument carries by default */
}

/* KM.MODELRAN key calls samples duration_us errors */
static int modelran_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc != 6) return RedisModule_WrongArity(ctx);
    long long n[4];
    for (int i = 0; i < 4; i++)
        if (km_read_number(argv[2 + i], 0, 1LL << 40, &n[i])) return RedisModule_ReplyWithError(ctx, "ERR the figures are whole numbers, 0 or more");
    km_model *m = open_model(ctx, argv[1]);
    if (!m) return REDISMODULE_OK;
    long long *sums[] = {&m->calls, &m->samples, &m->duration_us, &m->errors};
    for (int i = 0; i < 4; i++) *sums[i] = *sums[i] > LLONG_MAX - n[i] ? LLONG_MAX : *sums[i] + n[i];
    return RedisModule_ReplyWithSimpleString(ctx, "OK");
}

/* KM.MODELINFO key */
static int modelinfo_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc != 2) return RedisModule_WrongArity(ctx);
    if (km_look_at_type(ctx, argv[1], 0) == REDISMODULE_KEYTYPE_EMPTY) return RedisModule_ReplyWithNullArray(ctx);
    const km_model *m = open_model(ctx, argv[1]);
    if (!m) return REDISMODULE_OK;
    RedisModule_ReplyWithArray(ctx, 12);
    km_reply_number(ctx, "version", (long long)m->version);
    km_reply_text(ctx, "backend", m->backend);
    km_reply_text(ctx, "device", m->device);
    km_reply_text(ctx, "tag", m->tag);
    km_reply_number(ctx, "size_bytes", (long long)m->n_bytes);
    km_reply_text(ctx, "sha256", m->sha256);
    return REDISMODULE_OK;
}

/* The model if it still is that version, else NULL after an error reply. "*" is any version. */
static km_model *open_version(RedisModuleCtx *ctx, RedisModuleString *name, RedisModuleString *version) {
    long long wanted = -1;
    int any = km_is_word(version, "*");
    if (!any && RedisModule_StringToLongLong(version, &wanted) != REDISMODULE_OK) {
        RedisModule_ReplyWithError(ctx, "ERR the version is a whole number: KM.MODELINFO says which");
        return NULL;
    }
    km_model *m = open_model(ctx, name);
    if (!m || any || (long long)m->version == wanted) return m;
    RedisModule_ReplyWithError(ctx, "ERR the model was replaced: KM.MODELINFO says its version now");
    return NULL;
}

/* KM.MODELCHUNK key version offset length */
static int modelchunk_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc != 5) return RedisModule_WrongArity(ctx);
    long long offset, length;
    if (km_read_number(argv[3], 0, 1LL << 50, &offset) || km_read_number(argv[4], 0, MAX_CHUNK_REPLY, &length))
        return RedisModule_ReplyWithError(ctx, "ERR the offset is 0 or more, the length at most 16777216");
    const km_model *m = open_version(ctx, argv[1], argv[2]);
    if (!m) return REDISMODULE_OK;
    for (int i = 0; i < m->chunks.n; i++) {
        size_t len;
        const char *bytes = RedisModule_StringPtrLen(m->chunks.items[i], &len);
        if ((size_t)offset < len) { /* up to the end of this chunk; the caller asks on */
            size_t left = len - (size_t)offset;
            return RedisModule_ReplyWithStringBuffer(ctx, bytes + offset, left < (size_t)length ? left : (size_t)length);
        }
        offset -= (long long)len;
    }
    return RedisModule_ReplyWithStringBuffer(ctx, "", 0);
}

/* KM.MODELDIGEST key version sha256 */
static int modeldigest_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc != 4) return RedisModule_WrongArity(ctx);
    size_t len;
    const char *hex = RedisModule_StringPtrLen(argv[3], &len);
    if (len != 64 || strspn(hex, "0123456789abcdef") != 64)
        return RedisModule_ReplyWithError(ctx, "ERR the digest must be 64 lower-case hex digits");
    km_model *m = open_version(ctx, argv[1], argv[2]);
    if (!m) return REDISMODULE_OK;
    if (strcmp(m->sha256, hex) == 0) return RedisModule_ReplyWithLongLong(ctx, 1); /* another worker was first */
    memcpy(m->sha256, hex, 65);
    RedisModule_SignalModifiedKey(ctx, argv[1]);
    /* A replica's version is its own: it applies to whatever came before in the stream. */
    RedisModule_Replicate(ctx, "KM.MODELDIGEST", "scs", argv[1], "*", argv[3]);
    return RedisModule_ReplyWithLongLong(ctx, 1);
}

static const km_command commands[] = {
    {"ai.tensorset", tensorset_command, "write deny-oom", -4, KM_KEYS(KM_KEY_AT(1, KM_OVERWRITE)),
     KM_ARGS(KM_KEY("key", 0), KM_TEXT("type"), KM_NUMBER("dim", .flags = KM_MANY),
             KM_ONE_OF("contents", .flags = KM_OPTIONAL,
                       .subargs = KM_ARGS(KM_TEXT("data", .token = "BLOB"), KM_TEXT("value", .token = "VALUES", .flags = KM_MANY)))),
     "Stores a tensor.", "O(N), with N elements", NULL},
    {"ai.tensorget", tensorget_command, "readonly", -2, KM_KEYS(KM_KEY_AT(1, KM_READ)),
     KM_ARGS(KM_KEY("key", 0), KM_WORD("meta", "META", .flags = KM_OPTIONAL),
             KM_ONE_OF("contents", .flags = KM_OPTIONAL, .subargs = KM_ARGS(KM_WORD("blob", "BLOB"), KM_WORD("values", "VALUES")))),
     "Gives a tensor's type, shape and contents.", "O(N), with N elements", NULL},
    {"ai.modelget", modelget_command, "readonly", -2, KM_KEYS(KM_KEY_AT(1, KM_READ)),
     KM_ARGS(KM_KEY("key", 0), KM_WORD("meta", "META", .flags = KM_OPTIONAL), KM_WORD("blob", "BLOB", .flags = KM_OPTIONAL)),
     "Gives a model's settings and its blob.", "O(N), with N bytes of blob", NULL},
    {"ai.modeldel", modeldel_command, "write", 2, KM_KEYS(KM_KEY_AT(1, KM_REMOVE)), KM_ARGS(KM_KEY("key", 0)),
     "Deletes a model.", "O(N), with N chunks", NULL},
    {"ai.modelexecute", modelexecute_command, "write deny-oom getkeys-api", -8,
     KM_KEYS(KM_KEY_AT(1, KM_READ),
             {.flags = KM_READ, .begin_search_type = REDISMODULE_KSPEC_BS_INDEX, .bs.index.pos = 3,
              .find_keys_type = REDISMODULE_KSPEC_FK_KEYNUM, .fk.keynum = {.keynumidx = 0, .firstkey = 1, .keystep = 1}},
             /* Not to be believed by the server: a user could have a key checked that is not the one written. */
             {.notes = "an input may have the name OUTPUTS, too",
              .flags = KM_OVERWRITE | REDISMODULE_CMD_KEY_INCOMPLETE | REDISMODULE_CMD_KEY_VARIABLE_FLAGS,
              .begin_search_type = REDISMODULE_KSPEC_BS_KEYWORD, .bs.keyword = {.keyword = "OUTPUTS", .startfrom = 5},
              .find_keys_type = REDISMODULE_KSPEC_FK_KEYNUM, .fk.keynum = {.keynumidx = 0, .firstkey = 1, .keystep = 1}}),
     KM_ARGS(KM_KEY("key", 0),
             KM_BLOCK("inputs", .token = "INPUTS", .subargs = KM_ARGS(KM_NUMBER("n"), KM_KEY("key", 1, .flags = KM_MANY))),
             KM_BLOCK("outputs", .token = "OUTPUTS", .subargs = KM_ARGS(KM_NUMBER("n"), KM_KEY("key", 2, .flags = KM_MANY))),
             KM_NUMBER("ms", .token = "TIMEOUT", .flags = KM_OPTIONAL)),
     "Runs a model on tensors and stores what comes out.", "O(N), with N tensors, and the model's time", NULL},
    {"ai.info", info_command, "readonly", -2, KM_KEYS(KM_KEY_AT(1, KM_READ)),
     KM_ARGS(KM_KEY("key", 0), KM_WORD("resetstat", "RESETSTAT", .flags = KM_OPTIONAL)),
     "Gives a model's settings and what its runs took, or forgets the latter.", "O(1)", "nondeterministic_output"},
    {"ai.config", config_command, "readonly", 3, NULL, KM_ARGS(KM_TEXT("name", .token = "GET")),
     "Says into what chunks to cut a model.", "O(1)", NULL},
    {"km.modelran", modelran_command, "write fast admin", 6, KM_KEYS(KM_KEY_AT(1, KM_CHANGE)),
     KM_ARGS(KM_KEY("key", 0), KM_NUMBER("calls"), KM_NUMBER("samples"), KM_NUMBER("duration_us"), KM_NUMBER("errors")),
     "Adds to the figures of a model's runs.", "O(1)", NULL},
    {"km.modelinfo", modelinfo_command, "readonly fast", 2, KM_KEYS(KM_KEY_AT(1, KM_READ)), KM_ARGS(KM_KEY("key", 0)),
     "Gives a model's version, settings and digest.", "O(1)", NULL},
    {"km.modelchunk", modelchunk_command, "readonly", 5, KM_KEYS(KM_KEY_AT(1, KM_READ)),
     KM_ARGS(KM_KEY("key", 0), KM_TEXT("version"), KM_NUMBER("offset"), KM_NUMBER("length")),
     "Gives a part of a model's blob.", "O(N), with N bytes given", NULL},
    {"km.modeldigest", modeldigest_command, "write admin", 4, KM_KEYS(KM_KEY_AT(1, KM_CHANGE)),
     KM_ARGS(KM_KEY("key", 0), KM_TEXT("version"), KM_TEXT("sha256")),
     "Keeps the digest of a model's blob.", "O(1)", NULL},
};

int km_ai_register(RedisModuleCtx *ctx) {
    if (km_tensor_type_register(ctx) != REDISMODULE_OK || km_model_type_register(ctx) != REDISMODULE_OK) return REDISMODULE_ERR;
    return KM_REGISTER(ctx, commands);
}
