/* The server's events, all in one place: a module has one callback for each, and a second one would replace it. */
#include "core.h"
#include "jobs.h"

/* FLUSHALL and FLUSHDB unlink nothing key by key. Called before and after. */
static void flushed(RedisModuleCtx *ctx, RedisModuleEvent event, uint64_t subevent, void *data) {
    (void)ctx;
    (void)event;
    (void)subevent;
    km_models_changed();
    km_derive_flushed(data);
    km_miss_forget_seen();
}

/* Another way in which many keys change without an event of each. */
static void keyspace_replaced(RedisModuleCtx *ctx, RedisModuleEvent event, uint64_t subevent, void *data) {
    (void)ctx;
    (void)event;
    (void)subevent;
    (void)data;
    km_miss_forget_seen();
}

static void client_changed(RedisModuleCtx *ctx, RedisModuleEvent event, uint64_t subevent, void *data) {
    (void)event;
    if (subevent == REDISMODULE_SUBEVENT_CLIENT_CHANGE_DISCONNECTED)
        km_protocol_client_left(ctx, ((RedisModuleClientInfo *)data)->id);
}

int km_events_register(RedisModuleCtx *ctx) {
    static const struct {
        uint64_t event;
        RedisModuleEventCallback callback;
    } table[] = {
        {REDISMODULE_EVENT_FLUSHDB, flushed},
        {REDISMODULE_EVENT_SWAPDB, keyspace_replaced},
        {REDISMODULE_EVENT_LOADING, keyspace_replaced},
        {REDISMODULE_EVENT_REPL_ASYNC_LOAD, keyspace_replaced},
        {REDISMODULE_EVENT_REPLICATION_ROLE_CHANGED, keyspace_replaced},
        {REDISMODULE_EVENT_CLIENT_CHANGE, client_changed},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (RedisModule_SubscribeToServerEvent(ctx, (RedisModuleEvent){table[i].event, 1}, table[i].callback) != REDISMODULE_OK)
            return REDISMODULE_ERR;
    return REDISMODULE_OK;
}
