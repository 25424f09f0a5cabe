/* Reading the arguments of runs. Texts and order of the checks are RedisAI's. */
#include "run.h"

#include <stdio.h>

#include "alloc.h"
#include "command.h"
#include "errors.h"
#include "script.h"

/* ---- lists ---- */

static void add(km_list *list, RedisModuleString *s, int made) {
    if (list->n == list->room) {
        int room = list->room ? list->room * 2 : 32;
        km_list larger = {km_alloc(sizeof *larger.items * (size_t)room), km_alloc((size_t)room), list->n, room};
        if (list->n) {
            memcpy(larger.items, list->items, sizeof *larger.items * (size_t)list->n);
            memcpy(larger.made, list->made, (size_t)list->n);
        }
        km_free(list->items);
        km_free(list->made);
        *list = larger;
    }
    list->made[list->n] = (unsigned char)made;
    list->items[list->n++] = s;
}

void km_list_add(km_list *list, RedisModuleString *s) { add(list, s, 0); }
void km_list_add_bytes(km_list *list, const char *bytes, size_t len) { add(list, RedisModule_CreateString(NULL, bytes, len), 1); }
void km_list_add_text(km_list *list, const char *text) { km_list_add_bytes(list, text, strlen(text)); }

void km_list_add_number(km_list *list, long long n) {
    char text[24];
    km_list_add_bytes(list, text, (size_t)snprintf(text, sizeof text, "%lld", n));
}

void km_list_add_part(km_list *list, const km_part *part) {
    km_list_add_number(list, part->n);
    for (int i = 0; i < part->n; i++) km_list_add(list, km_part_at(part, i));
}

void km_list_add_step(km_list *list, const km_step *step) {
    km_list_add(list, step->key);
    if (step->kind == KM_STEP_SCRIPT) {
        km_list_add(list, step->function);
        km_list_add_number(list, step->list_at);
        km_list_add_part(list, &step->keys);
        km_list_add_part(list, &step->args);
    }
    km_list_add_part(list, &step->inputs);
    km_list_add_part(list, &step->outputs);
}

void km_list_free(km_list *list) {
    for (int i = 0; i < list->n; i++)
        if (list->made[i]) RedisModule_FreeString(NULL, list->items[i]);
    km_free(list->items);
    km_free(list->made);
    *list = (km_list){0};
}

/* ---- what they share ---- */

const char *km_error_about(const char *text, RedisModuleString *word) {
    static char error[256];
    snprintf(error, sizeof error, "%s%.100s", text, RedisModule_StringPtrLen(word, NULL));
    for (char *c = error; *c; c++)
        if (*c == '\r' || *c == '\n') *c = ' ';
    return error;
}

const char *km_read_timeout(RedisModuleString *arg, long long *timeout_ms) {
    return km_read_number(arg, 1, KM_RUN_MAX_TIMEOUT_MS, timeout_ms) ? "ERR Invalid value for TIMEOUT" : NULL;
}

static const char timeout_in_dag[] = "ERR TIMEOUT not allowed within a DAG command";
static const char wrong_inputs[] = "ERR Number of keys given as INPUTS here does not match model definition";
static const char wrong_outputs[] = "ERR Number of keys given as OUTPUTS here does not match model definition";

static const char *no_such_input(RedisModuleCtx *ctx, const km_step *step) {
    for (int i = 0; i < step->inputs.n; i++) {
        void *tensor;
        const char *error = km_find_value(ctx, km_part_at(&step->inputs, i), km_tensor_type, km_no_tensor, &tensor);
        if (error) return error;
    }
    return NULL;
}

static const char *finish(RedisModuleCtx *ctx, int in_dag, const km_step *step) {
    if (in_dag) return step->timeout_ms ? timeout_in_dag : NULL;
    return no_such_input(ctx, step);
}

static const char *find_model(RedisModuleCtx *ctx, RedisModuleString *key, const km_model **model) {
    void *value;
    const char *error = km_find_value(ctx, key, km_model_type, km_no_model, &value);
    *model = value;
    if (!error && strncmp((*model)->backend, "TF", 2) == 0) error = km_not_run;
    return error;
}

/* ---- models ---- */

