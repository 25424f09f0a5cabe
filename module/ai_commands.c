/* What is asked and told of models that are there, and AI.INFO, AI.CONFIG. Tensors: tensor_commands.c; storing: model_store.c,
 * script_commands.c, look.c; running: runs.c, dag.c. */
#include <limits.h>

#include "command.h"
#include "errors.h"
#include "jobs.h"
#include "load_args.h"
#include "script.h"
#include "shard_models.h"
#include "upload.h"

#define MAX_CHUNK_REPLY (16 * 1024 * 1024)

static km_model *open_model(RedisModuleCtx *ctx, RedisModuleString *name) { return km_value_at(ctx, name, km_model_type, km_no_model); }

/* For workers, who run the shard's model of a name: its key goes with its slot. */
static km_model *shard_model(RedisModuleCtx *ctx, RedisModuleString *name) {
    km_model *m = km_shard_model(ctx, name);
    return m ? m : open_model(ctx, name);
}

static void reply_names(RedisModuleCtx *ctx, const char *field, const km_strings *names) {
    RedisModule_ReplyWithCString(ctx, field);
    RedisModule_ReplyWithArray(ctx, names->n);
    for (int i = 0; i < names->n; i++) RedisModule_ReplyWithString(ctx, names->items[i]);
}

/* `length` bytes of the blob at most, from the offset on: copied only where they are of several chunks. */
static void reply_bytes(RedisModuleCtx *ctx, const km_model *m, size_t offset, size_t length) {
    char *joined = NULL;
    size_t n = 0, left = offset < m->n_bytes ? m->n_bytes - offset : 0;
    if (length > left) length = left;
    for (int i = 0; i < km_blob_n_chunks(m->blob) && n < length; i++) {
        size_t len;
        const char *bytes = km_blob_chunk(m->blob, i, &len);
        if (offset >= len) {
            offset -= len;
            continue;
        }
        size_t here = len - offset < length - n ? len - offset : length - n;
        if (here == length) {
            RedisModule_ReplyWithStringBuffer(ctx, bytes + offset, length);
            return;
        }
        if (!joined) joined = km_alloc(length);
        memcpy(joined + n, bytes + offset, here);
        n += here;
        offset = 0;
    }
    RedisModule_ReplyWithStringBuffer(ctx, joined ? joined : "", n);
    km_free(joined);
}

/* In pieces of AI.CONFIG's MODEL_CHUNK_SIZE, as RedisAI has it: one more than fit, which may be empty. */
static void reply_blob(RedisModuleCtx *ctx, const km_model *m) {
    size_t size = (size_t)km_load_args.model_chunk_size, n = m->n_bytes / size + 1;
    if (n > 1) RedisModule_ReplyWithArray(ctx, (long)n);
    for (size_t i = 0; i < n; i++) reply_bytes(ctx, m, i * size, size);
}

static int reply_model(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    int meta = argc == 2, blob = argc == 2;
    for (int i = 2; i < argc; i++) {
        meta |= km_is_word(argv[i], "meta");
        blob |= km_is_word(argv[i], "blob");
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

/* AI.MODELGET key [META] [BLOB]: a model that nobody has looked into yet (it came by RESTORE, or was stored while no worker was
 * there) is looked into first, if its names are asked for and a worker is there. */
static int modelget_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc < 2 || argc > 4) return RedisModule_WrongArity(ctx);
    const km_model *m = open_model(ctx, argv[1]);
    if (!m) return REDISMODULE_OK;
    int blob_alone = argc == 3 && km_is_word(argv[2], "blob");
    for (int i = 2; i < argc; i++)
        if (!km_is_word(argv[i], "meta") && !km_is_word(argv[i], "blob"))
            return RedisModule_ReplyWithError(ctx, "ERR unknown option: the syntax is AI.MODELGET key [META] [BLOB]");
    if (!blob_alone && !km_model_is_known(m) && strncmp(m->backend, "TF", 2) != 0 && km_protocol_looks()) {
        RedisModuleString *payload[] = {RedisModule_CreateString(ctx, "stored", 6), argv[1]};
        int asked = km_jobs_submit(ctx, &(km_request){.kind = KM_JOB_LOOK, .payload = payload, .n = 2, .timeout_ms = km_config.model_timeout_ms, .again = reply_model});
        RedisModule_FreeString(ctx, payload[0]);
        if (asked == REDISMODULE_OK) return REDISMODULE_OK;
    }
    return reply_model(ctx, argv, argc);
}

