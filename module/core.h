/* What the module's files share. module.c opens with a page on threads and lifetimes: read it first. */
#ifndef KM_CORE_H
#define KM_CORE_H

#include "alloc.h"
#include "kmapi.h"
#include "map.h"

/* ---- settings (config.c): CONFIG SET keymiss.<name> ---- */
typedef struct {
    long long miss_timeout_ms;
    long long model_timeout_ms;
    long long script_timeout_ms;
    long long noworker_grace_ms;
    long long queue_limit;
    long long event_queue_limit;
    long long replica_wait_ms;
    long long answer_ttl_s; /* told to functions, as cache is; 0: for good */
    int cache;
} km_settings;
extern km_settings km_config;
int km_config_register(RedisModuleCtx *ctx);

/* ---- counters (info.c): every field of INFO keymiss that only grows ---- */
#define KM_COUNTERS(X)                                                                                       \
    X(filter_hits, "GETs and KM.MISSes of a watched key that found it")                                      \
    X(filter_misses, "GETs and KM.MISSes of a watched key that missed and became a question")                \
    X(flights_opened, "misses that opened a job")                                                            \
    X(clients_coalesced, "clients that joined a job already open for their key")                             \
    X(jobs_done, "jobs a worker answered")                                                                   \
    X(jobs_failed, "jobs a worker reported as failed")                                                       \
    X(jobs_abandoned, "jobs dropped because every client left before they were taken")                       \
    X(jobs_requeued, "jobs given back because their worker's connection closed, or by KM.GIVEBACK")          \
    X(jobs_lost, "jobs failed because their worker's connection closed twice")                               \
    X(jobs_late, "answers that came after their job had ended")                                              \
    X(clients_timed_out, "clients that waited longer than their time limit")                                 \
    X(clients_disconnected, "clients that left while they waited")                                           \
    X(refused_busy, "requests refused because the queue was full")                                           \
    X(refused_noworker, "requests refused because no worker was attached")                                   \
    X(refused_nofunction, "misses refused because only other shards have a function for their prefix")       \
    X(events_triggered, "key events queued for a registration")                                              \
    X(events_coalesced, "key events dropped because the same one was queued already")                        \
    X(events_dropped, "key events dropped because the event queue was full")                                 \
    X(derived_removed, "derived keys removed because a source of theirs changed")
typedef struct {
#define X(name, help) long long name;
    KM_COUNTERS(X)
#undef X
} km_counters;
extern km_counters km_stats;
int km_info_register(RedisModuleCtx *ctx);

/* ---- registrations and scripts (registry.c) ---- */
typedef struct km_registration {
    struct km_registration *next; /* newest first */
    struct km_registration *next_miss;
    char *id, *script, *reader, *desc, *mode, *prefix, *events, *keytypes, *commands;
    size_t prefix_len;
    long long ordinal;
    int is_miss; /* its events name keymiss */
    /* Since this process started; not saved. */
    long long triggered, done, failed, aborted, total_us, last_us;
    char *last_error;
} km_registration;

int km_registry_register(RedisModuleCtx *ctx); /* KM.SCRIPT, KM.REGISTER, ... and the RDB part */
int km_registry_count(void);
int km_registry_scripts(void);
extern int km_miss_count, km_event_count; /* registrations of each sort; 0 lets hot paths leave at once */
km_registration *km_registry_first(void);
km_registration *km_registry_by_id(const char *id);
/* The registration that answers a miss of this key: the longest prefix, among equals the newest; or NULL. */
km_registration *km_registry_for_miss(const char *key, size_t len);
/* 1 if the comma separated list is empty or holds the word (any case). */
int km_list_has(const char *list, const char *word);
/* What workers watch to notice that registrations or models changed here. */
extern long long km_epoch;
void km_models_changed(void);

/* ---- jobs (jobs.c) ---- */
typedef enum { KM_JOB_MISS, KM_JOB_EVENT, KM_JOB_SCRIPT, KM_JOB_UNREGISTER, KM_JOB_MODEL } km_job_kind;

#define KM_MAX_REQUEST_ID 64

