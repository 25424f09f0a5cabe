/* Jobs: what is asked of workers, and who waits for it. */
#ifndef KM_JOBS_H
#define KM_JOBS_H

#include "answer.h"
#include "map.h"
#include "registry.h"

#define KM_MAX_PULL 1024
#define KM_MAX_REQUESTS 16 /* ids that a job carries into a log: enough to find it, not a line without end */

typedef enum { KM_JOB_MISS, KM_JOB_EVENT, KM_JOB_SCRIPT, KM_JOB_UNREGISTER, KM_JOB_COMMAND, KM_JOB_GEARS,
               KM_JOB_MODEL, KM_JOB_TORCHSCRIPT, KM_JOB_DAG, KM_JOB_LOOK, KM_JOB_SCAN } km_job_kind;

#define KM_MAX_REQUEST_ID 64


typedef struct km_waiter { /* one value that a client asks for */
    struct km_waiter *next; /* of its job's */
    struct km_job *job;     /* NULL: it waits no more */
    struct km_asker *asker;
    km_answer *answer; /* NULL: there is none, yet or in time */
    int there;         /* it was there when it was asked for */
} km_waiter;

typedef struct km_asker { /* one client, and all that it asks for */
    struct km_asker *prev, *next; /* of those that are blocked */
    RedisModuleBlockedClient *bc;
    mstime_t deadline_ms;
    const char *late;          /* its reply when its time is over, as RESP2; NULL: the error that says so */
    RedisModuleCmdFunc again;  /* replies in place of the answer, whatever that is; NULL: the answer is the reply */
    char request[KM_MAX_REQUEST_ID + 1]; /* its request's id (KM.MISS ... REQUEST); empty: it gave none */
    enum {
        KM_ONE,      /* one value */
        KM_EACH,     /* an array of [was it there, value or error] */
        KM_VALUES,   /* an array of values, or the first error in place of it */
        KM_OK,       /* OK, whatever the job comes to */
        KM_RESULTS,  /* [results, errors] of an execution */
        KM_OVERRIDE, /* what a function put in the place of a command's reply, else that */
    } form; /* of its reply */
    km_answer *fallback; /* of KM_OVERRIDE: the command's own reply */
    int timed_out;
    int measured;        /* the server counts the time it waits as its command's */
    int n, n_missing;
    km_waiter waiters[];
} km_asker;

typedef struct km_job {
    struct km_job *prev, *next; /* in the queue or among the running */
    uint64_t id;
    km_job_kind kind;
    int running, attempts;
    unsigned long long owner; /* the client id that pulled it */
    mstime_t created_ms, taken_ms, deadline_ms;
    char *registration, *event, *key;
    char *reads_for; /* of a stream: the session and ordinal, under which its registration's successor goes on; else NULL */
    size_t key_len;
    int batch;  /* of misses: as many of its registration are one run of its function; of a model: as many rows are */
    int weight; /* its part of that */
    long long min_batch;     /* of a model: it is held until so many rows of its batch are there, */
    mstime_t held_until_ms;  /* or until then; 0: as long as its client waits */
    enum { KM_NOT_HELD, KM_HELD } held;
    void *candidate; /* a value that is stored when a worker has looked into it, and how it is freed */
    void (*candidate_free)(void *candidate);
    RedisModuleString **payload;
    int n_payload;
    km_waiter *waiters; /* the newest first */
    int by_key;   /* of an event: it waits for those of its own key only, and the same one is not queued twice */
    long long number;    /* of an execution (registry.h); -1: it is none */
    int unattended;      /* a run whose client has its id already; how it ends is kept */
    int aborted;         /* RG.ABORTEXECUTION: its worker is to end it */
    int yielded;         /* of an event: it waits for something, and the next one runs */
    int batches;         /* of a stream, reported by KM.BATCHED */
    struct km_job *parked, *parked_tail; /* of an event: later ones that wait for it, the oldest first */
} km_job;

/* ---- jobs.c, for those who ask ---- */
int km_jobs_register(RedisModuleCtx *ctx);
/* A client that asks for n values. The request's id, or NULL, has 1 to KM_MAX_REQUEST_ID bytes and no NUL; it is copied.
 * Each value is given or joined once, then km_asker_wait takes the asker over. */
km_asker *km_asker_new(int n, int form, const char *request);
/* Value i is there (taken over), or an error is, or null (a == NULL). */
void km_asker_give(km_asker *asker, int i, km_answer *a, int there);
/* Value i is that of the key's job, which is opened if there is none. A full queue is an answer, too. */
void km_asker_join(km_asker *asker, int i, km_registration *reg, const char *key, size_t len);
/* Replies if nothing is missing, else blocks the context's client until nothing is or the time is over. */
int km_asker_wait(RedisModuleCtx *ctx, km_asker *asker, long long timeout_ms);
/* The event's job, that waits in the queue now; NULL when the queue is full. once: not if the same one waits already; of a
 * registration that coalesces that is so in any case. */
