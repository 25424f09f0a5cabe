/* What a run is asked: the arguments of AI.MODELEXECUTE, AI.SCRIPTEXECUTE and their elder forms, alone and as steps of a DAG. */
#ifndef KM_RUN_H
#define KM_RUN_H

#include "model.h"
#include "tensor.h"

#define KM_RUN_MAX_TIMEOUT_MS 86400000

typedef struct {
    int n;
    RedisModuleString **items; /* a part of the command's arguments */
    int gap;                   /* 1 + the item before which there is an argument that is none; 0: there is not */
} km_part;
static inline RedisModuleString *km_part_at(const km_part *part, int i) { return part->items[part->gap && i >= part->gap - 1 ? i + 1 : i]; }

typedef struct {
    enum { KM_STEP_MODEL, KM_STEP_SCRIPT, KM_STEP_SET, KM_STEP_GET } kind;
    RedisModuleString *key; /* the model's or script's; of a DAG's tensor, its name */
    RedisModuleString *function;
    km_part inputs, outputs, keys, args;
    int list_at; /* AI.SCRIPTRUN's $: from this input on they are one list; -1: there is none */
    long long timeout_ms; /* 0: none was given */
    int parts;            /* AI.TENSORGET's */
    km_tensor *tensor;    /* AI.TENSORSET's */
} km_step;

/* Each reads argv (argv[0] is the command's name) and returns NULL, or an error's text, which holds until the next call. The
 * model or script must be there. in_dag: inputs are not keys, and TIMEOUT is the DAG's. */
const char *km_read_model_execute(RedisModuleCtx *ctx, RedisModuleString **argv, int argc, int in_dag, km_step *step);
const char *km_read_model_run(RedisModuleCtx *ctx, RedisModuleString **argv, int argc, int in_dag, km_step *step);
const char *km_read_script_execute(RedisModuleCtx *ctx, RedisModuleString **argv, int argc, int in_dag, km_step *step);
const char *km_read_script_run(RedisModuleCtx *ctx, RedisModuleString **argv, int argc, int in_dag, km_step *step);

const char *km_read_timeout(RedisModuleString *arg, long long *timeout_ms);
/* A text with a word of the client's in it. */
const char *km_error_about(const char *text, RedisModuleString *word);

/* A list of strings that grows; those that were made are freed with it. */
typedef struct {
    RedisModuleString **items;
    unsigned char *made;
    int n, room;
} km_list;
void km_list_add(km_list *list, RedisModuleString *s);
void km_list_add_text(km_list *list, const char *text);
void km_list_add_bytes(km_list *list, const char *bytes, size_t len);
void km_list_add_number(km_list *list, long long n);
void km_list_add_part(km_list *list, const km_part *part); /* how many, and they */
void km_list_free(km_list *list);
/* A step of a model or a script as a job's payload has it. */
void km_list_add_step(km_list *list, const km_step *step);

/* Tells the server of the keys of AI.SCRIPTEXECUTE's parts from argv[at] on; in a DAG, of KEYS alone, up to the next step. */
int km_script_tell_keys(RedisModuleCtx *ctx, RedisModuleString **argv, int argc, int at, int in_dag);

int km_runs_register(RedisModuleCtx *ctx); /* AI.MODELEXECUTE, AI.MODELRUN, AI.SCRIPTEXECUTE, AI.SCRIPTRUN */
int km_dag_register(RedisModuleCtx *ctx);  /* AI.DAGEXECUTE, AI.DAGEXECUTE_RO, AI.DAGRUN, AI.DAGRUN_RO */

#endif
