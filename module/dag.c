/* AI.DAGEXECUTE and its kin: read and checked here, then one job of a worker. Texts and order of the checks are RedisAI's. */
#include "alloc.h"
#include "command.h"
#include "errors.h"
#include "jobs.h"
#include "map.h"
#include "run.h"

#define MAX_STEPS 1024

typedef struct {
    int is_run; /* the elder form, with the elder commands as steps */
    int read_only;
} form;

typedef struct {
    const form *form;
    km_part load, persist;
    int has_routing, n_steps;
    long long timeout_ms;
    km_part *parts; /* each step's arguments; so many as there are |> */
    km_step *steps;
} dag;

static void dag_free(dag *d) {
    for (int i = 0; i < d->n_steps; i++)
        if (d->steps[i].kind == KM_STEP_SET) km_tensor_free(d->steps[i].tensor);
    km_free(d->parts);
    km_free(d->steps);
    km_free(d);
}

static dag *dag_new(const form *form, RedisModuleString **argv, int argc) {
    size_t n = 0;
    for (int i = 0; i < argc && n < MAX_STEPS; i++) n += (size_t)km_is_word(argv[i], "|>");
    dag *d = km_calloc(1, sizeof *d);
    d->form = form;
    d->parts = km_calloc(n, sizeof *d->parts);
    d->steps = km_calloc(n, sizeof *d->steps);
    return d;
}

/* ---- reading ---- */

static const char *read_load(RedisModuleCtx *ctx, RedisModuleString **argv, int argc, int *at, dag *d) {
    long long n;
    if (argc - *at < 3) return "ERR missing arguments after LOAD keyword in DAG command";
    if (RedisModule_StringToLongLong(argv[*at + 1], &n) != REDISMODULE_OK || n <= 0) return "ERR invalid or negative value found in number of keys to LOAD";
    for (int i = *at + 2; i < argc && i < *at + 2 + n; i++) {
        void *tensor;
        const char *error = km_find_value(ctx, argv[i], km_tensor_type, km_no_tensor, &tensor);
        if (error) return error;
    }
    if (n > argc - *at - 2) return "ERR number of keys to LOAD into DAG does not match the number of given arguments";
    d->load = (km_part){.n = (int)n, .items = argv + *at + 2};
    *at += 2 + (int)n;
    return NULL;
}

static const char *read_persist(RedisModuleString **argv, int argc, int *at, dag *d) {
    long long n;
    if (d->form->read_only) return "ERR PERSIST cannot be specified in a read-only DAG";
    if (argc - *at < 3) return "ERR missing arguments after PERSIST keyword in DAG command";
    if (RedisModule_StringToLongLong(argv[*at + 1], &n) != REDISMODULE_OK || n <= 0) return "ERR invalid or negative value found in number of keys to PERSIST";
    if (n > argc - *at - 2) return "ERR number of keys to PERSIST after DAG execution does not match the number of given arguments";
    d->persist = (km_part){.n = (int)n, .items = argv + *at + 2};
    *at += 2 + (int)n;
    return NULL;
}

static const char *read_dag(RedisModuleCtx *ctx, RedisModuleString **argv, int argc, dag *d) {
    for (int at = 1; at < argc;) {
        const char *error = NULL;
        int is_head = d->n_steps == 0;
        if (is_head && !d->load.items && km_is_word(argv[at], "load")) {
            error = read_load(ctx, argv, argc, &at, d);
        } else if (is_head && !d->persist.items && km_is_word(argv[at], "persist")) {
            error = read_persist(argv, argc, &at, d);
        } else if (is_head && !d->has_routing && km_is_word(argv[at], "routing")) {
            if (at + 1 == argc) return "ERR Missing ROUTING value";
            d->has_routing = 1;
            at += 2;
        } else if (is_head && !d->timeout_ms && km_is_word(argv[at], "timeout")) {
            if (at + 1 == argc) return "ERR No value provided for TIMEOUT";
            error = km_read_timeout(argv[at + 1], &d->timeout_ms);
            at += 2;
        } else if (km_is_word(argv[at], "|>") && at < argc - 1) {
            if (d->n_steps == MAX_STEPS) return "ERR a DAG has at most 1024 steps";
            int end = ++at;
            while (end < argc && !km_is_word(argv[end], "|>")) end++;
            d->parts[d->n_steps] = (km_part){.n = end - at, .items = argv + at};
            d->steps[d->n_steps++].kind = KM_STEP_GET; /* until it is read: it owns nothing */
            at = end;
        } else {
            return km_error_about("ERR Invalid DAG command. Unexpected argument:  ", argv[at]);
        }
        if (error) return error;
    }
    if (!d->form->is_run && !d->load.items && !d->persist.items && !d->has_routing)
        return "ERR AI.DAGEXECUTE and AI.DAGEXECUTE_RO commands must contain at least one out of ROUTING, LOAD, PERSIST keywords";
    return d->n_steps ? NULL : "ERR DAG is empty";
}

