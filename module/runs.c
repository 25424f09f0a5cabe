/* AI.MODELEXECUTE, AI.MODELRUN, AI.SCRIPTEXECUTE, AI.SCRIPTRUN: checked here, then a job of a worker. */
#include <stdio.h>

#include "alloc.h"
#include "command.h"
#include "errors.h"
#include "jobs.h"
#include "map.h"
#include "run.h"

static uint64_t seed; /* of batches' names */

/* ---- batches ---- */

typedef struct {
    uint64_t hash;
} mixer;

static void mix(mixer *m, const void *bytes, size_t len) {
    uint64_t both[2] = {m->hash, km_hash_bytes(bytes, len, seed)};
    m->hash = km_hash_bytes(both, sizeof both, seed);
}

/* 1 if the run can be one with others: its batch is what such runs have in common. */
static int batch_of(RedisModuleCtx *ctx, const km_step *step, km_batch *batch) {
    void *value;
    if (km_find_value(ctx, step->key, km_model_type, km_no_model, &value)) return 0;
    const km_model *m = value;
    if (m->batch_size == 0) return 0;
    *batch = (km_batch){.min = m->min_batch_size, .max = m->batch_size, .wait_ms = m->min_batch_timeout_ms};
    mixer mixed = {seed};
    mix(&mixed, &m->version, sizeof m->version);
    mix(&mixed, &step->outputs.n, sizeof step->outputs.n);
    for (int i = 0; i < step->inputs.n; i++) {
        if (km_find_value(ctx, km_part_at(&step->inputs, i), km_tensor_type, km_no_tensor, &value)) return 0;
        const km_tensor *t = value;
        if (t->n_dims == 0 || (i && t->dims[0] != batch->rows)) return 0;
        batch->rows = t->dims[0];
        mix(&mixed, &t->dtype, sizeof t->dtype);
        mix(&mixed, &t->dims[1], sizeof *t->dims * (size_t)(t->n_dims - 1));
        mix(&mixed, &t->n_dims, sizeof t->n_dims);
    }
    snprintf(batch->name, sizeof batch->name, "batch-%016llx", (unsigned long long)mixed.hash);
    return batch->rows <= batch->max;
}

/* ---- commands ---- */

typedef const char *(*reader)(RedisModuleCtx *ctx, RedisModuleString **argv, int argc, int in_dag, km_step *step);

static int run(RedisModuleCtx *ctx, RedisModuleString **argv, int argc, reader read) {
    if (km_cannot_block(ctx)) return RedisModule_ReplyWithError(ctx, km_not_here);
    km_step step;
    const char *error = read(ctx, argv, argc, 0, &step);
    if (error) return RedisModule_ReplyWithError(ctx, error);
    km_list payload = {0};
    km_list_add_step(&payload, &step);
    km_batch batch;
    int is_model = step.kind == KM_STEP_MODEL;
    km_jobs_submit(ctx, &(km_request){.kind = is_model ? KM_JOB_MODEL : KM_JOB_TORCHSCRIPT, .payload = payload.items, .n = payload.n,
                                      .timeout_ms = step.timeout_ms ? step.timeout_ms : km_config.model_timeout_ms,
                                      .cannot_wait = km_not_here, .late = step.timeout_ms ? "+TIMEDOUT\r\n" : NULL,
                                      .batch = is_model && batch_of(ctx, &step, &batch) ? &batch : NULL});
    km_list_free(&payload);
    return REDISMODULE_OK;
}

/* Tells the server of n keys from argv[at] on, as far as they are there; returns where they end. */
static int tell_keys(RedisModuleCtx *ctx, int argc, int at, long long n, int flags) {
    for (; at < argc && n > 0; n--) RedisModule_KeyAtPosWithFlags(ctx, at++, flags);
    return at;
}

/* A number at argv[at] and as many keys behind it; returns where they end, or argc when that is none. */
static int tell_counted_keys(RedisModuleCtx *ctx, RedisModuleString **argv, int argc, int at, int flags) {
    long long n;
    if (at >= argc || RedisModule_StringToLongLong(argv[at], &n) != REDISMODULE_OK || n < 0 || n > argc - at - 1) return argc;
    return tell_keys(ctx, argc, at + 1, n, flags);
}

