/* The worker protocol: the commands by which workers, ordinary clients, take jobs and answer them. Lifetimes of pullers: see
 * module.c. */
#include <limits.h>

#include "command.h"
#include "events.h"
#include "jobs.h"
#include "resp.h"
#include "shard_models.h"

typedef struct puller { /* a worker's connection that waits in KM.PULL */
    struct puller *next;
    RedisModuleBlockedClient *bc;
    unsigned long long client;
    int max;
    mstime_t deadline_ms;
} puller;

typedef struct { /* a worker's connection */
    unsigned long long client;
    char *name;
    int looks; /* into what is stored, before it is */
    int away;  /* it is of another host, and stands in */
} worker;

static puller *pullers;
static km_map *workers;
static long long n_looking, n_away; /* workers */

size_t km_protocol_workers(void) { return km_map_size(workers); }
long long km_protocol_workers_away(void) { return n_away; }
int km_protocol_looks(void) { return n_looking > 0; }

/* Hands what waits to a worker that waits. */
static void wake(RedisModuleCtx *ctx, const void *data) {
    (void)ctx;
    (void)data;
    if (!pullers || km_jobs_waiting() == 0) return;
    puller *p = pullers;
    pullers = p->next;
    /* The jobs are taken when its reply is made, so that all that this turn of the server's loop
     * brings go together. */
    RedisModule_UnblockClient(p->bc, p);
}

static void reply_job(RedisModuleCtx *ctx, km_job *job) {
    long long remaining = job->deadline_ms ? job->deadline_ms - RedisModule_Milliseconds() : 0;
    RedisModule_ReplyWithArray(ctx, 14);
    RedisModule_ReplyWithLongLong(ctx, (long long)job->id);
    RedisModule_ReplyWithCString(ctx, km_job_kind_name(job));
    RedisModule_ReplyWithCString(ctx, job->registration ? job->registration : "");
    RedisModule_ReplyWithCString(ctx, job->event ? job->event : "");
    RedisModule_ReplyWithStringBuffer(ctx, job->key ? job->key : "", job->key_len);
    RedisModule_ReplyWithLongLong(ctx, job->attempts);
    RedisModule_ReplyWithLongLong(ctx, remaining > 0 ? remaining : 0);
    RedisModule_ReplyWithLongLong(ctx, km_config.cache);
    RedisModule_ReplyWithArray(ctx, job->n_payload);
    for (int i = 0; i < job->n_payload; i++) RedisModule_ReplyWithString(ctx, job->payload[i]);
    RedisModule_ReplyWithLongLong(ctx, km_job_queued_ms(job));
    const char *requests[KM_MAX_REQUESTS];
    int n_requests = km_job_requests(job, requests);
    RedisModule_ReplyWithArray(ctx, n_requests);
    for (int i = 0; i < n_requests; i++) RedisModule_ReplyWithCString(ctx, requests[i]);
    RedisModule_ReplyWithLongLong(ctx, km_config.answer_ttl_s);
    RedisModule_ReplyWithLongLong(ctx, job->batch > 1 ? job->batch : 1);
    RedisModule_ReplyWithLongLong(ctx, (long long)km_shard_models_epoch());
}

/* Hands jobs for up to max runs to the connection; null when there are none. */
static void reply_jobs(RedisModuleCtx *ctx, unsigned long long client, int max) {
    km_job *taken[KM_MAX_PULL];
    int n = km_jobs_take(client, max, taken);
    if (n == 0) {
        RedisModule_ReplyWithNullArray(ctx);
        return;
    }
    RedisModule_ReplyWithArray(ctx, n);
    for (int i = 0; i < n; i++) reply_job(ctx, taken[i]);
    wake(ctx, NULL);
}

static int puller_reply(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    (void)argv;
    (void)argc;
    puller *p = RedisModule_GetBlockedClientPrivateData(ctx);
    reply_jobs(ctx, p->client, p->max);
    return REDISMODULE_OK;
}

static void puller_free(RedisModuleCtx *ctx, void *privdata) {
    (void)ctx;
    km_free(privdata);
}

