/* A model or script that is to be stored is a candidate first: it belongs to the job that asks a worker to look into it. The
 * worker reads it (KM.CANDIDATE) and says what it found (KM.LOOKED), or fails the job: then what was at the key before is there
 * as ever. It is replicated only when it is stored, with what was found. */
#include "look.h"

#include <limits.h>

#include "command.h"
#include "core.h"
#include "errors.h"
#include "replicas.h"
#include "resp.h"

#define MAX_CHUNK_REPLY (16 * 1024 * 1024)

typedef struct {
    const km_stored *kind;
    void *value;
} candidate;

static void candidate_free(void *of) {
    candidate *c = of;
    if (c->value) c->kind->free(c->value);
    km_free(c);
}

static int will_look(RedisModuleCtx *ctx) {
    int as_told = REDISMODULE_CTX_FLAGS_REPLICATED | REDISMODULE_CTX_FLAGS_LOADING;
    return km_protocol_looks() && !km_cannot_block(ctx) && !(RedisModule_GetContextFlags(ctx) & as_told);
}

int km_store_blocks(RedisModuleCtx *ctx, int wait) { return will_look(ctx) || (wait && km_has_replicas_to_wait_for(ctx)); }

void km_store(RedisModuleCtx *ctx, RedisModuleString *key, const km_stored *kind, void *value, RedisModuleString **payload, int n, int wait) {
    if (will_look(ctx)) {
        candidate *c = km_alloc(sizeof *c);
        *c = (candidate){kind, value};
        km_jobs_submit(ctx, &(km_request){.kind = KM_JOB_LOOK, .payload = payload, .n = n, .timeout_ms = km_config.script_timeout_ms,
                                          .cannot_wait = km_not_here, .candidate = c, .candidate_free = candidate_free});
        return;
    }
    RedisModuleKey *at = km_open_for_write(ctx, key, *kind->type);
    if (!at) {
        kind->free(value);
        return;
    }
    RedisModule_ModuleTypeSetValue(at, *kind->type, value);
    if (kind->stored) kind->stored(key, value);
    km_written(ctx, at, key, kind->event);
    if (wait && km_has_replicas_to_wait_for(ctx))
        km_reply_when_replicas_have_it(ctx);
    else
        RedisModule_ReplyWithSimpleString(ctx, "OK");
}

/* The job that an argument names, if it looks and has its candidate still; else NULL. */
static km_job *job_of(RedisModuleString *arg) {
    long long id;
    if (km_read_number(arg, 0, LLONG_MAX, &id)) return NULL;
    km_job *job = km_job_running((uint64_t)id);
    return job && job->candidate ? job : NULL;
}

/* KM.CANDIDATE id offset length */
static int candidate_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc != 4) return RedisModule_WrongArity(ctx);
    long long offset, length;
    if (km_read_number(argv[2], 0, 1LL << 50, &offset) || km_read_number(argv[3], 0, MAX_CHUNK_REPLY, &length))
        return RedisModule_ReplyWithError(ctx, "ERR the offset is 0 or more, the length at most 16777216");
    const km_job *job = job_of(argv[1]);
    const candidate *c = job ? job->candidate : NULL;
    if (!c || c->kind != &km_stored_model) return RedisModule_ReplyWithError(ctx, "ERR the job is over, or is none that looks into a model");
    return km_model_reply_part(ctx, c->value, offset, length);
}

/* A count and as many names, from argv[*at] on. 0, or -1. */
static int read_names(RedisModuleString **argv, int argc, int *at, km_strings *names) {
    long long n;
    if (*at >= argc || km_read_number(argv[*at], 0, KM_MODEL_MAX_NAMES, &n) || n > argc - *at - 1) return -1;
    *names = (km_strings){(int)n, argv + *at + 1};
    *at += 1 + (int)n;
    return 0;
}

static int read_both_names(RedisModuleCtx *ctx, RedisModuleString **argv, int argc, km_strings *inputs, km_strings *outputs) {
    int at = 3;
    if (read_names(argv, argc, &at, inputs) == 0 && read_names(argv, argc, &at, outputs) == 0 && at == argc) return 0;
    RedisModule_ReplyWithError(ctx, "ERR the inputs and the outputs are a number up to 1024 each, and as many names");
    return -1;
}

