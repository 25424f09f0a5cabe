/* The miss: a filter that turns the GET of a watched key that is not there (or stale) into KM.MISS, and KM.MISS,
 * which waits for the answer. And the other way a registration is triggered: key events. */
#include "core.h"

static RedisModuleCtx *filter_ctx; /* detached: the filter has no context of its own; database 0 */
static RedisModuleString *miss_name;
static int look_mode; /* how the filter opens a key without leaving a trace */

int km_cannot_block(RedisModuleCtx *ctx) {
    int flags = RedisModule_GetContextFlags(ctx);
    return (flags & (REDISMODULE_CTX_FLAGS_DENY_BLOCKING | REDISMODULE_CTX_FLAGS_MULTI |
                     REDISMODULE_CTX_FLAGS_LUA)) != 0;
}

/* Runs for every command of every client: the cheapest question first. */
static void filter(RedisModuleCommandFilterCtx *fctx) {
    if (km_miss_count == 0 || RedisModule_CommandFilterArgsCount(fctx) != 2) return;
    size_t len;
    const char *name = RedisModule_StringPtrLen(RedisModule_CommandFilterArgGet(fctx, 0), &len);
    if (len != 3 || (name[0] | 32) != 'g' || (name[1] | 32) != 'e' || (name[2] | 32) != 't') return;
    RedisModuleString *key = RedisModule_CommandFilterArgGet(fctx, 1);
    const char *bytes = RedisModule_StringPtrLen(key, &len);
    if (!km_registry_for_miss(bytes, len)) return;
    RedisModuleKey *found = RedisModule_OpenKey(filter_ctx, key, look_mode);
    int type = RedisModule_KeyType(found);
    RedisModule_CloseKey(found);
    if (type != REDISMODULE_KEYTYPE_EMPTY && !(km_derived_stale && km_derive_is_stale(bytes, len))) {
        km_stats.filter_hits++;
        return;
    }
    RedisModule_RetainString(NULL, miss_name);
    RedisModule_CommandFilterArgReplace(fctx, 0, miss_name);
}

/* 1 if the text can be a request's id. It goes into logs and HTTP headers: nothing in it needs quoting there. */
static int is_request_id(const char *text, size_t len) {
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    return len >= 1 && len <= KM_MAX_REQUEST_ID && strspn(text, letters) == len;
}

/* KM.MISS key [REQUEST id]
 * GET, but a key that is not there, or stale, is asked of a worker. */
static int miss_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc != 2 && argc != 4) return RedisModule_WrongArity(ctx);
    const char *request = NULL;
    size_t len;
    if (argc == 4) {
        if (!km_is_word(argv[2], "request"))
            return RedisModule_ReplyWithError(ctx, "ERR unknown option: the syntax is KM.MISS key [REQUEST id]");
        request = RedisModule_StringPtrLen(argv[3], &len);
        if (!is_request_id(request, len))
            return RedisModule_ReplyWithError(ctx, "ERR a request's id has 1 to 64 characters of A-Z a-z 0-9 . _ -");
    }
    const char *bytes = RedisModule_StringPtrLen(argv[1], &len);
    int stale = km_derived_stale && RedisModule_GetSelectedDb(ctx) == 0 && km_derive_is_stale(bytes, len);
    if (stale) km_derive_remove_if_allowed(ctx, argv[1]);
    RedisModuleKey *key = stale ? NULL : RedisModule_OpenKey(ctx, argv[1], REDISMODULE_READ);
    int type = RedisModule_KeyType(key);
    if (type == REDISMODULE_KEYTYPE_STRING) {
        if (RedisModule_GetSelectedDb(ctx) == 0 && km_registry_for_miss(bytes, len)) km_stats.filter_hits++;
        char *value = RedisModule_StringDMA(key, &len, REDISMODULE_READ);
        RedisModule_ReplyWithStringBuffer(ctx, value, len);
        RedisModule_CloseKey(key);
        return REDISMODULE_OK;
    }
    RedisModule_CloseKey(key);
    if (type != REDISMODULE_KEYTYPE_EMPTY) return RedisModule_ReplyWithError(ctx, REDISMODULE_ERRORMSG_WRONGTYPE);
    if (km_cannot_block(ctx) || (RedisModule_GetContextFlags(ctx) & REDISMODULE_CTX_FLAGS_SLAVE) ||
        RedisModule_GetSelectedDb(ctx) != 0)
        return RedisModule_ReplyWithNull(ctx);
    km_registration *reg = km_registry_for_miss(bytes, len);
    if (!reg) return RedisModule_ReplyWithNull(ctx);
    km_stats.filter_misses++;
    return km_jobs_join_miss(ctx, reg, bytes, len, request);
}

static const char *type_name(RedisModuleCtx *ctx, RedisModuleString *key) {
    static const char *const names[] = {"empty", "string", "list", "hash", "set", "zset", "module", "stream"};
    RedisModuleKey *open = RedisModule_OpenKey(
        ctx, key, REDISMODULE_READ | REDISMODULE_OPEN_KEY_NOTOUCH | REDISMODULE_OPEN_KEY_NOSTATS | REDISMODULE_OPEN_KEY_NONOTIFY);
    int type = RedisModule_KeyType(open);
    RedisModule_CloseKey(open);
    return names[type >= 0 && type < 8 ? type : 0];
}