/* AI.MODELDEL key */
static int modeldel_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc != 2) return RedisModule_WrongArity(ctx);
    if (!open_model(ctx, argv[1])) return REDISMODULE_OK;
    RedisModuleKey *key = RedisModule_OpenKey(ctx, argv[1], REDISMODULE_READ | REDISMODULE_WRITE);
    RedisModule_DeleteKey(key);
    km_written(ctx, key, argv[1], "modeldel");
    return RedisModule_ReplyWithSimpleString(ctx, "OK");
}

static const char no_figures[] = "ERR cannot find run info for key";

/* What is counted of a model or a script at a key. */
typedef struct {
    const char *type, *backend, *device, *tag;
    long long *calls, *duration_us, *errors, *samples; /* samples: NULL of a script */
} figures;

static figures figures_of_model(km_model *m) {
    return (figures){"MODEL", m->backend, m->device, m->tag, &m->calls, &m->duration_us, &m->errors, &m->samples};
}

/* NULL, or an error's text. */
static const char *figures_of(RedisModuleCtx *ctx, RedisModuleString *name, figures *f) {
    void *value;
    if (km_find_value(ctx, name, km_model_type, no_figures, &value) == NULL) {
        *f = figures_of_model(value);
        return NULL;
    }
    if (km_find_value(ctx, name, km_script_type, no_figures, &value)) return no_figures;
    km_script *s = value;
    *f = (figures){"SCRIPT", "TORCH", s->device, s->tag, &s->calls, &s->duration_us, &s->errors, NULL};
    return NULL;
}

/* AI.INFO key [RESETSTAT] */
static int info_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc != 2 && argc != 3) return RedisModule_WrongArity(ctx);
    figures f;
    const char *error = figures_of(ctx, argv[1], &f);
    if (!error && argc == 3 && !km_is_word(argv[2], "resetstat")) error = "ERR unknown option: the syntax is AI.INFO key [RESETSTAT]";
    if (error) return RedisModule_ReplyWithError(ctx, error);
    if (argc == 3) {
        *f.calls = *f.duration_us = *f.errors = 0;
        if (f.samples) *f.samples = 0;
        return RedisModule_ReplyWithSimpleString(ctx, "OK");
    }
    RedisModule_ReplyWithArray(ctx, 18);
    RedisModule_ReplyWithCString(ctx, "key");
    RedisModule_ReplyWithString(ctx, argv[1]);
    km_reply_text(ctx, "type", f.type);
    km_reply_text(ctx, "backend", f.backend);
    km_reply_text(ctx, "device", f.device);
    km_reply_text(ctx, "tag", f.tag);
    km_reply_number(ctx, "duration", *f.duration_us);
    km_reply_number(ctx, "samples", f.samples ? *f.samples : -1);
    km_reply_number(ctx, "calls", *f.calls);
    km_reply_number(ctx, "errors", *f.errors);
    return REDISMODULE_OK;
}

/* AI.CONFIG GET name | MODEL_CHUNK_SIZE bytes; RedisAI's other subcommands are about libraries that there are none of here. */
static int config_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc < 2) return RedisModule_WrongArity(ctx);
    const char *error = "ERR unsupported subcommand";
    if (km_is_word(argv[1], "get")) {
        if (argc != 3) return RedisModule_WrongArity(ctx);
        if (!km_is_word(argv[2], "model_chunk_size")) return RedisModule_ReplyWithNull(ctx);
        return RedisModule_ReplyWithLongLong(ctx, km_load_args.model_chunk_size);
    }
    if (km_is_word(argv[1], "model_chunk_size")) {
        error = "ERR MODEL_CHUNK_SIZE: missing chunk size";
        if (argc > 2) error = km_load_args_chunk_size(argv[2]) ? "ERR MODEL_CHUNK_SIZE: invalid chunk size" : NULL;
    } else if (km_is_word(argv[1], "loadbackend")) {
        if (argc < 4) return RedisModule_WrongArity(ctx);
        int known = km_is_word(argv[2], "torch") || km_is_word(argv[2], "onnx") || km_is_word(argv[2], "tf") || km_is_word(argv[2], "tflite");
        error = known ? "ERR error loading backend: backends are part of the worker, which has TORCH and ONNX" : "ERR unsupported backend";
    } else if (km_is_word(argv[1], "backendspath")) {
        error = argc > 2 ? "ERR BACKENDSPATH: there are no libraries to find: backends are part of the worker, which has TORCH and ONNX"
                         : "ERR BACKENDSPATH: missing path argument";
    }
    return error ? RedisModule_ReplyWithError(ctx, error) : RedisModule_ReplyWithSimpleString(ctx, "OK");
}

