/* Jobs: what is asked of workers, and who waits for it. */
#ifndef KM_JOBS_H
#define KM_JOBS_H

#include "map.h"
#include "registry.h"

#define KM_MAX_PULL 1024
#define KM_MAX_REQUESTS 16 /* ids that a job carries into a log: enough to find it, not a line without end */

typedef enum { KM_JOB_MISS, KM_JOB_EVENT, KM_JOB_SCRIPT, KM_JOB_UNREGISTER, KM_JOB_MODEL } km_job_kind;

#define KM_MAX_REQUEST_ID 64

typedef struct km_answer km_answer;

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
    char request[KM_MAX_REQUEST_ID + 1]; /* its request's id (KM.MISS ... REQUEST); empty: it gave none */
    enum { KM_ONE, KM_EACH, KM_VALUES } form; /* of its reply: one value; an array of [was it there, value or error]; an array of
                                                 values, or the first error in place of it */
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
    size_t key_len;
    int batch; /* of misses: as many of its registration are one run of its function */
    RedisModuleString **payload;
    int n_payload;
    km_waiter *waiters; /* the newest first */
    int by_key;   /* of an event: it waits for those of its own key only, and the same one is not queued twice */
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
/* 1 when the event waits in the queue now, 0 when the queue is full. once: not if the same one waits already; of a
 * registration that coalesces that is so in any case. */
int km_jobs_add_event(RedisModuleCtx *ctx, km_registration *reg, const char *event, const char *key, size_t len, int once);
/* A job of its own (script, unregister, model); the payload is copied. Blocks the context's client on it, or replies
 * with an error: the queue is full, or the client cannot wait (cannot_wait is the error then). */
int km_jobs_submit(RedisModuleCtx *ctx, km_job_kind kind, RedisModuleString **payload, int n, long long timeout_ms, const char *cannot_wait);
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
km_job *km_job_running(uint64_t id); /* NULL if it does not run */
int km_job_wanted(const km_job *job); /* somebody waits for it, or nobody has to */
void km_job_done(km_job *job, const char *raw, size_t len);
void km_job_failed(km_job *job, const char *text, size_t len);
void km_job_give_back(km_job *job); /* it was not begun */
void km_jobs_refuse_all(mstime_t now); /* no worker is there: the questions that have waited their grace */
void km_jobs_worker_gone(RedisModuleCtx *ctx, unsigned long long client); /* its jobs go back, or end */

/* ---- protocol.c: the commands by which workers take and answer them ---- */
int km_protocol_register(RedisModuleCtx *ctx); /* KM.PULL, KM.DONE, ... */
size_t km_protocol_workers(void);

/* ---- answer.c ---- */
km_answer *km_answer_new(const char *raw, size_t len); /* one RESP2 value, checked; held once */
km_answer *km_answer_bulk(const char *bytes, size_t len);
km_answer *km_answer_error(const char *prefix, const char *text, size_t len); /* line breaks become spaces */
km_answer *km_answer_share(km_answer *a);
int km_answer_is_error(const km_answer *a);
void km_answer_release(km_answer *a);
void km_answer_reply(RedisModuleCtx *ctx, const km_answer *a);

#endif
