/* The miss: a filter that turns the GET of a watched key into KM.MISS, and KM.MISS, which gives the value or waits for
 * the answer. And the other way a registration is triggered: key events.
 *
 * The filter opens no key. It runs before the server knows the command and whether it may run at all, and there is no
 * way to open a key there that is safe on every server: an expired key is deleted by being opened, outside of any
 * command, and the server ends itself at the next one (7.0 cannot be told not to); with CLIENT NO-TOUCH, 7.2 to 8.0 read
 * the command, which is not known yet. KM.MISS looks, as a command. So that a key that is asked for again and again
 * costs no more than a GET, the filter leaves the GET of a key alone that KM.MISS found a moment ago (seen.h). */
#include <limits.h>
#include <strings.h>
#include <time.h>

#include "command.h"
#include "derive.h"
#include "events.h"
#include "hooks.h"
#include "jobs.h"
#include "moving.h"
#include "seen.h"

/* What is left of a key's time to live, for it to be remembered. An expired key stays, without any event, until somebody
 * opens it: it must not be remembered then. */
#define SEEN_TTL_AT_LEAST_MS 1000
#define MAX_KEYS 1024 /* of one KM.MISSES */

static RedisModuleString *miss_name, *mget_name;
static km_seen *seen;

static long long coarse_now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

/* An MGET with a key whose function wants to hear of it becomes KM.MGET. */
static void filter_mget(RedisModuleCommandFilterCtx *fctx) {
    size_t len;
    if (strcasecmp(RedisModule_StringPtrLen(RedisModule_CommandFilterArgGet(fctx, 0), &len), "mget") != 0 || len != 4) return;
    for (int i = 1; i < RedisModule_CommandFilterArgsCount(fctx); i++) {
        const char *bytes = RedisModule_StringPtrLen(RedisModule_CommandFilterArgGet(fctx, i), &len);
        const km_registration *reg = km_registry_for_miss(bytes, len);
        if (!reg || !reg->is_mget) continue;
        RedisModule_RetainString(NULL, mget_name);
        RedisModule_CommandFilterArgReplace(fctx, 0, mget_name);
        return;
    }
}