const char *km_read_model_execute(RedisModuleCtx *ctx, RedisModuleString **argv, int argc, int in_dag, km_step *step) {
    if (argc < 8) return "ERR wrong number of arguments for 'AI.MODELEXECUTE' command";
    *step = (km_step){.kind = KM_STEP_MODEL, .key = argv[1]};
    const km_model *m;
    const char *error = find_model(ctx, argv[1], &m);
    if (error) return error;
    long long n_in, n_out;
    if (!km_is_word(argv[2], "inputs")) return "ERR INPUTS not specified";
    if (RedisModule_StringToLongLong(argv[3], &n_in) != REDISMODULE_OK) return "ERR Invalid argument for input_count";
    if (n_in <= 0) return "ERR Input count must be a positive integer";
    if (km_model_is_known(m) && m->inputs.n != n_in) return wrong_inputs;
    if (n_in > argc - 4) return "ERR number of input keys to AI.MODELEXECUTE command does not match the number of given arguments";
    step->inputs = (km_part){.n = (int)n_in, .items = argv + 4};
    int at = 4 + (int)n_in;
    if (at >= argc || !km_is_word(argv[at], "outputs")) return "ERR OUTPUTS not specified";
    at++;
    if (at >= argc || RedisModule_StringToLongLong(argv[at], &n_out) != REDISMODULE_OK) return "ERR Invalid argument for output_count";
    at++;
    if (n_out <= 0) return "ERR Output count must be a positive integer";
    if (m->outputs.n && m->outputs.n != n_out) return wrong_outputs;
    if (n_out > argc - at) return "ERR number of output keys to AI.MODELEXECUTE command does not match the number of given arguments";
    step->outputs = (km_part){.n = (int)n_out, .items = argv + at};
    at += (int)n_out;
    if (at < argc && !km_is_word(argv[at], "timeout")) return km_error_about("ERR Invalid argument: ", argv[at]);
    if (at + 1 == argc) return "ERR No value provided for TIMEOUT";
    if (at < argc && (error = km_read_timeout(argv[at + 1], &step->timeout_ms))) return error;
    if (at < argc && at + 2 < argc) return km_error_about("ERR Invalid argument: ", argv[at + 2]);
    return finish(ctx, in_dag, step);
}

const char *km_read_model_run(RedisModuleCtx *ctx, RedisModuleString **argv, int argc, int in_dag, km_step *step) {
    if (argc < 6) return "ERR wrong number of arguments for 'AI.MODELRUN' command";
    *step = (km_step){.kind = KM_STEP_MODEL, .key = argv[1]};
    const km_model *m;
    const char *error = find_model(ctx, argv[1], &m);
    if (error) return error;
    int at = 2;
    if (km_is_word(argv[at], "timeout")) {
        if ((error = km_read_timeout(argv[at + 1], &step->timeout_ms))) return error;
        at += 2;
    }
    if (!km_is_word(argv[at++], "inputs")) return "ERR INPUTS not specified";
    int end = at;
    while (end < argc && !km_is_word(argv[end], "outputs")) end++;
    step->inputs = (km_part){.n = end - at, .items = argv + at};
    if (end < argc) step->outputs = (km_part){.n = argc - end - 1, .items = argv + end + 1};
    if (km_model_is_known(m) ? m->inputs.n != step->inputs.n : !step->inputs.n) return wrong_inputs;
    if (m->outputs.n ? m->outputs.n != step->outputs.n : !step->outputs.n) return wrong_outputs;
    return finish(ctx, in_dag, step);
}

/* ---- scripts ---- */

static const char *find_script(RedisModuleCtx *ctx, RedisModuleString **argv, km_step *step) {
    void *script;
    *step = (km_step){.kind = KM_STEP_SCRIPT, .key = argv[1], .function = argv[2], .list_at = -1};
    return km_find_value(ctx, argv[1], km_script_type, km_no_script, &script);
}

static const struct scope {
    const char *word, *twice, *no_number, *too_few;
    size_t part;
} scopes[] = {
    {"keys", "ERR Already Encountered KEYS scope in AI.SCRIPTEXECUTE command", "ERR Invalid or negative value found in number of KEYS",
     "ERR Number of pre declared KEYS to be used in the command does not match the number of given arguments", offsetof(km_step, keys)},
    {"inputs", "ERR Already Encountered INPUTS scope in AI.SCRIPTEXECUTE command", "ERR Invalid argument for inputs count in AI.SCRIPTEXECUTE",
     "ERR number of inputs to AI.SCRIPTEXECUTE command does not match the number of given arguments", offsetof(km_step, inputs)},
    {"args", "ERR Already Encountered ARGS scope in AI.SCRIPTEXECUTE command", "ERR Invalid argument for args count in AI.SCRIPTEXECUTE",
     "ERR number of args to AI.SCRIPTEXECUTE command does not match the number of given arguments", offsetof(km_step, args)},
    {"outputs", "ERR Already Encountered OUTPUTS scope in AI.SCRIPTEXECUTE command", "ERR Invalid argument for outputs count in AI.SCRIPTEXECUTE",
     "ERR number of outputs to AI.SCRIPTEXECUTE command does not match the number of given arguments", offsetof(km_step, outputs)},
};