static int scan(RedisModuleCtx *ctx, int argc, const char *what) {
    if (argc != 1) return RedisModule_WrongArity(ctx);
    RedisModuleString *payload[] = {RedisModule_CreateString(ctx, what, strlen(what))};
    km_jobs_submit(ctx, &(km_request){.kind = KM_JOB_SCAN, .payload = payload, .n = 1, .timeout_ms = km_config.script_timeout_ms, .cannot_wait = km_not_here});
    RedisModule_FreeString(ctx, payload[0]);
    return REDISMODULE_OK;
}

/* AI._MODELSCAN: a worker looks through the keys, so that the server does not stand still for it. */
static int modelscan_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    (void)argv;
    return scan(ctx, argc, "models");
}

/* AI._SCRIPTSCAN */
static int scriptscan_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    (void)argv;
    return scan(ctx, argc, "scripts");
}

/* KM.MODELRAN model calls samples duration_us errors: of a script at just that key, too */
static int modelran_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc != 6) return RedisModule_WrongArity(ctx);
    long long n[4], none = 0;
    for (int i = 0; i < 4; i++)
        if (km_read_number(argv[2 + i], 0, 1LL << 40, &n[i])) return RedisModule_ReplyWithError(ctx, "ERR the figures are whole numbers, 0 or more");
    figures f;
    int is_there = km_look_at_type(ctx, argv[1], 0) != REDISMODULE_KEYTYPE_EMPTY;
    if (!is_there || figures_of(ctx, argv[1], &f)) {
        km_model *m = km_shard_model(ctx, argv[1]);
        if (!m) return RedisModule_ReplyWithError(ctx, no_figures);
        f = figures_of_model(m);
    }
    long long *sums[] = {f.calls, f.samples ? f.samples : &none, f.duration_us, f.errors};
    for (int i = 0; i < 4; i++) *sums[i] = *sums[i] > LLONG_MAX - n[i] ? LLONG_MAX : *sums[i] + n[i];
    return RedisModule_ReplyWithSimpleString(ctx, "OK");
}

/* KM.MODELINFO model */
static int modelinfo_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc != 2) return RedisModule_WrongArity(ctx);
    const km_model *m = km_shard_model(ctx, argv[1]);
    if (!m && km_look_at_type(ctx, argv[1], 0) == REDISMODULE_KEYTYPE_EMPTY) return RedisModule_ReplyWithNullArray(ctx);
    if (!m) m = open_model(ctx, argv[1]);
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

km_model *km_model_of_version(RedisModuleCtx *ctx, RedisModuleString *name, RedisModuleString *version) {
    long long wanted = -1;
    int any = km_is_word(version, "*");
    if (!any && RedisModule_StringToLongLong(version, &wanted) != REDISMODULE_OK) {
        RedisModule_ReplyWithError(ctx, "ERR the version is a whole number: KM.MODELINFO says which");
        return NULL;
    }
    km_model *m = shard_model(ctx, name);
    if (!m || any || (long long)m->version == wanted) return m;
    RedisModule_ReplyWithError(ctx, "ERR the model was replaced: KM.MODELINFO says its version now");
    return NULL;
}

/* Up to the end of a chunk: the caller asks on. */
int km_model_reply_part(RedisModuleCtx *ctx, const km_model *m, long long offset, long long length) {
    for (int i = 0; i < km_blob_n_chunks(m->blob); i++) {
        size_t len;
        const char *bytes = km_blob_chunk(m->blob, i, &len);
        if ((size_t)offset < len) {
            size_t left = len - (size_t)offset;
            return RedisModule_ReplyWithStringBuffer(ctx, bytes + offset, left < (size_t)length ? left : (size_t)length);
        }
        offset -= (long long)len;
    }
    return RedisModule_ReplyWithStringBuffer(ctx, "", 0);
}

/* KM.MODELCHUNK model version offset length */
static int modelchunk_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc != 5) return RedisModule_WrongArity(ctx);
    long long offset, length;
    if (km_read_number(argv[3], 0, 1LL << 50, &offset) || km_read_number(argv[4], 0, MAX_CHUNK_REPLY, &length))
        return RedisModule_ReplyWithError(ctx, "ERR the offset is 0 or more, the length at most 16777216");
    const km_model *m = km_model_of_version(ctx, argv[1], argv[2]);
    if (!m) return REDISMODULE_OK;
    return km_model_reply_part(ctx, m, offset, length);
}