/* Runs for every command of every client: the cheapest question first. */
static void filter(RedisModuleCommandFilterCtx *fctx) {
    km_moving_filter(fctx);
    if (km_miss_count + km_unregistered_count + km_hook_count == 0) return;
    if (km_hook_count && km_hooks_filter(fctx)) return;
    if (km_mget_count) filter_mget(fctx);
    if (RedisModule_CommandFilterArgsCount(fctx) != 2) return;
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

/* A watched key that is there is counted, and remembered for the filter. */
static void note_hit(RedisModuleCtx *ctx, RedisModuleKey *key, const char *name, size_t name_len) {
    if (RedisModule_GetSelectedDb(ctx) != 0 || !km_registry_for_miss(name, name_len)) return;
    km_stats.filter_hits++;
    mstime_t ttl_ms = RedisModule_GetExpire(key);
    if (ttl_ms == REDISMODULE_NO_EXPIRE || ttl_ms >= SEEN_TTL_AT_LEAST_MS) km_seen_add(seen, name, name_len, coarse_now_ms());
}

static const char nofunction_text[] = "NOFUNCTION other shards have a function for keys that begin like this one, "
                                      "this shard has none: upload the functions again (keymiss gears upload)";

typedef struct { /* what is at a key: just one of these, or nothing that is to be made */
    const char *value;
    size_t value_len;
    const char *error;
    km_registration *asked; /* what makes it */
} found;

/* The value is that of *key, to be closed by the caller. */
static found look(RedisModuleCtx *ctx, RedisModuleString *name, RedisModuleKey **key) {
    size_t len;
    const char *bytes = RedisModule_StringPtrLen(name, &len);
    int stale = km_derived_stale && RedisModule_GetSelectedDb(ctx) == 0 && km_derive_is_stale(bytes, len);
    if (stale) km_derive_remove_if_allowed(ctx, name);
    *key = stale ? NULL : RedisModule_OpenKey(ctx, name, REDISMODULE_READ);
    int type = RedisModule_KeyType(*key);
    if (type == REDISMODULE_KEYTYPE_STRING) {
        note_hit(ctx, *key, bytes, len);
        found there = {0};
        there.value = RedisModule_StringDMA(*key, &there.value_len, REDISMODULE_READ);
        return there;
    }
    if (type != REDISMODULE_KEYTYPE_EMPTY) return (found){.error = REDISMODULE_ERRORMSG_WRONGTYPE};
    if (km_cannot_block(ctx) || (RedisModule_GetContextFlags(ctx) & REDISMODULE_CTX_FLAGS_SLAVE) ||
        RedisModule_GetSelectedDb(ctx) != 0)
        return (found){0};
    km_registration *reg = km_registry_for_miss(bytes, len);
    if (!reg && km_is_unregistered(bytes, len)) {
        km_stats.refused_nofunction++;
        return (found){.error = nofunction_text};
    }
    if (reg) km_stats.filter_misses++;
    return (found){.asked = reg};
}

/* The option REQUEST id at argv[i]: NULL after an error reply. */
static const char *read_request(RedisModuleCtx *ctx, RedisModuleString *arg) {
    size_t len;
    const char *request = RedisModule_StringPtrLen(arg, &len);
    if (is_request_id(request, len)) return request;
    RedisModule_ReplyWithError(ctx, "ERR a request's id has 1 to 64 characters of A-Z a-z 0-9 . _ -");
    return NULL;
}

static void join(km_asker *asker, int i, km_registration *reg, RedisModuleString *name) {
    size_t len;
    const char *bytes = RedisModule_StringPtrLen(name, &len);
    km_asker_join(asker, i, reg, bytes, len);
}

/* KM.MISS key [REQUEST id]
 * GET, but a key that is not there, or stale, is asked of a worker. */
static int miss_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc != 2 && argc != 4) return RedisModule_WrongArity(ctx);
    const char *request = NULL;
    if (argc == 4) {
        if (!km_is_word(argv[2], "request"))
            return RedisModule_ReplyWithError(ctx, "ERR unknown option: the syntax is KM.MISS key [REQUEST id]");
        if (!(request = read_request(ctx, argv[3]))) return REDISMODULE_OK;
    }
    RedisModuleKey *key;
    found it = look(ctx, argv[1], &key);
    if (it.value) RedisModule_ReplyWithStringBuffer(ctx, it.value, it.value_len);
    RedisModule_CloseKey(key);
    if (it.value) return REDISMODULE_OK;
    if (it.error) return RedisModule_ReplyWithError(ctx, it.error);
    if (!it.asked) return RedisModule_ReplyWithNull(ctx);
    km_asker *asker = km_asker_new(1, KM_ONE, request);
    join(asker, 0, it.asked, argv[1]);
    return km_asker_wait(ctx, asker, km_config.miss_timeout_ms);
}

static const char elsewhere_text[] = "TRYAGAIN the key's slot is not served here, or is on its way to another shard";

static int may_read(RedisModuleUser *user, RedisModuleString *name) {
    return !user || RedisModule_ACLCheckKeyPermissions(user, name, REDISMODULE_CMD_KEY_ACCESS) == REDISMODULE_OK;
}

static RedisModuleUser *user_of(RedisModuleCtx *ctx) {
    RedisModuleString *name = RedisModule_GetCurrentUserName(ctx);
    RedisModuleUser *user = name ? RedisModule_GetModuleUserFromUserName(name) : NULL;
    if (name) RedisModule_FreeString(ctx, name);
    return user;
}

/* KM.MISSES numkeys key [key ...] [LIMIT ms] [REQUEST id]
 * KM.MISS of many keys: an array of [was it there, value or error], when none is missing any more or the time is over.
 * No key in the server's sense: they may lie in different slots of this shard. So the user's rights are checked here, and
 * for each key whether its slot is served here. */