static const struct scope *scope_named(RedisModuleString *arg) {
    for (size_t i = 0; i < sizeof scopes / sizeof *scopes; i++)
        if (km_is_word(arg, scopes[i].word)) return &scopes[i];
    return NULL;
}

/* The number at argv[*at] and as many arguments. */
static const char *read_scope(RedisModuleString **argv, int argc, int *at, const struct scope *scope, km_step *step) {
    km_part *part = (km_part *)((char *)step + scope->part);
    int is_keys = scope->part == offsetof(km_step, keys);
    if (part->items) return scope->twice;
    if (is_keys && argc - *at < 2) return "ERR Missing arguments after KEYS keyword";
    if (*at >= argc) return "ERR Invalid arguments provided to AI.SCRIPTEXECUTE";
    long long n;
    if (RedisModule_StringToLongLong(argv[*at], &n) != REDISMODULE_OK || n < is_keys) return scope->no_number;
    if (n > argc - *at - 1) return scope->too_few;
    *part = (km_part){.n = (int)n, .items = argv + *at + 1};
    *at += 1 + (int)n;
    return NULL;
}

const char *km_read_script_execute(RedisModuleCtx *ctx, RedisModuleString **argv, int argc, int in_dag, km_step *step) {
    if (argc < 3) return "ERR wrong number of arguments for 'AI.SCRIPTEXECUTE' command";
    const char *error = find_script(ctx, argv, step);
    if (error) return error;
    if (!in_dag && (argc < 4 || !(km_is_word(argv[3], "keys") || km_is_word(argv[3], "inputs"))))
        return "ERR KEYS or INPUTS scope must be provided first for AI.SCRIPTEXECUTE command";
    for (int at = 3; at < argc;) {
        if (km_is_word(argv[at], "timeout")) {
            if (at + 1 >= argc) return "ERR No value provided for TIMEOUT in AI.SCRIPTEXECUTE";
            if ((error = km_read_timeout(argv[at + 1], &step->timeout_ms))) return error;
            if (at + 2 < argc) return "ERR Encountered problem parsing AI.SCRIPTEXECUTE";
            break;
        }
        const struct scope *scope = scope_named(argv[at]);
        if (!scope) return km_error_about("ERR Invalid AI.SCRIPTEXECUTE command. Unexpected argument: ", argv[at]);
        at++;
        if ((error = read_scope(argv, argc, &at, scope, step))) return error;
    }
    return finish(ctx, in_dag, step);
}

/* In it the parts may come in any order, and $ stands among the inputs. */
const char *km_read_script_run(RedisModuleCtx *ctx, RedisModuleString **argv, int argc, int in_dag, km_step *step) {
    if (argc < 3) return "ERR wrong number of arguments for 'AI.SCRIPTRUN' command";
    const char *error = find_script(ctx, argv, step);
    if (error) return error;
    km_part *part = NULL;
    for (int at = 3; at < argc; at++) {
        if (km_is_word(argv[at], "timeout")) {
            if (step->timeout_ms) return "ERR Already encountered an TIMEOUT section in SCRIPTRUN";
            if (++at >= argc) return "ERR Invalid value for TIMEOUT";
            if ((error = km_read_timeout(argv[at], &step->timeout_ms))) return error;
            part = NULL;
        } else if (km_is_word(argv[at], "inputs")) {
            if (step->inputs.items) return part == &step->inputs ? "ERR Already encountered an INPUTS keyword in SCRIPTRUN" : "ERR Already encountered an INPUTS section in SCRIPTRUN";
            part = &step->inputs;
            part->items = argv + at + 1;
        } else if (km_is_word(argv[at], "outputs")) {
            if (step->outputs.items) return "ERR Already encountered an OUTPUTS keyword in SCRIPTRUN";
            part = &step->outputs;
            part->items = argv + at + 1;
        } else if (km_is_word(argv[at], "$")) {
            if (part != &step->inputs) return "ERR Encountered a variable size list of tensors outside of input section";
            if (step->list_at >= 0) return "ERR Already encountered a variable size list of tensors";
            step->list_at = step->inputs.n;
            step->inputs.gap = 1 + step->list_at;
        } else if (!part) {
            return "ERR Unrecongnized parameter to SCRIPTRUN";
        } else {
            part->n++;
        }
    }
    return finish(ctx, in_dag, step);
}
