/* RG.DUMPEXECUTIONS and what follows from it: executions that wait or run (jobs.c), and those that have ended (executions.c). */
#include <limits.h>

#include "command.h"
#include "executions.h"
#include "gears_config.h"
#include "jobs.h"

#define ABORT_WAIT_MS 10000 /* a worker looks twice a second; a call into C is not ended before it returns */

static const char unknown_text[] = "ERR execution plan does not exist: RG.DUMPEXECUTIONS lists the ids";

typedef struct { /* an execution */
    long long number;
    km_job *job;     /* one of the two */
    km_execution *ended;
} execution;

static void match(km_job *job, void *data) {
    execution *e = data;
    if (job->number == e->number) e->job = job;
}

/* The execution with the id: 1, or 0 after an error reply. */
static int find(RedisModuleCtx *ctx, RedisModuleString *id, execution *e) {
    *e = (execution){.number = km_number_of(RedisModule_StringPtrLen(id, NULL))};
    if (e->number >= 0 && !(e->ended = km_executions_find(e->number))) km_jobs_each_execution(match, e);
    if (e->job || e->ended) return 1;
    RedisModule_ReplyWithError(ctx, unknown_text);
    return 0;
}

static const char *status_of(const execution *e) {
    if (e->ended) return e->ended->status == KM_EXECUTION_ABORTED ? "aborted" : "done";
    return e->job->running ? "running" : "created";
}

/* ---- RG.DUMPEXECUTIONS ---- */

typedef struct {
    RedisModuleCtx *ctx;
    long n;
} dump;

static void reply_row(dump *d, const execution *e, int registered) {
    char id[KM_ID_LEN + 1];
    km_id_of(e->number, id);
    RedisModule_ReplyWithArray(d->ctx, 6);
    km_reply_text(d->ctx, "executionId", id);
    km_reply_text(d->ctx, "status", status_of(e));
    km_reply_number(d->ctx, "registered", registered);
    d->n++;
}

static void reply_job(km_job *job, void *data) {
    dump *d = data;
    if (job->kind == KM_JOB_COMMAND && !job->running) return; /* its client waits, and it has no id that anybody knows */
    if (d->n < km_gears_config.max_executions) reply_row(d, &(execution){.number = job->number, .job = job}, job->registration != NULL);
}

/* RG.DUMPEXECUTIONS */
static int dumpexecutions_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    (void)argv;
    if (argc != 1) return RedisModule_WrongArity(ctx);
    dump d = {.ctx = ctx};
    RedisModule_ReplyWithArray(ctx, REDISMODULE_POSTPONED_LEN);
    km_jobs_each_execution(reply_job, &d);
    for (km_execution *e = km_executions_first(); e; e = e->next) reply_row(&d, &(execution){.number = e->number, .ended = e}, e->reg != NULL);
    RedisModule_ReplySetArrayLength(ctx, d.n);
    return REDISMODULE_OK;
}

/* ---- RG.GETEXECUTION, RG.GETRESULTS ---- */

static void reply_texts(RedisModuleCtx *ctx, const km_answer *texts) {
    if (texts)
        km_answer_reply(ctx, texts);
    else
        RedisModule_ReplyWithArray(ctx, 0);
}

/* RG.GETEXECUTION id [SHARD | CLUSTER] */
static int getexecution_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc != 2 && argc != 3) return RedisModule_WrongArity(ctx);
    execution e;
    if (!find(ctx, argv[1], &e)) return REDISMODULE_OK;
    if (argc == 3 && !km_is_word(argv[2], "shard") && !km_is_word(argv[2], "cluster"))
        return RedisModule_ReplyWithError(ctx, "ERR unknown subcommand: SHARD or CLUSTER");
    if (argc == 3 && km_is_word(argv[2], "cluster") && !(RedisModule_GetContextFlags(ctx) & REDISMODULE_CTX_FLAGS_CLUSTER))
        return RedisModule_ReplyWithError(ctx, "ERR no cluster detected - use `RG.GETEXECUTION <id> [SHARD]` instead");
    RedisModule_ReplyWithArray(ctx, 1); /* an execution is known to the shard that began it; that of a whole cluster is one, too */
    RedisModule_ReplyWithArray(ctx, 4);
    km_reply_text(ctx, "shard_id", km_shard_id());
    RedisModule_ReplyWithCString(ctx, "execution_plan");
    RedisModule_ReplyWithArray(ctx, 16);
    km_reply_text(ctx, "status", status_of(&e));
    km_reply_number(ctx, "shards_received", e.ended || e.job->running);
    km_reply_number(ctx, "shards_completed", e.ended != NULL);
    km_reply_number(ctx, "results", e.ended ? e.ended->n_results : -1);
    RedisModule_ReplyWithCString(ctx, "errors");
    reply_texts(ctx, e.ended ? e.ended->errors : NULL);
    long long took_ms = e.ended ? e.ended->took_ms : e.job->running ? RedisModule_Milliseconds() - e.job->taken_ms : 0;
    km_reply_number(ctx, "total_duration", took_ms);
    km_reply_number(ctx, "read_duration", 0);
    RedisModule_ReplyWithCString(ctx, "steps"); /* nothing is profiled: all of it is one step */
    RedisModule_ReplyWithArray(ctx, 1);
    RedisModule_ReplyWithArray(ctx, 8);
    km_reply_text(ctx, "type", "flow");
    km_reply_number(ctx, "duration", 0);
    km_reply_text(ctx, "name", "flow");
    km_reply_text(ctx, "arg", "");
    return REDISMODULE_OK;
}