static int misses_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    long long n, limit_ms = km_config.miss_timeout_ms;
    if (argc < 3) return RedisModule_WrongArity(ctx);
    if (km_read_number(argv[1], 1, MAX_KEYS, &n) != 0) return RedisModule_ReplyWithError(ctx, "ERR numkeys must be a whole number from 1 to 1024");
    if (n > argc - 2) return RedisModule_ReplyWithError(ctx, "ERR numkeys is greater than the number of keys that follow");
    const char *request = NULL;
    for (int i = 2 + (int)n; i < argc; i += 2) {
        if (i + 1 < argc && km_is_word(argv[i], "limit")) {
            if (km_read_number(argv[i + 1], 1, LLONG_MAX, &limit_ms) != 0)
                return RedisModule_ReplyWithError(ctx, "ERR LIMIT must be a whole number of milliseconds, 1 or more");
        } else if (i + 1 < argc && km_is_word(argv[i], "request")) {
            if (!(request = read_request(ctx, argv[i + 1]))) return REDISMODULE_OK;
        } else {
            return RedisModule_ReplyWithError(ctx, "ERR unknown option: the syntax is KM.MISSES numkeys key [key ...] [LIMIT ms] [REQUEST id]");
        }
    }
    RedisModuleUser *user = user_of(ctx);
    int all_may = 1;
    for (int i = 0; i < n && all_may; i++) all_may = may_read(user, argv[2 + i]);
    if (user) RedisModule_FreeModuleUser(user);
    if (!all_may) return RedisModule_ReplyWithError(ctx, "NOPERM this user has no permissions to access one of the keys used as arguments");
    km_asker *asker = km_asker_new((int)n, KM_EACH, request);
    for (int i = 0; i < n; i++) {
        RedisModuleKey *key;
        if (!km_is_served_here(ctx, argv[2 + i])) {
            km_asker_give(asker, i, km_answer_error(elsewhere_text, "", 0), 0);
            continue;
        }
        found it = look(ctx, argv[2 + i], &key);
        if (it.value)
            km_asker_give(asker, i, km_answer_bulk(it.value, it.value_len), 1);
        else if (it.error)
            km_asker_give(asker, i, km_answer_error(it.error, "", 0), 0);
        else if (it.asked)
            join(asker, i, it.asked, argv[2 + i]);
        RedisModule_CloseKey(key);
    }
    return km_asker_wait(ctx, asker, limit_ms < km_config.miss_timeout_ms ? limit_ms : km_config.miss_timeout_ms);
}

/* KM.MGET key [key ...]
 * MGET, but a key that is not there, or stale, is asked of a worker if its function names MGET. */
static int mget_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc < 2) return RedisModule_WrongArity(ctx);
    km_asker *asker = km_asker_new(argc - 1, KM_VALUES, NULL);
    for (int i = 0; i < argc - 1; i++) {
        RedisModuleKey *key;
        found it = look(ctx, argv[1 + i], &key);
        if (it.value)
            km_asker_give(asker, i, km_answer_bulk(it.value, it.value_len), 1);
        else if (it.asked && it.asked->is_mget)
            join(asker, i, it.asked, argv[1 + i]);
        RedisModule_CloseKey(key);
    }
    return km_asker_wait(ctx, asker, km_config.miss_timeout_ms);
}

static const char *type_name(RedisModuleCtx *ctx, RedisModuleString *key) {
    static const char *const names[] = {"empty", "string", "list", "hash", "set", "zset", "module", "stream"};
    int type = km_look_at_type(ctx, key, REDISMODULE_OPEN_KEY_NOEXPIRE);
    return names[type >= 0 && type < 8 ? type : 0];
}

/* Gives every registration that asks for it a job; returns how many wait in the queue now. once: see km_jobs_add_event. */
static int queue_event(RedisModuleCtx *ctx, const char *event, RedisModuleString *key, int once) {
    size_t len;
    const char *bytes = RedisModule_StringPtrLen(key, &len), *name = NULL; /* name: looked up once, and only if asked for */
    int queued = 0;
    for (km_registration *reg = km_registry_first(); reg; reg = reg->next) {
        if (reg->is_miss || reg->is_command || reg->period_ms || reg->paused || reg->stopped) continue;
        if (len < reg->prefix_len || memcmp(bytes, reg->prefix, reg->prefix_len) != 0) continue;
        if (!km_list_has(reg->events, event) || !km_hooks_hears(reg)) continue;
        if (reg->keytypes[0]) {
            if (!name) name = type_name(ctx, key);
            /* A deleted key has no type left: its event goes to those that asked for it by name. */
            int deleted = strcmp(name, "empty") == 0 && reg->events[0];
            if (!deleted && !km_list_has(reg->keytypes, name)) continue;
        }
        km_job *job = km_jobs_add_event(ctx, reg, event, bytes, len, once);
        if (!job) continue;
        queued++;
        km_hooks_follow(reg, job);
    }
    return queued;
}