km_job *km_jobs_add_event(RedisModuleCtx *ctx, km_registration *reg, const char *event, const char *key, size_t len, int once);
/* Value i is what the job comes to. */
void km_asker_follow(km_asker *asker, int i, km_job *job);
/* The trigger or hook of a registration, with the words of the client's command: its job. NULL after an error reply: the
 * queue is full. */
km_job *km_jobs_add_command(RedisModuleCtx *ctx, km_registration *reg, const char *event, RedisModuleString **argv, int argc, long long timeout_ms);
/* Runs of one model that may be one run: those of the same name, `max` rows together at most. */
typedef struct {
    char name[32];
    long long rows, min, max, wait_ms;
} km_batch;
/* What is asked of a worker, other than for a key. */
typedef struct {
    km_job_kind kind;
    RedisModuleString **payload; /* copied */
    int n;
    long long timeout_ms;
    const char *cannot_wait; /* the error when the client cannot wait */
    const char *late;        /* km_asker's */
    RedisModuleCmdFunc again;
    const km_batch *batch;   /* NULL: alone */
    void *candidate;         /* km_job's; taken over, also when it is refused */
    void (*candidate_free)(void *candidate);
} km_request;
/* Blocks the context's client on a job of its own, or replies with an error: the queue is full, or it cannot wait. If it
 * replies `again`, neither is an error: REDISMODULE_ERR, and nothing is replied. */
int km_jobs_submit(RedisModuleCtx *ctx, const km_request *request);
/* Every job that is an execution, the oldest first: those that wait in the queue and those that run. */
typedef void (*km_job_visit)(km_job *job, void *data);
void km_jobs_each_execution(km_job_visit visit, void *data);
/* Ends one that waits, or tells the worker to end one that runs. */
void km_job_abort(km_job *job);
/* RG.UNREGISTER id ABORTPENDING */
void km_jobs_abort_of(const char *registration);
typedef struct {
    long long queued, events_queued, events_running, running, waiting, oldest_ms;
} km_jobs_now;
km_jobs_now km_jobs_snapshot(void);

/* ---- jobs.c, for the protocol ---- */
const char *km_job_kind_name(const km_job *job);
long long km_job_queued_ms(const km_job *job); /* since it was made; of a job that came back, its former runs too */
/* The different request ids of those who wait for it now, the newest first, at most KM_MAX_REQUESTS; returns how
 * many. They are the waiters' own: to be used before anything else runs. */
int km_job_requests(const km_job *job, const char **ids);
long long km_jobs_waiting(void); /* that a worker could take now */
/* Takes jobs for up to max runs out of the queues, KM_MAX_PULL jobs at most, questions first; they run from now on. A run
 * is one job, or misses of one registration, up to its batch. */
int km_jobs_take(unsigned long long client, int max, km_job **taken);
km_job *km_job_by_id(uint64_t id);   /* NULL if it has ended */
km_job *km_job_running(uint64_t id); /* NULL if it does not run */
int km_job_wanted(const km_job *job); /* somebody waits for it, or nobody has to */
void km_job_done(km_job *job, const char *raw, size_t len);
/* code: the error's first word, and a blank. */
void km_job_failed(km_job *job, const char *code, const char *text, size_t len);
void km_job_disown(km_job *job); /* the worker has done its part: it does not go back when its connection closes */
void km_job_runs(km_job *job, int unattended); /* a script that is an execution from here on; unattended: its clients get its id */
void km_job_ended(km_job *job, int n_results, const char *results, size_t results_len, const char *errors, size_t errors_len);
void km_job_yield(km_job *job); /* of an event: what is parked behind it does not wait for it any more */
void km_job_batch(km_job *job, long long took_us, long long lag_us, const char *error, size_t len); /* NULL: it went well */
void km_job_give_back(km_job *job); /* it was not begun */
void km_jobs_refuse_all(mstime_t now); /* no worker is there: the questions that have waited their grace */
void km_jobs_worker_gone(RedisModuleCtx *ctx, unsigned long long client); /* its jobs go back, or end */

/* ---- protocol.c: the commands by which workers take and answer them ---- */
int km_protocol_register(RedisModuleCtx *ctx); /* KM.PULL, KM.DONE, ... */
size_t km_protocol_workers(void);
long long km_protocol_workers_away(void); /* of them, those that stand in for a host's own */
int km_protocol_looks(void); /* 1 if a worker is there that looks into what is stored */

#endif