/* AI.MODELEXECUTE key INPUTS n key [key ...] OUTPUTS n key [key ...] [TIMEOUT ms] */
static int modelexecute_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (!RedisModule_IsKeysPositionRequest(ctx)) return argc < 8 ? RedisModule_WrongArity(ctx) : run(ctx, argv, argc, km_read_model_execute);
    tell_keys(ctx, argc, 1, 1, KM_READ);
    int at = argc > 3 && km_is_word(argv[2], "inputs") ? tell_counted_keys(ctx, argv, argc, 3, KM_READ) : argc;
    if (at < argc && km_is_word(argv[at], "outputs")) tell_counted_keys(ctx, argv, argc, at + 1, KM_OVERWRITE);
    return REDISMODULE_OK;
}

/* Keys stand behind INPUTS and OUTPUTS, as far as the next word or $ is not one of these. */
static void tell_uncounted_keys(RedisModuleCtx *ctx, RedisModuleString **argv, int argc, int at) {
    for (int flags = 0; at < argc; at++) {
        if (km_is_word(argv[at], "timeout"))
            at++, flags = 0;
        else if (km_is_word(argv[at], "inputs"))
            flags = KM_READ;
        else if (km_is_word(argv[at], "outputs"))
            flags = KM_OVERWRITE;
        else if (flags && !km_is_word(argv[at], "$"))
            RedisModule_KeyAtPosWithFlags(ctx, at, flags);
    }
}

/* AI.MODELRUN key [TIMEOUT ms] INPUTS key [key ...] OUTPUTS key [key ...] */
static int modelrun_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (!RedisModule_IsKeysPositionRequest(ctx)) return argc < 6 ? RedisModule_WrongArity(ctx) : run(ctx, argv, argc, km_read_model_run);
    tell_keys(ctx, argc, 1, 1, KM_READ);
    int at = argc > 2 && km_is_word(argv[2], "timeout") ? 5 : 3, flags = KM_READ;
    for (; at < argc; at++) {
        if (flags == KM_READ && km_is_word(argv[at], "outputs"))
            flags = KM_OVERWRITE;
        else
            RedisModule_KeyAtPosWithFlags(ctx, at, flags);
    }
    return REDISMODULE_OK;
}

int km_script_tell_keys(RedisModuleCtx *ctx, RedisModuleString **argv, int argc, int at, int in_dag) {
    while (at < argc && !km_is_word(argv[at], "|>")) {
        int is_keys = km_is_word(argv[at], "keys"), is_in = km_is_word(argv[at], "inputs"), is_out = km_is_word(argv[at], "outputs");
        long long n;
        if (is_keys || (!in_dag && (is_in || is_out))) {
            at = tell_counted_keys(ctx, argv, argc, at + 1, is_keys ? KM_CHANGE_ANY : is_in ? KM_READ : KM_OVERWRITE);
        } else if (is_in || is_out || km_is_word(argv[at], "args")) {
            if (at + 1 >= argc || RedisModule_StringToLongLong(argv[at + 1], &n) != REDISMODULE_OK || n < 0 || n > argc - at - 2) return argc;
            at += 2 + (int)n;
        } else {
            at += 2; /* TIMEOUT, or nothing that is right */
        }
    }
    return at;
}

/* AI.SCRIPTEXECUTE key function [KEYS n key [key ...]] [INPUTS n key [key ...]] [ARGS n arg [arg ...]] [OUTPUTS n key [key ...]] [TIMEOUT ms] */
static int scriptexecute_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (!RedisModule_IsKeysPositionRequest(ctx)) return argc < 3 ? RedisModule_WrongArity(ctx) : run(ctx, argv, argc, km_read_script_execute);
    tell_keys(ctx, argc, 1, 1, KM_READ);
    km_script_tell_keys(ctx, argv, argc, 3, 0);
    return REDISMODULE_OK;
}

/* AI.SCRIPTRUN key function [TIMEOUT ms] [INPUTS key [key ...] [$ key [key ...]]] [OUTPUTS key [key ...]] */
static int scriptrun_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (!RedisModule_IsKeysPositionRequest(ctx)) return argc < 3 ? RedisModule_WrongArity(ctx) : run(ctx, argv, argc, km_read_script_run);
    tell_keys(ctx, argc, 1, 1, KM_READ);
    tell_uncounted_keys(ctx, argv, argc, 3);
    return REDISMODULE_OK;
}

/* Not to be believed by the server: a user could have a key checked that is not the one written. */
#define KEYS_OF_WORDS(why)                                                                                            \
    {.notes = (why), .flags = KM_CHANGE_ANY | REDISMODULE_CMD_KEY_INCOMPLETE | REDISMODULE_CMD_KEY_VARIABLE_FLAGS,         \
     .begin_search_type = REDISMODULE_KSPEC_BS_UNKNOWN, .find_keys_type = REDISMODULE_KSPEC_FK_UNKNOWN}