static void stored_everywhere(RedisModuleCtx *ctx, unsigned long long id) {
    (void)ctx;
    static const char ok[] = "+OK\r\n";
    km_job *job = km_job_running(id);
    if (job) km_job_done(job, ok, sizeof ok - 1);
}

/* KM.LOOKED key id n_inputs [name ...] n_outputs [name ...]: replies with the model's version, or 0 if nobody waits any more. */
static int looked_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc < 5) return RedisModule_WrongArity(ctx);
    km_strings inputs, outputs;
    if (read_both_names(ctx, argv, argc, &inputs, &outputs)) return REDISMODULE_OK;
    km_job *job = job_of(argv[2]);
    if (!job || !job->waiters) { /* its client has gone, or was told that it took too long */
        km_stats.jobs_late++;
        return RedisModule_ReplyWithLongLong(ctx, 0);
    }
    RedisModuleKey *key = km_open_for_write(ctx, argv[1], *((candidate *)job->candidate)->kind->type);
    if (!key) return REDISMODULE_OK;
    candidate *c = job->candidate;
    job->candidate = NULL;
    if (c->kind->found) c->kind->found(c->value, km_strings_copy(&inputs), km_strings_copy(&outputs));
    RedisModule_ModuleTypeSetValue(key, *c->kind->type, c->value);
    if (c->kind->stored) c->kind->stored(argv[1], c->value);
    km_changed(ctx, key, argv[1], c->kind->event);
    c->kind->replicate(ctx, argv[1], c->value);
    unsigned long long version = c->kind == &km_stored_model ? ((km_model *)c->value)->version : 1;
    c->value = NULL; /* the key's */
    candidate_free(c);
    if (km_has_replicas_to_wait_for(ctx)) {
        km_job_disown(job);
        km_when_replicas_have_it(ctx, stored_everywhere, job->id);
    } else {
        stored_everywhere(ctx, job->id);
    }
    return RedisModule_ReplyWithLongLong(ctx, (long long)version);
}

/* KM.MODELNAMES key version n_inputs [name ...] n_outputs [name ...]: what was found in a model that was stored unlooked. */
static int modelnames_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc < 5) return RedisModule_WrongArity(ctx);
    km_strings inputs, outputs;
    if (read_both_names(ctx, argv, argc, &inputs, &outputs)) return REDISMODULE_OK;
    km_model *m = km_model_of_version(ctx, argv[1], argv[2]);
    if (!m) return REDISMODULE_OK;
    if (!km_model_is_known(m)) {
        km_stored_model.found(m, km_strings_copy(&inputs), km_strings_copy(&outputs));
        RedisModule_SignalModifiedKey(ctx, argv[1]);
        RedisModule_Replicate(ctx, "KM.MODELNAMES", "scv", argv[1], "*", argv + 3, (size_t)argc - 3); /* a replica's version is its own */
    }
    return RedisModule_ReplyWithLongLong(ctx, 1);
}

#define KM_NAMES(word) KM_NUMBER("n_" word), KM_TEXT("name", .flags = KM_OPTIONAL | KM_MANY)

static const km_command commands[] = {
    {"km.looked", looked_command, "write admin", -5, KM_KEYS(KM_KEY_AT(1, KM_OVERWRITE)),
     KM_ARGS(KM_KEY("key", 0), KM_NUMBER("id"), KM_NAMES("inputs"), KM_NAMES("outputs")),
     "Stores what a worker was asked to look into, with what it found, and ends the job.", "O(N), with N chunks", NULL},
    {"km.candidate", candidate_command, "readonly admin", 4, NULL, KM_ARGS(KM_NUMBER("id"), KM_NUMBER("offset"), KM_NUMBER("length")),
     "Gives a part of a model that is to be stored.", "O(N), with N bytes given", "nondeterministic_output"},
    {"km.modelnames", modelnames_command, "write admin", -5, KM_KEYS(KM_KEY_AT(1, KM_CHANGE)),
     KM_ARGS(KM_KEY("key", 0), KM_TEXT("version"), KM_NAMES("inputs"), KM_NAMES("outputs")),
     "Keeps the names of a model's inputs and outputs.", "O(N), with N names", NULL},
};

int km_look_register(RedisModuleCtx *ctx) { return KM_REGISTER(ctx, commands); }