/* Gives every registration that asks for it a job; returns how many wait in the queue now. */
static int queue_event(RedisModuleCtx *ctx, const char *event, RedisModuleString *key) {
    size_t len;
    const char *bytes = RedisModule_StringPtrLen(key, &len), *name = NULL; /* name: looked up once, and only if asked for */
    int queued = 0;
    for (km_registration *reg = km_registry_first(); reg; reg = reg->next) {
        if (reg->is_miss || len < reg->prefix_len || memcmp(bytes, reg->prefix, reg->prefix_len) != 0) continue;
        if (!km_list_has(reg->events, event)) continue;
        if (reg->keytypes[0]) {
            if (!name) name = type_name(ctx, key);
            /* A deleted key has no type left: its event goes to those that asked for it by name. */
            int deleted = strcmp(name, "empty") == 0 && reg->events[0];
            if (!deleted && !km_list_has(reg->keytypes, name)) continue;
        }
        queued += km_jobs_add_event(ctx, reg, event, bytes, len);
    }
    return queued;
}

static int key_event(RedisModuleCtx *ctx, int type, const char *event, RedisModuleString *key) {
    (void)type;
    if ((km_event_count == 0 && km_derived_keys == 0) || RedisModule_GetSelectedDb(ctx) != 0) return REDISMODULE_OK;
    size_t len;
    const char *bytes = RedisModule_StringPtrLen(key, &len);
    if (km_derived_keys) km_derive_key_event(event, bytes, len); /* on replicas and while an AOF loads, too */
    if (km_event_count == 0 ||
        (RedisModule_GetContextFlags(ctx) & (REDISMODULE_CTX_FLAGS_SLAVE | REDISMODULE_CTX_FLAGS_LOADING)))
        return REDISMODULE_OK;
    queue_event(ctx, event, key);
    return REDISMODULE_OK;
}

/* KM.NOTIFY event key [key ...]: as if the event had happened to the keys; for what was missed, and for events of
 * the functions' own. No key in the server's sense: they may lie in different slots of this shard. */
static int notify_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc < 3) return RedisModule_WrongArity(ctx);
    if (RedisModule_GetContextFlags(ctx) & REDISMODULE_CTX_FLAGS_SLAVE)
        return RedisModule_ReplyWithError(ctx, "ERR a replica runs no functions: send KM.NOTIFY to its master");
    if (RedisModule_GetSelectedDb(ctx) != 0) return RedisModule_ReplyWithError(ctx, "ERR functions see database 0 only");
    size_t len;
    const char *event = RedisModule_StringPtrLen(argv[1], &len);
    if (len == 0 || len > 64 || memchr(event, 0, len)) return RedisModule_ReplyWithError(ctx, "ERR an event's name has 1 to 64 characters");
    long long queued = 0;
    for (int i = 2; i < argc; i++) queued += queue_event(ctx, event, argv[i]);
    return RedisModule_ReplyWithLongLong(ctx, queued);
}

/* Once, and not before a registration or a derived key needs it: a subscriber costs every SET of every client a context. */
void km_miss_watch_events(void) {
    static int watching;
    if (watching) return;
    watching = RedisModule_SubscribeToKeyspaceEvents(
                   filter_ctx,
                   REDISMODULE_NOTIFY_GENERIC | REDISMODULE_NOTIFY_STRING | REDISMODULE_NOTIFY_LIST | REDISMODULE_NOTIFY_SET |
                       REDISMODULE_NOTIFY_HASH | REDISMODULE_NOTIFY_ZSET | REDISMODULE_NOTIFY_STREAM |
                       REDISMODULE_NOTIFY_EXPIRED | REDISMODULE_NOTIFY_EVICTED | REDISMODULE_NOTIFY_MODULE,
                   key_event) == REDISMODULE_OK;
}

int km_miss_register(RedisModuleCtx *ctx) {
    static const km_command commands[] = {
        {"km.miss", miss_command, "readonly fast", 1, 1, 1},
        {"km.notify", notify_command, "deny-script admin", 0, 0, 0},
    };
    if (km_commands_register(ctx, commands, 2) != REDISMODULE_OK) return REDISMODULE_ERR;
    filter_ctx = RedisModule_GetDetachedThreadSafeContext(ctx);
    miss_name = RedisModule_CreateString(NULL, "km.miss", 7);
    /* The look must not count as a hit or miss of its own, nor move the key's last use. From 7.2 there are
     * flags for that; in 7.0 opening for writing has the same effect (and, with implicit signals off,
     * closing it again tells no WATCH). */
    look_mode = REDISMODULE_OPEN_KEY_NOTOUCH;
    if (RedisModule_GetServerVersion() >= 0x00070200)
        look_mode |= REDISMODULE_READ | REDISMODULE_OPEN_KEY_NOSTATS | REDISMODULE_OPEN_KEY_NONOTIFY;
    else
        look_mode |= REDISMODULE_READ | REDISMODULE_WRITE;
    return RedisModule_RegisterCommandFilter(ctx, filter, REDISMODULE_CMDFILTER_NOSELF) ? REDISMODULE_OK : REDISMODULE_ERR;
}
