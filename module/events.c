#include "events.h"

#define MAX_HOOKS 8
#define TICK_MS 100

static km_hook hooks[KM_N_EVENTS][MAX_HOOKS];
static RedisModuleCtx *own_ctx; /* detached: to subscribe to key events later than at load */

void km_on(km_event event, km_hook hook) {
    int i = 0;
    while (hooks[event][i]) i++; /* there are fewer hooks in the sources than room */
    hooks[event][i] = hook;
}

void km_tell(km_event event, RedisModuleCtx *ctx, const void *data) {
    for (int i = 0; i < MAX_HOOKS && hooks[event][i]; i++) hooks[event][i](ctx, data);
}

static int key_event(RedisModuleCtx *ctx, int type, const char *event, RedisModuleString *key) {
    (void)type;
    if (RedisModule_GetSelectedDb(ctx) == 0) km_tell(KM_ON_KEY_EVENT, ctx, &(km_key_event){event, key});
    return REDISMODULE_OK;
}

void km_events_watch_keys(void) {
    static int watching;
    if (watching) return;
    watching = RedisModule_SubscribeToKeyspaceEvents(
                   own_ctx,
                   REDISMODULE_NOTIFY_GENERIC | REDISMODULE_NOTIFY_STRING | REDISMODULE_NOTIFY_LIST | REDISMODULE_NOTIFY_SET |
                       REDISMODULE_NOTIFY_HASH | REDISMODULE_NOTIFY_ZSET | REDISMODULE_NOTIFY_STREAM |
                       REDISMODULE_NOTIFY_EXPIRED | REDISMODULE_NOTIFY_EVICTED | REDISMODULE_NOTIFY_MODULE,
                   key_event) == REDISMODULE_OK;
}

/* FLUSHALL and FLUSHDB unlink nothing key by key. */
static void flushed(RedisModuleCtx *ctx, RedisModuleEvent event, uint64_t subevent, void *data) {
    (void)event;
    (void)subevent;
    km_tell(KM_ON_FLUSH, ctx, data);
    km_tell(KM_ON_KEYS_REPLACED, ctx, NULL);
}

static void keyspace_replaced(RedisModuleCtx *ctx, RedisModuleEvent event, uint64_t subevent, void *data) {
    (void)event;
    (void)subevent;
    (void)data;
    km_tell(KM_ON_KEYS_REPLACED, ctx, NULL);
}

static void loading(RedisModuleCtx *ctx, RedisModuleEvent event, uint64_t subevent, void *data) {
    km_tell(KM_ON_LOADING, ctx, &subevent);
    keyspace_replaced(ctx, event, subevent, data);
}

static void client_changed(RedisModuleCtx *ctx, RedisModuleEvent event, uint64_t subevent, void *data) {
    (void)event;
    unsigned long long client = ((RedisModuleClientInfo *)data)->id;
    if (subevent == REDISMODULE_SUBEVENT_CLIENT_CHANGE_DISCONNECTED) km_tell(KM_ON_CLIENT_LEFT, ctx, &client);
}

static void tick(RedisModuleCtx *ctx, void *data) {
    (void)data;
    mstime_t now = RedisModule_Milliseconds();
    km_tell(KM_ON_TICK, ctx, &now);
    RedisModule_CreateTimer(ctx, TICK_MS, tick, NULL);
}

int km_events_register(RedisModuleCtx *ctx) {
    static const struct {
        uint64_t event;
        RedisModuleEventCallback callback;
    } table[] = {
        {REDISMODULE_EVENT_FLUSHDB, flushed},
        {REDISMODULE_EVENT_SWAPDB, keyspace_replaced},
        {REDISMODULE_EVENT_LOADING, loading},
        {REDISMODULE_EVENT_REPL_ASYNC_LOAD, keyspace_replaced},
        {REDISMODULE_EVENT_REPLICATION_ROLE_CHANGED, keyspace_replaced},
        {REDISMODULE_EVENT_CLIENT_CHANGE, client_changed},
    };
    own_ctx = RedisModule_GetDetachedThreadSafeContext(ctx);
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (RedisModule_SubscribeToServerEvent(ctx, (RedisModuleEvent){table[i].event, 1}, table[i].callback) != REDISMODULE_OK)
            return REDISMODULE_ERR;
    RedisModule_CreateTimer(ctx, TICK_MS, tick, NULL);
    return REDISMODULE_OK;
}