/* Takes a waiting puller out of the list; NULL if it was woken already. */
static puller *puller_remove(RedisModuleBlockedClient *bc) {
    for (puller **link = &pullers; *link; link = &(*link)->next) {
        puller *p = *link;
        if (p->bc != bc) continue;
        *link = p->next;
        return p;
    }
    return NULL;
}

static int puller_timeout(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    (void)argv;
    (void)argc;
    RedisModuleBlockedClient *bc = RedisModule_GetBlockedClientHandle(ctx); /* CLIENT UNBLOCK */
    RedisModule_UnblockClient(bc, puller_remove(bc));
    return RedisModule_ReplyWithNullArray(ctx);
}

static void puller_disconnected(RedisModuleCtx *ctx, RedisModuleBlockedClient *bc) {
    (void)ctx;
    puller *p = puller_remove(bc);
    if (p) RedisModule_UnblockClient(bc, p);
}

/* KM.PULL name max block_ms [LOOKS] [AWAY] */
static int pull_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc < 4 || argc > 6) return RedisModule_WrongArity(ctx);
    long long max, block_ms;
    if (km_read_number(argv[2], 1, KM_MAX_PULL, &max) != 0)
        return RedisModule_ReplyWithError(ctx, "ERR max must be a whole number from 1 to 1024");
    if (km_read_number(argv[3], 0, 60000, &block_ms) != 0)
        return RedisModule_ReplyWithError(ctx, "ERR block_ms must be a whole number from 0 to 60000");
    int looks = argc > 4 && km_is_word(argv[4], "looks");
    int away = argc > 4 + looks && km_is_word(argv[4 + looks], "away");
    if (argc != 4 + looks + away) return RedisModule_ReplyWithError(ctx, "ERR the syntax is KM.PULL name max block_ms [LOOKS] [AWAY]");
    if (km_cannot_block(ctx)) return RedisModule_ReplyWithNullArray(ctx);
    unsigned long long client = RedisModule_GetClientId(ctx);
    if (!km_map_get(workers, &client, sizeof client)) {
        size_t len;
        const char *name = RedisModule_StringPtrLen(argv[1], &len);
        worker *w = km_calloc(1, sizeof *w);
        w->client = client;
        w->name = km_memdup0(name, len > 128 ? 128 : len);
        w->looks = looks;
        w->away = away;
        n_looking += looks;
        n_away += away;
        km_map_set(workers, &client, sizeof client, w);
        RedisModule_Log(ctx, "notice", "keymiss: worker %s attached", w->name);
    }
    if (km_jobs_waiting() || block_ms == 0) {
        reply_jobs(ctx, client, (int)max);
        return REDISMODULE_OK;
    }
    puller *p = km_calloc(1, sizeof *p);
    p->client = client;
    p->max = (int)max;
    p->deadline_ms = RedisModule_Milliseconds() + block_ms;
    p->bc = RedisModule_BlockClient(ctx, puller_reply, puller_timeout, puller_free, 0);
    RedisModule_SetDisconnectCallback(p->bc, puller_disconnected);
    p->next = pullers;
    pullers = p;
    return REDISMODULE_OK;
}

/* The running job an argument names. Returns 0 and the job (NULL if it ended), or -1 after an error reply. */
static int running_job(RedisModuleCtx *ctx, RedisModuleString *arg, km_job **job) {
    long long number;
    if (km_read_number(arg, 0, LLONG_MAX, &number) != 0) {
        RedisModule_ReplyWithError(ctx, "ERR a job's id is a whole number");
        return -1;
    }
    *job = km_job_running((uint64_t)number);
    return 0;
}

static int reply_late(RedisModuleCtx *ctx) {
    km_stats.jobs_late++;
    return RedisModule_ReplyWithLongLong(ctx, 0);
}

/* [MODELS model version [model version ...]] from argument at on: 0 if there is none of it, all are of these versions, or the
 * job has ended anyhow; 1 after the reply, that one is not, or there is something else. */