static int reply_results(RedisModuleCtx *ctx, const km_execution *e) {
    RedisModule_ReplyWithArray(ctx, 2);
    reply_texts(ctx, e->results);
    reply_texts(ctx, e->errors);
    return REDISMODULE_OK;
}

static int wait_for(RedisModuleCtx *ctx, km_job *job, int form, long long timeout_ms) {
    km_asker *asker = km_asker_new(1, form, NULL);
    km_asker_follow(asker, 0, job);
    return km_asker_wait(ctx, asker, timeout_ms);
}

/* RG.GETRESULTS id, RG.GETRESULTSBLOCKING id */
static int getresults_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc != 2) return RedisModule_WrongArity(ctx);
    execution e;
    if (!find(ctx, argv[1], &e)) return REDISMODULE_OK;
    if (e.ended) return reply_results(ctx, e.ended);
    if (km_is_word(argv[0], "rg.getresults")) return RedisModule_ReplyWithError(ctx, "ERR execution is still running");
    if (km_cannot_block(ctx)) return RedisModule_ReplyWithError(ctx, "ERR RG.GETRESULTSBLOCKING cannot wait inside MULTI, a script or a module's call");
    return wait_for(ctx, e.job, KM_RESULTS, km_config.script_timeout_ms);
}

/* ---- RG.DROPEXECUTION, RG.ABORTEXECUTION ---- */

/* RG.DROPEXECUTION id */
static int dropexecution_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc != 2) return RedisModule_WrongArity(ctx);
    execution e;
    if (!find(ctx, argv[1], &e)) return REDISMODULE_OK;
    if (!e.ended) return RedisModule_ReplyWithError(ctx, "ERR can not drop a not yet finished execution, abort it first.");
    km_executions_drop(e.ended);
    return RedisModule_ReplyWithSimpleString(ctx, "OK");
}

/* RG.ABORTEXECUTION id: OK when it has ended */
static int abortexecution_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc != 2) return RedisModule_WrongArity(ctx);
    execution e;
    if (!find(ctx, argv[1], &e)) return REDISMODULE_OK;
    if (e.ended) return RedisModule_ReplyWithSimpleString(ctx, "OK");
    int running = e.job->running;
    km_job_abort(e.job);
    if (!running || km_cannot_block(ctx)) return RedisModule_ReplyWithSimpleString(ctx, "OK");
    return wait_for(ctx, e.job, KM_OK, ABORT_WAIT_MS);
}

static const km_command commands[] = {
    {"rg.dumpexecutions", dumpexecutions_command, "readonly", 1, NULL, NULL, "Lists this shard's executions.", "O(N), with N executions",
     "nondeterministic_output"},
    {"rg.getexecution", getexecution_command, "readonly", -2, NULL,
     KM_ARGS(KM_TEXT("id"), KM_ONE_OF("where", .flags = KM_OPTIONAL, .subargs = KM_ARGS(KM_WORD("shard", "SHARD"), KM_WORD("cluster", "CLUSTER")))),
     "Says how an execution stands.", "O(N), with N executions", "nondeterministic_output"},
    {"rg.getresults", getresults_command, "readonly", 2, NULL, KM_ARGS(KM_TEXT("id")), "Gives what an execution came to.",
     "O(N), with N results", NULL},
    {"rg.getresultsblocking", getresults_command, "readonly", 2, NULL, KM_ARGS(KM_TEXT("id")),
     "Gives what an execution came to, when it has ended.", "O(N), with N results", NULL},
    {"rg.dropexecution", dropexecution_command, "admin", 2, NULL, KM_ARGS(KM_TEXT("id")), "Forgets an execution that has ended.",
     "O(N), with N executions", NULL},
    {"rg.abortexecution", abortexecution_command, "admin", 2, NULL, KM_ARGS(KM_TEXT("id")), "Ends an execution.",
     "O(N), with N executions", NULL},
};

int km_execution_commands_register(RedisModuleCtx *ctx) { return KM_REGISTER(ctx, commands); }