typedef struct km_waiter { /* one blocked client */
    struct km_waiter *next;
    struct km_job *job;
    RedisModuleBlockedClient *bc;
    mstime_t deadline_ms;
    char request[KM_MAX_REQUEST_ID + 1]; /* its request's id (KM.MISS ... REQUEST); empty: it gave none */
} km_waiter;

typedef struct km_job {
    struct km_job *prev, *next; /* in the queue or among the running */
    uint64_t id;
    km_job_kind kind;
    int running, attempts;
    unsigned long long owner; /* the client id that pulled it */
    mstime_t created_ms, taken_ms, deadline_ms;
    char *registration, *event, *key;
    size_t key_len;
    RedisModuleString **payload;
    int n_payload;
    km_waiter *waiters; /* the newest first */
    struct km_job *parked, *parked_tail; /* of a running event: later events of its registration and key */
} km_job;

int km_jobs_register(RedisModuleCtx *ctx); /* KM.PULL, KM.DONE, ... and the timer */
/* Blocks the context's client on the key's job, opening it if there is none. Replies when refused. The request's
 * id, if there is one, has 1 to KM_MAX_REQUEST_ID bytes and no NUL; it is copied. */
int km_jobs_join_miss(RedisModuleCtx *ctx, km_registration *reg, const char *key, size_t len, const char *request);
/* 1 when the event waits in the queue now, 0 when the queue is full. */
int km_jobs_add_event(RedisModuleCtx *ctx, km_registration *reg, const char *event, const char *key, size_t len);
/* Blocks the context's client on a job of its own (script, unregister, model). The payload is copied. */
int km_jobs_submit(RedisModuleCtx *ctx, km_job_kind kind, RedisModuleString **payload, int n, long long timeout_ms);
/* The same without a client; returns the job's id, or 0 when the queue is full. */
uint64_t km_jobs_submit_detached(km_job_kind kind, RedisModuleString **payload, int n, long long timeout_ms);
int km_submit_model_job(RedisModuleCtx *ctx, RedisModuleString **payload, int n_payload, long long timeout_ms);
typedef struct {
    long long workers, queued, events_queued, events_running, running, waiting, oldest_ms;
} km_jobs_now;
km_jobs_now km_jobs_snapshot(void);

/* ---- the miss (miss.c), gears commands (gears.c), tensors and models (ai.h) ---- */
int km_miss_register(RedisModuleCtx *ctx);
void km_miss_watch_events(void); /* key events reach registrations and derived keys from here on */
void km_miss_forget_seen(void); /* many keys have changed at once */
int km_gears_register(RedisModuleCtx *ctx);
int km_events_register(RedisModuleCtx *ctx); /* events.c */

/* ---- what other shards have registered (announce.c) ---- */
int km_announce_register(RedisModuleCtx *ctx);
void km_registrations_changed(void);
void km_announce_tick(mstime_t now);
extern int km_unregistered_count; /* prefixes that others have functions for and this shard has not; 0 ordinarily */
int km_is_unregistered(const char *key, size_t len);

/* ---- derived keys (derive.c) ---- */
int km_derive_register(RedisModuleCtx *ctx); /* KM.DERIVE and the RDB part */
extern size_t km_derived_keys, km_derived_stale; /* 0 lets hot paths leave at once */
size_t km_derived_sources(void);
int km_derive_is_stale(const char *key, size_t len);
/* Removes the stale key, here and on the replicas; not on a replica and not while writes are paused. */
void km_derive_remove_if_allowed(RedisModuleCtx *ctx, RedisModuleString *key);
void km_derive_key_event(const char *event, const char *key, size_t len);
void km_derive_flushed(const RedisModuleFlushInfo *info);

/* 1 if this context cannot be blocked: MULTI, Lua, a module's call. */
int km_cannot_block(RedisModuleCtx *ctx);

/* 1 if the argument is the word, in any case. */
int km_is_word(RedisModuleString *arg, const char *word);

typedef struct {
    const char *name;
    RedisModuleCmdFunc fn;
    const char *flags;
    int first, last, step; /* keys */
} km_command;
int km_commands_register(RedisModuleCtx *ctx, const km_command *table, int n);

#endif