static int models_changed(RedisModuleCtx *ctx, const km_job *job, RedisModuleString **argv, int argc, int at) {
    if (at == argc) return 0;
    if (!km_is_word(argv[at], "models") || argc - at < 3 || (argc - at) % 2 == 0) {
        RedisModule_ReplyWithError(ctx, "ERR the syntax ends with [MODELS model version [model version ...]]");
        return 1;
    }
    for (int i = at + 1; i < argc; i += 2) {
        long long version;
        if (RedisModule_StringToLongLong(argv[i + 1], &version) != REDISMODULE_OK) {
            RedisModule_ReplyWithError(ctx, "ERR the version is a whole number: KM.MODELINFO says which");
            return 1;
        }
        const km_model *model = km_shard_model(ctx, argv[i]);
        if (job && (!model || (long long)model->version != version)) {
            RedisModule_ReplyWithLongLong(ctx, -1);
            return 1;
        }
    }
    return 0;
}

/* KM.DONE id raw-resp2 [MODELS model version [model version ...]] */
static int done_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc < 3) return RedisModule_WrongArity(ctx);
    km_job *job;
    size_t len;
    const char *raw = RedisModule_StringPtrLen(argv[2], &len);
    if (km_resp_check(raw, len) != 0) return RedisModule_ReplyWithError(ctx, "ERR the answer is not one complete RESP2 value");
    if (running_job(ctx, argv[1], &job) != 0) return REDISMODULE_OK;
    if (models_changed(ctx, job, argv, argc, 3)) return REDISMODULE_OK;
    if (!job) return reply_late(ctx);
    km_job_done(job, raw, len);
    return RedisModule_ReplyWithLongLong(ctx, 1);
}

/* KM.FAIL id text [PLAIN] [MODELS model version [model version ...]]: PLAIN: the text is the whole error, its code first. */
static int fail_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc < 3) return RedisModule_WrongArity(ctx);
    int plain = argc > 3 && km_is_word(argv[3], "plain");
    km_job *job;
    if (running_job(ctx, argv[1], &job) != 0) return REDISMODULE_OK;
    if (models_changed(ctx, job, argv, argc, 3 + plain)) return REDISMODULE_OK;
    if (!job) return reply_late(ctx);
    size_t len;
    const char *text = RedisModule_StringPtrLen(argv[2], &len);
    if (plain && len == 0) text = "ERR", len = 3;
    /* what a program called in place of a command says is said as a command says it */
    km_job_failed(job, plain ? "" : job->kind == KM_JOB_COMMAND ? "ERR " : "FAILED ", text, len);
    return RedisModule_ReplyWithLongLong(ctx, 1);
}

/* KM.RUNS id [UNATTENDED]: a script runs a flow, and is an execution from here on. Unattended, its client gets the id of that.
 * Returns 0 if the job has ended. */
static int runs_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc != 2 && argc != 3) return RedisModule_WrongArity(ctx);
    if (argc == 3 && !km_is_word(argv[2], "unattended"))
        return RedisModule_ReplyWithError(ctx, "ERR unknown option: the syntax is KM.RUNS id [UNATTENDED]");
    km_job *job;
    if (running_job(ctx, argv[1], &job) != 0) return REDISMODULE_OK;
    if (!job || job->kind != KM_JOB_SCRIPT) return RedisModule_ReplyWithLongLong(ctx, 0);
    km_job_runs(job, argc == 3);
    return RedisModule_ReplyWithLongLong(ctx, 1);
}

/* KM.YIELD id: an event's function waits for something; the next event need not wait for it, but of a stream */
static int yield_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc != 2) return RedisModule_WrongArity(ctx);
    km_job *job;
    if (running_job(ctx, argv[1], &job) != 0) return REDISMODULE_OK;
    if (job) km_job_yield(job);
    return RedisModule_ReplyWithLongLong(ctx, job != NULL);
}

/* KM.ENDED id n_results results errors: what a run that goes on came to; both are RESP2 arrays. */
static int ended_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc != 5) return RedisModule_WrongArity(ctx);
    long long n_results;
    if (km_read_number(argv[2], 0, INT_MAX, &n_results) != 0) return RedisModule_ReplyWithError(ctx, "ERR n_results must be a whole number, 0 or more");
    size_t results_len, errors_len;
    const char *results = RedisModule_StringPtrLen(argv[3], &results_len), *errors = RedisModule_StringPtrLen(argv[4], &errors_len);
    if (km_resp_check(results, results_len) != 0 || results[0] != '*' || km_resp_check(errors, errors_len) != 0 || errors[0] != '*')
        return RedisModule_ReplyWithError(ctx, "ERR results and errors must each be one RESP2 array");
    km_job *job;
    if (running_job(ctx, argv[1], &job) != 0) return REDISMODULE_OK;
    if (!job || !job->unattended) return reply_late(ctx);
    km_job_ended(job, (int)n_results, results, results_len, errors, errors_len);
    return RedisModule_ReplyWithLongLong(ctx, 1);
}

