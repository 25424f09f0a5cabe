#include "blob.h"
#include "command.h"
#include "datatype.h"
#include "derive.h"
#include "jobs.h"

km_counters km_stats;

/* Calls add(name, value) for every figure: INFO keymiss and KM.STATS show the same ones. */
static void each_figure(void (*add)(void *arg, const char *name, long long value), void *arg) {
    km_jobs_now now = km_jobs_snapshot();
    add(arg, "workers", (long long)km_protocol_workers());
    add(arg, "workers_away", km_protocol_workers_away());
    add(arg, "jobs_queued", now.queued);
    add(arg, "events_queued", now.events_queued);
    add(arg, "events_running", now.events_running);
    add(arg, "jobs_running", now.running);
    add(arg, "clients_waiting", now.waiting);
    add(arg, "oldest_job_ms", now.oldest_ms);
    add(arg, "registrations", km_registry_count());
    add(arg, "scripts", km_registry_scripts());
    add(arg, "tensors_and_models_bytes", km_values_bytes());
    add(arg, "mapped_models_bytes", km_blobs_mapped_bytes());
    add(arg, "derived_keys", (long long)km_derived_keys);
    add(arg, "derived_sources", (long long)km_derived_sources());
    add(arg, "derived_stale", (long long)km_derived_stale);
    add(arg, "states", (long long)km_derived_states());
#define X(name, help) add(arg, #name, km_stats.name);
    KM_COUNTERS(X)
#undef X
}

static void add_info(void *arg, const char *name, long long value) {
    RedisModule_InfoAddFieldLongLong(arg, name, value);
}

static void info(RedisModuleInfoCtx *ctx, int for_crash_report) {
    (void)for_crash_report;
    if (RedisModule_InfoAddSection(ctx, "") == REDISMODULE_OK) each_figure(add_info, ctx);
    km_ai_info(ctx);
}

typedef struct {
    RedisModuleCtx *ctx;
    long n;
} stats_reply;

static void add_reply(void *arg, const char *name, long long value) {
    stats_reply *reply = arg;
    RedisModule_ReplyWithCString(reply->ctx, name);
    RedisModule_ReplyWithLongLong(reply->ctx, value);
    reply->n += 2;
}

/* KM.STATS */
static int stats_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    (void)argv;
    if (argc != 1) return RedisModule_WrongArity(ctx);
    stats_reply reply = {ctx, 0};
    RedisModule_ReplyWithArray(ctx, REDISMODULE_POSTPONED_LEN);
    each_figure(add_reply, &reply);
    RedisModule_ReplySetArrayLength(ctx, reply.n);
    return REDISMODULE_OK;
}

static const km_command commands[] = {
    {"km.stats", stats_command, "readonly fast", 1, NULL, NULL,
     "Gives the figures of INFO keymiss.", "O(1)", "nondeterministic_output"},
};

int km_info_register(RedisModuleCtx *ctx) {
    if (KM_REGISTER(ctx, commands) != REDISMODULE_OK) return REDISMODULE_ERR;
    return RedisModule_RegisterInfoFunc(ctx, info);
}
