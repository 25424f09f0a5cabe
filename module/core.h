/* Settings and figures, and what module.c registers. It opens with a page on threads and lifetimes: read that first. */
#ifndef KM_CORE_H
#define KM_CORE_H

#include "alloc.h"
#include "kmapi.h"

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
    const char *model_folder; /* where large blobs are, in files; "": on the heap */
} km_settings;
extern km_settings km_config;

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

/* For a table of names that clients choose. */
static inline uint64_t km_seed(void) {
    uint64_t seed;
    RedisModule_GetRandomBytes((unsigned char *)&seed, sizeof seed);
    return seed;
}

/* ---- what registers itself, and is otherwise asked nothing ---- */
int km_config_register(RedisModuleCtx *ctx);
int km_info_register(RedisModuleCtx *ctx);        /* INFO keymiss, KM.STATS */
int km_miss_register(RedisModuleCtx *ctx);        /* the filter, KM.MISS, KM.NOTIFY */
int km_gears_register(RedisModuleCtx *ctx);       /* RG.* */
int km_execution_commands_register(RedisModuleCtx *ctx); /* RG.DUMPEXECUTIONS, RG.GETEXECUTION, ... */
int km_ai_register(RedisModuleCtx *ctx);          /* AI.MODELGET and the like, KM.MODEL* */
void km_ai_info(RedisModuleInfoCtx *ctx);         /* sections of INFO as RedisAI has them */
int km_ai_info_register(RedisModuleCtx *ctx);     /* KM.BACKEND */
int km_model_store_register(RedisModuleCtx *ctx); /* AI.MODELSTORE, AI.MODELSET */

#endif