/* KM.BATCHED id took_us lag_us [error]: a stream's batch is done. Returns 1 if its job is to go on with the next. */
static int batched_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc != 4 && argc != 5) return RedisModule_WrongArity(ctx);
    long long took_us, lag_us;
    if (km_read_number(argv[2], 0, LLONG_MAX, &took_us) != 0 || km_read_number(argv[3], 0, LLONG_MAX, &lag_us) != 0)
        return RedisModule_ReplyWithError(ctx, "ERR took_us and lag_us must be whole numbers, 0 or more");
    km_job *job;
    if (running_job(ctx, argv[1], &job) != 0) return REDISMODULE_OK;
    if (!job || job->kind != KM_JOB_EVENT) return RedisModule_ReplyWithLongLong(ctx, 0);
    size_t len = 0;
    const char *error = argc == 5 ? RedisModule_StringPtrLen(argv[4], &len) : NULL;
    km_job_batch(job, took_us, lag_us, error, len);
    const km_registration *reg = km_registry_by_id(job->registration);
    return RedisModule_ReplyWithLongLong(ctx, reg && !reg->paused && !reg->stopped && km_job_wanted(job));
}

/* KM.ENDING id [id ...]: of each, 1 if its function is to be ended: it was aborted, or its time is long over */
static int ending_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc < 2) return RedisModule_WrongArity(ctx);
    RedisModule_ReplyWithArray(ctx, argc - 1);
    for (int i = 1; i < argc; i++) {
        long long number;
        km_job *job = km_read_number(argv[i], 0, LLONG_MAX, &number) == 0 ? km_job_running((uint64_t)number) : NULL;
        RedisModule_ReplyWithLongLong(ctx, !job || job->aborted);
    }
    return REDISMODULE_OK;
}

/* KM.ABORTOF registration: every execution of it ends */
static int abortof_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc != 2) return RedisModule_WrongArity(ctx);
    km_jobs_abort_of(RedisModule_StringPtrLen(argv[1], NULL));
    return RedisModule_ReplyWithSimpleString(ctx, "OK");
}

/* KM.GIVEBACK id [id ...] */
static int giveback_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc < 2) return RedisModule_WrongArity(ctx);
    long long n = 0;
    for (int i = 1; i < argc; i++) {
        km_job *job;
        if (running_job(ctx, argv[i], &job) != 0) return REDISMODULE_OK;
        if (!job) continue;
        km_job_give_back(job);
        n++;
    }
    wake(ctx, NULL);
    return RedisModule_ReplyWithLongLong(ctx, n);
}

/* KM.ALIVE id */
static int alive_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc != 2) return RedisModule_WrongArity(ctx);
    km_job *job;
    if (running_job(ctx, argv[1], &job) != 0) return REDISMODULE_OK;
    return RedisModule_ReplyWithLongLong(ctx, job && km_job_wanted(job));
}

/* A worker's connection closed: its jobs go back, or end. */
static void client_left(RedisModuleCtx *ctx, const void *data) {
    unsigned long long client = *(const unsigned long long *)data;
    worker *w = km_map_size(workers) ? km_map_del(workers, &client, sizeof client) : NULL;
    if (!w) return;
    RedisModule_Log(ctx, "notice", "keymiss: worker %s detached", w->name);
    n_looking -= w->looks;
    n_away -= w->away;
    km_free(w->name);
    km_free(w);
    for (puller **link = &pullers; *link;) { /* else the jobs that go back now could be handed to it */
        puller *p = *link;
        if (p->client == client) {
            *link = p->next;
            RedisModule_UnblockClient(p->bc, p);
        } else {
            link = &p->next;
        }
    }
    km_jobs_worker_gone(ctx, client);
}