typedef const char *(*reader)(RedisModuleCtx *ctx, RedisModuleString **argv, int argc, int in_dag, km_step *step);

/* The commands that run something. In the form that a command is not of: what is said of it. */
static const struct {
    const char *word;
    int is_run, is_script;
    reader read;
    const char *wrong_form;
} runs[] = {
    {"ai.modelexecute", 0, 0, km_read_model_execute, "ERR AI.MODELEXECUTE cannot be used in a deprecated AI.DAGRUN command"},
    {"ai.scriptexecute", 0, 1, km_read_script_execute, "ERR AI.SCRIPTEXECUTE cannot be used in a deprecated AI.DAGRUN command"},
    {"ai.modelrun", 1, 0, km_read_model_run, "ERR Deprecated AI.MODELRUN cannot be used in AI.DAGEXECUTE command"},
    {"ai.scriptrun", 1, 1, km_read_script_run, "ERR Deprecated AI.SCRIPTRUN cannot be used in AI.DAGEXECUTE command"},
};

static const char *read_step(RedisModuleCtx *ctx, const form *form, RedisModuleString **argv, int argc, km_step *step) {
    const char *error;
    if (argc == 0) return "ERR Unsupported command within DAG";
    if (km_is_word(argv[0], "ai.tensorget")) {
        int parts;
        if ((error = km_tensor_parts(argv, argc, &parts))) return error;
        *step = (km_step){.kind = KM_STEP_GET, .key = argv[1], .parts = parts};
        step->inputs = (km_part){.n = 1, .items = argv + 1};
        return NULL;
    }
    if (km_is_word(argv[0], "ai.tensorset")) {
        km_tensor *tensor = km_tensor_from_arguments(argv, argc, &error);
        if (!tensor) return error;
        *step = (km_step){.kind = KM_STEP_SET, .key = argv[1], .tensor = tensor};
        step->outputs = (km_part){.n = 1, .items = argv + 1};
        return NULL;
    }
    for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
        if (!km_is_word(argv[0], runs[i].word)) continue;
        if (runs[i].is_run != form->is_run) return runs[i].wrong_form;
        if (runs[i].is_script && form->read_only && !form->is_run) return "ERR AI.SCRIPTEXECUTE command cannot be specified in a read-only DAG";
        km_step read; /* of a kind that owns nothing, also when it is wrong */
        if ((error = runs[i].read(ctx, argv, argc, 1, &read))) return error;
        *step = read;
        return NULL;
    }
    return "ERR Unsupported command within DAG";
}

/* Every input is loaded, or an output of an earlier step; what is kept is there in the end. */
static const char *check_names(const dag *d) {
    km_map *known = km_map_new(km_seed());
    const char *error = NULL;
    size_t len;
    for (int i = 0; i < d->load.n; i++) {
        const char *name = RedisModule_StringPtrLen(km_part_at(&d->load, i), &len);
        km_map_set(known, name, len, known);
    }
    for (int i = 0; i < d->n_steps && !error; i++) {
        for (int k = 0; k < d->steps[i].inputs.n && !error; k++) {
            const char *name = RedisModule_StringPtrLen(km_part_at(&d->steps[i].inputs, k), &len);
            if (!km_map_get(known, name, len)) error = "ERR INPUT key cannot be found in DAG";
        }
        for (int k = 0; k < d->steps[i].outputs.n && !error; k++) {
            const char *name = RedisModule_StringPtrLen(km_part_at(&d->steps[i].outputs, k), &len);
            km_map_set(known, name, len, known);
        }
    }
    static char kept;
    for (int i = 0; i < d->persist.n && !error; i++) {
        const char *name = RedisModule_StringPtrLen(km_part_at(&d->persist, i), &len);
        void *found = km_map_get(known, name, len);
        if (found == &kept) error = "ERR PERSIST keys must be unique";
        if (!found) error = "ERR PERSIST key cannot be found in DAG";
        if (!error) km_map_set(known, name, len, &kept);
    }
    km_map_free(known);
    return error;
}

