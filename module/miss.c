/* The miss: a filter that turns the GET of a watched key into KM.MISS, and KM.MISS, which gives the value or waits for
 * the answer. And the other way a registration is triggered: key events.
 *
 * The filter opens no key. It runs before the server knows the command and whether it may run at all, and there is no
 * way to open a key there that is safe on every server: an expired key is deleted by being opened, outside of any
 * command, and the server ends itself at the next one (7.0 cannot be told not to); with CLIENT NO-TOUCH, 7.2 to 8.0 read
 * the command, which is not known yet. KM.MISS looks, as a command. So that a key that is asked for again and again
 * costs no more than a GET, the filter leaves the GET of a key alone that KM.MISS found a moment ago (seen.h). */
#include <time.h>

#include "command.h"
#include "derive.h"
#include "events.h"
#include "jobs.h"
#include "seen.h"

/* What is left of a key's time to live, for it to be remembered. An expired key stays, without any event, until somebody
 * opens it: it must not be remembered then. */
#define SEEN_TTL_AT_LEAST_MS 1000

static RedisModuleString *miss_name;
static km_seen *seen;

static long long coarse_now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

/* Runs for every command of every client: the cheapest question first. */
static void filter(RedisModuleCommandFilterCtx *fctx) {
    if (km_miss_count + km_unregistered_count == 0 || RedisModule_CommandFilterArgsCount(fctx) != 2) return;
    size_t len;
    const char *name = RedisModule_StringPtrLen(RedisModule_CommandFilterArgGet(fctx, 0), &len);
    if (len != 3 || (name[0] | 32) != 'g' || (name[1] | 32) != 'e' || (name[2] | 32) != 't') return;
    const char *bytes = RedisModule_StringPtrLen(RedisModule_CommandFilterArgGet(fctx, 1), &len);
    if (!km_registry_for_miss(bytes, len) && !km_is_unregistered(bytes, len)) return;
    if (km_seen_has(seen, bytes, len, coarse_now_ms()) && !(km_derived_stale && km_derive_is_stale(bytes, len))) {
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

/* The value of an open key. A watched one is remembered for the filter. */
static int reply_hit(RedisModuleCtx *ctx, RedisModuleKey *key, const char *name, size_t name_len) {
    if (RedisModule_GetSelectedDb(ctx) == 0 && km_registry_for_miss(name, name_len)) {
        km_stats.filter_hits++;
        mstime_t ttl_ms = RedisModule_GetExpire(key);
        if (ttl_ms == REDISMODULE_NO_EXPIRE || ttl_ms >= SEEN_TTL_AT_LEAST_MS) km_seen_add(seen, name, name_len, coarse_now_ms());
    }
    size_t len;
    const char *value = RedisModule_StringDMA(key, &len, REDISMODULE_READ);
    RedisModule_ReplyWithStringBuffer(ctx, value, len);
    RedisModule_CloseKey(key);
    return REDISMODULE_OK;
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
    if (type == REDISMODULE_KEYTYPE_STRING) return reply_hit(ctx, key, bytes, len);
    RedisModule_CloseKey(key);
    if (type != REDISMODULE_KEYTYPE_EMPTY) return RedisModule_ReplyWithError(ctx, REDISMODULE_ERRORMSG_WRONGTYPE);
    if (km_cannot_block(ctx) || (RedisModule_GetContextFlags(ctx) & REDISMODULE_CTX_FLAGS_SLAVE) ||
        RedisModule_GetSelectedDb(ctx) != 0)
        return RedisModule_ReplyWithNull(ctx);
    km_registration *reg = km_registry_for_miss(bytes, len);
    if (!reg && km_is_unregistered(bytes, len)) {
        km_stats.refused_nofunction++;
        return RedisModule_ReplyWithError(ctx, "NOFUNCTION other shards have a function for keys that begin like this one, "
                                               "this shard has none: upload the functions again (keymiss gears upload)");
    }
    if (!reg) return RedisModule_ReplyWithNull(ctx);
    km_stats.filter_misses++;
    return km_jobs_join_miss(ctx, reg, bytes, len, request);
}

static const char *type_name(RedisModuleCtx *ctx, RedisModuleString *key) {
    static const char *const names[] = {"empty", "string", "list", "hash", "set", "zset", "module", "stream"};
    int type = km_look_at_type(ctx, key, REDISMODULE_OPEN_KEY_NOEXPIRE);
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

static void key_event(RedisModuleCtx *ctx, const void *data) {
    const km_key_event *event = data;
    size_t len;
    const char *bytes = RedisModule_StringPtrLen(event->key, &len);
    km_seen_drop(seen, bytes, len);
    if (km_event_count == 0 ||
        (RedisModule_GetContextFlags(ctx) & (REDISMODULE_CTX_FLAGS_SLAVE | REDISMODULE_CTX_FLAGS_LOADING)))
        return;
    queue_event(ctx, event->name, event->key);
}

static void keys_replaced(RedisModuleCtx *ctx, const void *data) {
    (void)ctx;
    (void)data;
    km_seen_clear(seen);
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

static const km_command commands[] = {
    {"km.miss", miss_command, "readonly fast", -2, KM_KEYS(KM_KEY_AT(1, KM_READ)),
     KM_ARGS(KM_KEY("key", 0), KM_TEXT("id", .token = "REQUEST", .flags = KM_OPTIONAL)),
     "Gives a key's value; what is missing is computed by the function registered for it.",
     "O(1), and the function's time for a key that is missing", NULL},
    {"km.notify", notify_command, "deny-script admin", -3, NULL, KM_ARGS(KM_TEXT("event"), KM_TEXT("key", .flags = KM_MANY)),
     "Queues jobs as if the event had happened to the keys.", "O(N*R), with N keys and R registrations", NULL},
};

int km_miss_register(RedisModuleCtx *ctx) {
    miss_name = RedisModule_CreateString(NULL, "km.miss", 7);
    seen = km_seen_new(km_seed());
    km_on(KM_ON_KEY_EVENT, key_event);
    km_on(KM_ON_KEYS_REPLACED, keys_replaced);
    if (KM_REGISTER(ctx, commands) != REDISMODULE_OK) return REDISMODULE_ERR;
    return RedisModule_RegisterCommandFilter(ctx, filter, REDISMODULE_CMDFILTER_NOSELF) ? REDISMODULE_OK : REDISMODULE_ERR;
}