/* KM.MODELDIGEST model version sha256 */
static int modeldigest_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc != 4) return RedisModule_WrongArity(ctx);
    size_t len;
    const char *hex = RedisModule_StringPtrLen(argv[3], &len);
    if (len != 64 || strspn(hex, "0123456789abcdef") != 64)
        return RedisModule_ReplyWithError(ctx, "ERR the digest must be 64 lower-case hex digits");
    km_model *m = km_model_of_version(ctx, argv[1], argv[2]);
    if (!m) return REDISMODULE_OK;
    if (strcmp(m->sha256, hex) == 0) return RedisModule_ReplyWithLongLong(ctx, 1); /* another worker was first */
    memcpy(m->sha256, hex, 65);
    km_shard_models_changed();
    RedisModule_SignalModifiedKey(ctx, argv[1]);
    /* A replica's version is its own: it applies to whatever came before in the stream. */
    RedisModule_Replicate(ctx, "KM.MODELDIGEST", "scs", argv[1], "*", argv[3]);
    return RedisModule_ReplyWithLongLong(ctx, 1);
}

static const km_command commands[] = {
    {"AI.MODELGET", modelget_command, "readonly", -2, KM_KEYS(KM_KEY_AT(1, KM_READ)),
     KM_ARGS(KM_KEY("key", 0), KM_WORD("meta", "META", .flags = KM_OPTIONAL), KM_WORD("blob", "BLOB", .flags = KM_OPTIONAL)),
     "Gives a model's settings and its blob.", "O(N), with N bytes of blob", NULL},
    {"AI.MODELDEL", modeldel_command, "write", 2, KM_KEYS(KM_KEY_AT(1, KM_REMOVE)), KM_ARGS(KM_KEY("key", 0)),
     "Deletes a model.", "O(N), with N chunks", NULL},
    {"AI.INFO", info_command, "readonly", -2, KM_KEYS(KM_KEY_AT(1, KM_READ)),
     KM_ARGS(KM_KEY("key", 0), KM_WORD("resetstat", "RESETSTAT", .flags = KM_OPTIONAL)),
     "Gives a model's settings and what its runs took, or forgets the latter.", "O(1)", "nondeterministic_output"},
    {"AI.CONFIG", config_command, "readonly", -2, NULL,
     KM_ARGS(KM_ONE_OF("what", .subargs = KM_ARGS(KM_TEXT("name", .token = "GET"), KM_NUMBER("bytes", .token = "MODEL_CHUNK_SIZE")))),
     "Says, or sets, into what chunks a model is cut.", "O(1)", NULL},
    {"AI._MODELSCAN", modelscan_command, "readonly", 1, NULL, NULL,
     "Lists the models of this shard and their tags.", "O(N), with N keys, on a worker", "nondeterministic_output"},
    {"AI._SCRIPTSCAN", scriptscan_command, "readonly", 1, NULL, NULL,
     "Lists the scripts of this shard and their tags.", "O(N), with N keys, on a worker", "nondeterministic_output"},
    {"km.modelran", modelran_command, "write fast admin", 6, NULL,
     KM_ARGS(KM_TEXT("model"), KM_NUMBER("calls"), KM_NUMBER("samples"), KM_NUMBER("duration_us"), KM_NUMBER("errors")),
     "Adds to the figures of a model's runs.", "O(1)", NULL},
    {"km.modelinfo", modelinfo_command, "readonly fast admin", 2, NULL, KM_ARGS(KM_TEXT("model")),
     "Gives a model's version, settings and digest.", "O(1)", NULL},
    {"km.modelchunk", modelchunk_command, "readonly admin", 5, NULL,
     KM_ARGS(KM_TEXT("model"), KM_TEXT("version"), KM_NUMBER("offset"), KM_NUMBER("length")),
     "Gives a part of a model's blob.", "O(N), with N bytes given", NULL},
    {"km.modeldigest", modeldigest_command, "write admin", 4, NULL,
     KM_ARGS(KM_TEXT("model"), KM_TEXT("version"), KM_TEXT("sha256")),
     "Keeps the digest of a model's blob.", "O(1)", NULL},
};

int km_ai_register(RedisModuleCtx *ctx) {
    if (km_model_type_register(ctx) != REDISMODULE_OK) return REDISMODULE_ERR;
    if (km_blobs_register(ctx) != REDISMODULE_OK || km_upload_register(ctx) != REDISMODULE_OK) return REDISMODULE_ERR;
    if (km_shard_models_register(ctx) != REDISMODULE_OK) return REDISMODULE_ERR;
    return KM_REGISTER(ctx, commands);
}