/* ---- the job ---- */

static void add_step(km_list *payload, const km_step *step) {
    static const char *const kinds[] = {"model", "script", "set", "get"};
    km_list_add_text(payload, kinds[step->kind]);
    if (step->kind == KM_STEP_GET) {
        km_list_add(payload, step->key);
        km_list_add_number(payload, step->parts);
    } else if (step->kind == KM_STEP_SET) {
        const km_tensor *t = step->tensor;
        km_list_add(payload, step->key);
        km_list_add_text(payload, t->dtype->name);
        km_list_add_number(payload, t->n_dims);
        for (int i = 0; i < t->n_dims; i++) km_list_add_number(payload, t->dims[i]);
        km_list_add_bytes(payload, t->data, t->n_bytes);
    } else {
        km_list_add_step(payload, step);
    }
}

static const char *read_all(RedisModuleCtx *ctx, RedisModuleString **argv, int argc, dag *d) {
    const char *error = read_dag(ctx, argv, argc, d);
    for (int i = 0; i < d->n_steps && !error; i++) error = read_step(ctx, d->form, d->parts[i].items, d->parts[i].n, &d->steps[i]);
    return error ? error : check_names(d);
}

static int run(RedisModuleCtx *ctx, RedisModuleString **argv, int argc, const form *form) {
    if (km_cannot_block(ctx)) return RedisModule_ReplyWithError(ctx, km_not_here);
    dag *d = dag_new(form, argv, argc);
    const char *error = read_all(ctx, argv, argc, d);
    if (error) {
        RedisModule_ReplyWithError(ctx, error);
    } else {
        km_list payload = {0};
        km_list_add_number(&payload, form->read_only);
        km_list_add_part(&payload, &d->load);
        km_list_add_part(&payload, &d->persist);
        km_list_add_number(&payload, d->n_steps);
        for (int i = 0; i < d->n_steps; i++) add_step(&payload, &d->steps[i]);
        km_jobs_submit(ctx, &(km_request){.kind = KM_JOB_DAG, .payload = payload.items, .n = payload.n,
                                          .timeout_ms = d->timeout_ms ? d->timeout_ms : km_config.model_timeout_ms, .cannot_wait = km_not_here,
                                          .late = d->timeout_ms ? "+TIMEDOUT\r\n" : NULL});
        km_list_free(&payload);
    }
    dag_free(d);
    return REDISMODULE_OK;
}

/* ---- commands ---- */

static int tell_keys(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    for (int at = 1; at < argc; at++) {
        int is_load = km_is_word(argv[at], "load");
        long long n;
        if (is_load || km_is_word(argv[at], "persist")) {
            if (at + 1 >= argc || RedisModule_StringToLongLong(argv[at + 1], &n) != REDISMODULE_OK || n < 0 || n > argc - at - 2) return REDISMODULE_OK;
            for (int i = 0; i < n; i++) RedisModule_KeyAtPosWithFlags(ctx, at + 2 + i, is_load ? KM_READ : KM_OVERWRITE);
            at += 1 + (int)n;
        } else if (km_is_word(argv[at], "routing") || km_is_word(argv[at], "timeout")) {
            at++;
            if (at < argc && km_is_word(argv[at - 1], "routing")) RedisModule_KeyAtPosWithFlags(ctx, at, KM_ROUTE);
        } else if (km_is_word(argv[at], "|>")) {
            for (size_t i = 0; at + 2 < argc && i < sizeof runs / sizeof *runs; i++) {
                if (!km_is_word(argv[at + 1], runs[i].word)) continue;
                RedisModule_KeyAtPosWithFlags(ctx, at + 2, KM_READ);
                if (runs[i].is_script && !runs[i].is_run) km_script_tell_keys(ctx, argv, argc, at + 4, 1);
            }
            while (at + 1 < argc && !km_is_word(argv[at + 1], "|>")) at++;
        }
    }
    return REDISMODULE_OK;
}