static void tick(RedisModuleCtx *ctx, const void *data) {
    (void)ctx;
    mstime_t now = *(const mstime_t *)data;
    if (km_map_size(workers) == 0) km_jobs_refuse_all(now);
    for (puller **link = &pullers; *link;) {
        puller *p = *link;
        if (now < p->deadline_ms) {
            link = &p->next;
            continue;
        }
        *link = p->next;
        RedisModule_UnblockClient(p->bc, p); /* replies with null, or with what has just come */
    }
}

#define MODELS_ARG                                                                                                            \
    KM_BLOCK("models", .token = "MODELS", .flags = KM_OPTIONAL,                                                               \
             .subargs = KM_ARGS(KM_BLOCK("of", .flags = KM_MANY, .subargs = KM_ARGS(KM_TEXT("model"), KM_NUMBER("version")))))

static const km_command commands[] = {
    {"km.pull", pull_command, "deny-script admin", -4, NULL,
     KM_ARGS(KM_TEXT("name"), KM_NUMBER("max"), KM_NUMBER("block_ms"), KM_WORD("looks", "LOOKS", .flags = KM_OPTIONAL),
             KM_WORD("away", "AWAY", .flags = KM_OPTIONAL)),
     "Takes jobs, waiting for the first; the connection is a worker from then on.", "O(N), with N jobs taken", "nondeterministic_output"},
    {"km.done", done_command, "admin fast", -3, NULL, KM_ARGS(KM_NUMBER("id"), KM_TEXT("reply"), MODELS_ARG),
     "Answers a job with one RESP2 value, given to every client that waits for it.", "O(N), with N clients that wait", NULL},
    {"km.fail", fail_command, "admin fast", -3, NULL,
     KM_ARGS(KM_NUMBER("id"), KM_TEXT("text"), KM_WORD("plain", "PLAIN", .flags = KM_OPTIONAL), MODELS_ARG),
     "Ends a job with an error.", "O(N), with N clients that wait", NULL},
    {"km.ending", ending_command, "admin fast", -2, NULL, KM_ARGS(KM_NUMBER("id", .flags = KM_MANY)),
     "Says which jobs' functions are to be ended.", "O(N), with N jobs", "nondeterministic_output"},
    {"km.abortof", abortof_command, "admin", 2, NULL, KM_ARGS(KM_TEXT("registration")),
     "Ends the executions of a registration that wait or run.", "O(N), with N jobs", NULL},
    {"km.runs", runs_command, "admin fast", -2, NULL,
     KM_ARGS(KM_NUMBER("id"), KM_WORD("unattended", "UNATTENDED", .flags = KM_OPTIONAL)),
     "Makes a script an execution; unattended, its client gets the id.", "O(1)", NULL},
    {"km.yield", yield_command, "admin fast", 2, NULL, KM_ARGS(KM_NUMBER("id")),
     "Lets the next event of a registration run while this one waits.", "O(1)", NULL},
    {"km.ended", ended_command, "admin", 5, NULL,
     KM_ARGS(KM_NUMBER("id"), KM_NUMBER("n_results"), KM_TEXT("results"), KM_TEXT("errors")), "Ends an execution that went on.",
     "O(N), with N results", NULL},
    {"km.batched", batched_command, "admin fast", -4, NULL,
     KM_ARGS(KM_NUMBER("id"), KM_NUMBER("took_us"), KM_NUMBER("lag_us"), KM_TEXT("error", .flags = KM_OPTIONAL)),
     "Counts a stream's batch that is done, and says whether to go on.", "O(N), with N registrations", NULL},
    {"km.giveback", giveback_command, "admin", -2, NULL, KM_ARGS(KM_NUMBER("id", .flags = KM_MANY)),
     "Hands jobs back that were not begun.", "O(N), with N jobs", NULL},
    {"km.alive", alive_command, "admin fast", 2, NULL, KM_ARGS(KM_NUMBER("id")),
     "Says whether somebody still waits for a job.", "O(1)", "nondeterministic_output"},
};

int km_protocol_register(RedisModuleCtx *ctx) {
    workers = km_map_new(km_seed());
    km_on(KM_ON_WORK, wake);
    km_on(KM_ON_CLIENT_LEFT, client_left);
    km_on(KM_ON_TICK, tick);
    return KM_REGISTER(ctx, commands);
}