static void key_event(RedisModuleCtx *ctx, const void *data) {
    const km_key_event *event = data;
    size_t len;
    const char *bytes = RedisModule_StringPtrLen(event->key, &len);
    km_seen_drop(seen, bytes, len);
    if (km_event_count == 0 || km_is_move(event->name) ||
        (RedisModule_GetContextFlags(ctx) & (REDISMODULE_CTX_FLAGS_SLAVE | REDISMODULE_CTX_FLAGS_LOADING)))
        return;
    queue_event(ctx, event->name, event->key, 0);
}

/* Time events: one at a time, and only where they may write. */
static void tick(RedisModuleCtx *ctx, const void *data) {
    mstime_t now = *(const mstime_t *)data;
    if (km_time_count == 0 || (RedisModule_GetContextFlags(ctx) & (REDISMODULE_CTX_FLAGS_SLAVE | REDISMODULE_CTX_FLAGS_LOADING))) return;
    for (km_registration *reg = km_registry_first(); reg; reg = reg->next) {
        if (!reg->period_ms || now < reg->next_ms) continue;
        reg->next_ms = now + reg->period_ms;
        km_jobs_add_event(ctx, reg, "time", reg->prefix, reg->prefix_len, 1);
    }
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
    for (int i = 2; i < argc; i++) queued += queue_event(ctx, event, argv[i], 1);
    return RedisModule_ReplyWithLongLong(ctx, queued);
}

static const km_command commands[] = {
    {"km.miss", miss_command, "readonly fast", -2, KM_KEYS(KM_KEY_AT(1, KM_READ)),
     KM_ARGS(KM_KEY("key", 0), KM_TEXT("id", .token = "REQUEST", .flags = KM_OPTIONAL)),
     "Gives a key's value; what is missing is computed by the function registered for it.",
     "O(1), and the function's time for a key that is missing", NULL},
    {"km.misses", misses_command, "readonly fast", -3, NULL,
     KM_ARGS(KM_NUMBER("numkeys"), KM_TEXT("key", .flags = KM_MANY), KM_NUMBER("ms", .token = "LIMIT", .flags = KM_OPTIONAL),
             KM_TEXT("id", .token = "REQUEST", .flags = KM_OPTIONAL)),
     "Gives the values of keys of this shard; what is missing is computed by the function registered for it.",
     "O(N), with N keys, and the function's time for those that are missing", NULL},
    {"km.mget", mget_command, "readonly fast", -2,
     KM_KEYS({.flags = KM_READ, .begin_search_type = REDISMODULE_KSPEC_BS_INDEX, .bs.index.pos = 1,
              .find_keys_type = REDISMODULE_KSPEC_FK_RANGE, .fk.range = {.lastkey = -1, .keystep = 1}}),
     KM_ARGS(KM_KEY("key", 0, .flags = KM_MANY)),
     "Gives the values of keys; what is missing is computed by the function registered for it, if it names MGET.",
     "O(N), with N keys, and the function's time for those that are missing", NULL},
    {"km.notify", notify_command, "deny-script admin", -3, NULL, KM_ARGS(KM_TEXT("event"), KM_TEXT("key", .flags = KM_MANY)),
     "Queues jobs as if the event had happened to the keys.", "O(N*R), with N keys and R registrations", NULL},
};

int km_miss_register(RedisModuleCtx *ctx) {
    miss_name = RedisModule_CreateString(NULL, "km.miss", 7);
    mget_name = RedisModule_CreateString(NULL, "km.mget", 7);
    seen = km_seen_new(km_seed());
    km_on(KM_ON_KEY_EVENT, key_event);
    km_on(KM_ON_KEYS_REPLACED, keys_replaced);
    km_on(KM_ON_TICK, tick);
    if (KM_REGISTER(ctx, commands) != REDISMODULE_OK) return REDISMODULE_ERR;
    return RedisModule_RegisterCommandFilter(ctx, filter, REDISMODULE_CMDFILTER_NOSELF) ? REDISMODULE_OK : REDISMODULE_ERR;
}