static const km_command commands[] = {
    {"AI.MODELEXECUTE", modelexecute_command, "write deny-oom getkeys-api", -8,
     KM_KEYS(KM_KEY_AT(1, KM_READ),
             {.flags = KM_READ, .begin_search_type = REDISMODULE_KSPEC_BS_INDEX, .bs.index.pos = 3,
              .find_keys_type = REDISMODULE_KSPEC_FK_KEYNUM, .fk.keynum = {.keynumidx = 0, .firstkey = 1, .keystep = 1}},
             {.notes = "an input may have the name OUTPUTS, too",
              .flags = KM_OVERWRITE | REDISMODULE_CMD_KEY_INCOMPLETE | REDISMODULE_CMD_KEY_VARIABLE_FLAGS,
              .begin_search_type = REDISMODULE_KSPEC_BS_KEYWORD, .bs.keyword = {.keyword = "OUTPUTS", .startfrom = 5},
              .find_keys_type = REDISMODULE_KSPEC_FK_KEYNUM, .fk.keynum = {.keynumidx = 0, .firstkey = 1, .keystep = 1}}),
     KM_ARGS(KM_KEY("key", 0), KM_BLOCK("inputs", .token = "INPUTS", .subargs = KM_COUNTED_KEYS(1)),
             KM_BLOCK("outputs", .token = "OUTPUTS", .subargs = KM_COUNTED_KEYS(2)), KM_NUMBER("ms", .token = "TIMEOUT", .flags = KM_OPTIONAL)),
     "Runs a model on tensors and stores what comes out.", "O(N), with N tensors, and the model's time", NULL},
    {"AI.MODELRUN", modelrun_command, "write deny-oom getkeys-api", -6, KM_KEYS(KM_KEY_AT(1, KM_READ), KEYS_OF_WORDS("inputs end where OUTPUTS is")),
     KM_ARGS(KM_KEY("key", 0), KM_NUMBER("ms", .token = "TIMEOUT", .flags = KM_OPTIONAL), KM_KEY("key", 1, .token = "INPUTS", .flags = KM_MANY),
             KM_KEY("key", 1, .token = "OUTPUTS", .flags = KM_MANY)),
     "Runs a model as AI.MODELEXECUTE does.", "O(N), with N tensors, and the model's time", NULL},
    {"AI.SCRIPTEXECUTE", scriptexecute_command, "write deny-oom getkeys-api", -3, KM_KEYS(KM_KEY_AT(1, KM_READ), KEYS_OF_WORDS("the parts come in any order")),
     KM_ARGS(KM_KEY("key", 0), KM_TEXT("function"), KM_BLOCK("keys", .token = "KEYS", .flags = KM_OPTIONAL, .subargs = KM_COUNTED_KEYS(1)),
             KM_BLOCK("inputs", .token = "INPUTS", .flags = KM_OPTIONAL, .subargs = KM_COUNTED_KEYS(1)),
             KM_BLOCK("args", .token = "ARGS", .flags = KM_OPTIONAL, .subargs = KM_ARGS(KM_NUMBER("n"), KM_TEXT("arg", .flags = KM_MANY))),
             KM_BLOCK("outputs", .token = "OUTPUTS", .flags = KM_OPTIONAL, .subargs = KM_COUNTED_KEYS(1)),
             KM_NUMBER("ms", .token = "TIMEOUT", .flags = KM_OPTIONAL)),
     "Runs a function of a script and stores the tensors that come out.", "O(N), with N tensors, and the script's time", "nondeterministic_output"},
    {"AI.SCRIPTRUN", scriptrun_command, "write deny-oom getkeys-api", -3, KM_KEYS(KM_KEY_AT(1, KM_READ), KEYS_OF_WORDS("the parts come in any order")),
     KM_ARGS(KM_KEY("key", 0), KM_TEXT("function"), KM_NUMBER("ms", .token = "TIMEOUT", .flags = KM_OPTIONAL),
             KM_KEY("key", 1, .token = "INPUTS", .flags = KM_OPTIONAL | KM_MANY), KM_KEY("key", 1, .token = "$", .flags = KM_OPTIONAL | KM_MANY),
             KM_KEY("key", 1, .token = "OUTPUTS", .flags = KM_OPTIONAL | KM_MANY)),
     "Runs a function of a script that takes tensors one by one, behind $ as a list.", "O(N), with N tensors, and the script's time", "nondeterministic_output"},
};

int km_runs_register(RedisModuleCtx *ctx) {
    seed = km_seed();
    return KM_REGISTER(ctx, commands);
}