#define DAG_COMMAND(function, is_run_, read_only_, least, too_few)                                    \
    static int function(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {                           \
        static const form of = {is_run_, read_only_};                                                 \
        if (RedisModule_IsKeysPositionRequest(ctx)) return tell_keys(ctx, argv, argc);                       \
        if (argc < least) return RedisModule_ReplyWithError(ctx, too_few);                                   \
        return run(ctx, argv, argc, &of);                                                                    \
    }

/* AI.DAGEXECUTE [LOAD n key [key ...]] [PERSIST n key [key ...]] [ROUTING key] [TIMEOUT ms] |> step [|> step ...] */
DAG_COMMAND(dagexecute_command, 0, 0, 6, "ERR missing arguments for 'AI.DAGEXECUTE' command")
DAG_COMMAND(dagexecute_ro_command, 0, 1, 6, "ERR missing arguments for 'AI.DAGEXECUTE_RO' command")
DAG_COMMAND(dagrun_command, 1, 0, 4, "ERR wrong number of arguments for 'AI.DAGRUN' command")
DAG_COMMAND(dagrun_ro_command, 1, 1, 4, "ERR wrong number of arguments for 'AI.DAGRUN_RO' command")

#define ANYWHERE(flags_)                                                                                                 \
    KM_KEYS({.notes = "the parts come in any order", .flags = (flags_) | REDISMODULE_CMD_KEY_INCOMPLETE | REDISMODULE_CMD_KEY_VARIABLE_FLAGS, \
             .begin_search_type = REDISMODULE_KSPEC_BS_UNKNOWN, .find_keys_type = REDISMODULE_KSPEC_FK_UNKNOWN})
#define LOAD KM_BLOCK("load", .token = "LOAD", .flags = KM_OPTIONAL, .subargs = KM_COUNTED_KEYS(0))
#define PERSIST KM_BLOCK("persist", .token = "PERSIST", .flags = KM_OPTIONAL, .subargs = KM_COUNTED_KEYS(0))
#define ROUTING KM_KEY("key", 0, .token = "ROUTING", .flags = KM_OPTIONAL)
#define THE_REST KM_NUMBER("ms", .token = "TIMEOUT", .flags = KM_OPTIONAL), KM_TEXT("step", .token = "|>", .flags = KM_MANY)
#define TIME "O(N), with N tensors, and the time of the runs"

static const km_command commands[] = {
    {"AI.DAGEXECUTE", dagexecute_command, "write deny-oom getkeys-api", -1, ANYWHERE(KM_CHANGE_ANY), KM_ARGS(LOAD, PERSIST, ROUTING, THE_REST),
     "Runs models and scripts one after the other on tensors that need no keys.", TIME, "nondeterministic_output"},
    {"AI.DAGEXECUTE_RO", dagexecute_ro_command, "readonly getkeys-api", -1, ANYWHERE(KM_READ), KM_ARGS(LOAD, ROUTING, THE_REST),
     "Runs models one after the other, and stores nothing.", TIME, "nondeterministic_output"},
    {"AI.DAGRUN", dagrun_command, "write deny-oom getkeys-api", -4, ANYWHERE(KM_CHANGE_ANY), KM_ARGS(LOAD, PERSIST, ROUTING, THE_REST),
     "Runs models and scripts as AI.DAGEXECUTE does, by their elder commands.", TIME, "nondeterministic_output"},
    {"AI.DAGRUN_RO", dagrun_ro_command, "readonly getkeys-api", -4, ANYWHERE(KM_READ), KM_ARGS(LOAD, ROUTING, THE_REST),
     "Runs models and scripts as AI.DAGEXECUTE_RO does, by their elder commands.", TIME, "nondeterministic_output"},
};

int km_dag_register(RedisModuleCtx *ctx) { return KM_REGISTER(ctx, commands); }
