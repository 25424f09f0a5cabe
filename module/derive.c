/* Derived keys: a key made from other keys (an answer: from a sentence and a model) goes when one of those
 * changes. What depends on what is in deps.c; here is what tells it of changes, and what takes the keys away. */
#include <time.h>

#include "command.h"
#include "datatype.h"
#include "deps.h"
#include "derive.h"
#include "events.h"
#include "moving.h"
#include "registry.h"

#define RDB_VERSION 1
/* Of every turn of the server's loop; handing the UNLINKs to replicas and AOF takes about as long again. */
#define SLICE_US 500
#define FREE_AT_ONCE 256   /* records between two looks at the clock: about 50 us */
#define NEXT_SLICE_MS 1
#define RETRY_MS 100       /* where writing is not allowed now: on a replica, in a pause before a failover */

size_t km_derived_keys, km_derived_stale;

typedef struct discarded { /* after FLUSHALL ASYNC: freed little by little */
    struct discarded *next;
    km_deps *deps;
} discarded;

static RedisModuleCtx *own_ctx; /* detached, database 0: for timers and looks outside of commands */
static km_deps *deps;
static uint64_t seed;
static discarded *trash;
static int timer_set;

static void recount(void) {
    km_derived_keys = km_deps_keys(deps);
    km_derived_stale = km_deps_stale(deps);
}

size_t km_derived_sources(void) { return km_deps_sources(deps); }
size_t km_derived_states(void) { return km_deps_states(deps); }

static km_name name_from(RedisModuleString *s) {
    km_name name;
    name.bytes = RedisModule_StringPtrLen(s, &name.len);
    return name;
}

static int exists(RedisModuleCtx *ctx, RedisModuleString *name) { return km_look_at_type(ctx, name, 0) != REDISMODULE_KEYTYPE_EMPTY; }

/* ---- taking stale keys away ---- */

/* Only a master removes, and not while a manual failover or CLIENT PAUSE keeps its data as it is: then the
 * server ends itself if anything is replicated. */
int km_may_write(RedisModuleCtx *ctx) {
    return !(RedisModule_GetContextFlags(ctx) & (REDISMODULE_CTX_FLAGS_SLAVE | REDISMODULE_CTX_FLAGS_LOADING)) &&
           !RedisModule_AvoidReplicaTraffic();
}

/* UNLINK, without its checks: the key may be in a slot that is just leaving. */
static void remove_key(RedisModuleCtx *ctx, RedisModuleString *name) {
    RedisModuleKey *key = RedisModule_OpenKey(ctx, name, REDISMODULE_READ | REDISMODULE_WRITE | REDISMODULE_OPEN_KEY_NOTOUCH);
    int there = RedisModule_KeyType(key) != REDISMODULE_KEYTYPE_EMPTY; /* else it has just expired */
    if (there) RedisModule_UnlinkKey(key);
    RedisModule_CloseKey(key);
    km_deps_forget(deps, name_from(name));
    recount();
    if (!there) return;
    km_stats.derived_removed++;
    RedisModule_SignalModifiedKey(ctx, name);
    RedisModule_NotifyKeyspaceEvent(ctx, REDISMODULE_NOTIFY_GENERIC, "del", name);
    RedisModule_Replicate(ctx, "UNLINK", "s", name);
}

static long long now_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000LL + now.tv_nsec / 1000;
}

static void free_trash(long long until_us) {
    while (trash && now_us() < until_us) {
        if (!km_deps_free_some(trash->deps, FREE_AT_ONCE)) continue;
        discarded *next = trash->next;
        km_free(trash);
        trash = next;
    }
}

static void slice(RedisModuleCtx *ctx, void *data);

static void set_timer(long long ms) {
    if (timer_set) return;
    timer_set = 1;
    RedisModule_CreateTimer(own_ctx, ms, slice, NULL);
}

static void slice(RedisModuleCtx *ctx, void *data) {
    (void)data;
    timer_set = 0;
    km_move_ended();
    long long until_us = now_us() + SLICE_US;
    int writes = km_may_write(ctx);
    km_name stale;
    while (writes && now_us() < until_us && km_deps_any_stale(deps, &stale)) {
        RedisModuleString *name = RedisModule_CreateString(NULL, stale.bytes, stale.len);
        remove_key(ctx, name);
        RedisModule_FreeString(NULL, name);
    }
    free_trash(until_us);
    if (trash || (writes && km_derived_stale))
        set_timer(NEXT_SLICE_MS);
    else if (km_derived_stale)
        set_timer(RETRY_MS);
}

/* ---- what changes ---- */

/* Events after which the value is as it was: only its time to live is another. */
int km_keeps_value(const char *event) {
    static const char *const events[] = {"expire", "persist", "hexpire", "hpersist"};
    for (size_t i = 0; i < sizeof events / sizeof *events; i++)
        if (strcmp(event, events[i]) == 0) return 1;
    return 0;
}

void km_derive_source_changed(km_name source) {
    if (km_derived_keys == 0 || !km_deps_has(deps, source)) return;
    km_deps_changed(deps, source);
    recount();
    if (km_derived_stale) set_timer(NEXT_SLICE_MS);
}

/* On replicas and while an AOF loads, too. */
static void key_event(RedisModuleCtx *ctx, const void *data) {
    (void)ctx;
    const km_key_event *event = data;
    if (!km_keeps_value(event->name)) km_derive_source_changed(name_from(event->key));
}

/* The records that have a derived key go when a source changes do not move with its slot. So what a function makes again
 * when it is asked for does not move either: it is removed. */
static int derived_one_stays(const char *key, size_t len) {
    km_name name = {key, len};
    if (km_derived_keys == 0 || !km_deps_is_derived(deps, name) || !km_registry_for_miss(key, len)) return 0;
    km_deps_record(deps, name, NULL, 0);
    recount();
    set_timer(NEXT_SLICE_MS);
    return 1;
}

static void forget_all(int at_once) {
    if (km_derived_keys == 0) return;
    km_deps *old = deps;
    deps = km_deps_new(seed);
    recount();
    if (at_once) {
        while (!km_deps_free_some(old, SIZE_MAX)) continue;
        return;
    }
    discarded *d = km_alloc(sizeof *d);
    *d = (discarded){trash, old};
    trash = d;
    set_timer(NEXT_SLICE_MS);
}

static void flushed(RedisModuleCtx *ctx, const void *data) {
    (void)ctx;
    const RedisModuleFlushInfo *info = data;
    if (info->dbnum <= 0) forget_all(info->sync);
}

int km_derive_is_stale(const char *key, size_t len) { return km_deps_is_stale(deps, (km_name){key, len}); }

void km_derive_remove_if_allowed(RedisModuleCtx *ctx, RedisModuleString *key) {
    if (km_may_write(ctx)) remove_key(ctx, key);
}

/* ---- the command ---- */

/* KM.DERIVE [MODELS nummodels model [model ...]] numsources source [source ...] key [key ...]
 * Models are no keys here: they belong to the shard, and may lie in another slot. They are named without their tag. */
static int derive_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    long long n, n_models = 0;
    int at = 1; /* of numsources */
    int has_models = argc >= 2 && km_is_word(argv[1], "models");
    int counted = !has_models || (argc >= 3 && km_read_number(argv[2], 1, KM_DEPS_MAX_SOURCES, &n_models) == 0);
    if (has_models && counted) at = 3 + (int)n_models;
    int sources_counted = counted && at < argc && km_read_number(argv[at], has_models ? 0 : 1, KM_DEPS_MAX_SOURCES - n_models, &n) == 0;
    int first_key = sources_counted ? at + 1 + (int)n : argc;
    if (RedisModule_IsKeysPositionRequest(ctx)) {
        if (argc < 4 || !sources_counted) return REDISMODULE_OK;
        for (int i = at + 1; i < argc; i++) RedisModule_KeyAtPosWithFlags(ctx, i, i < first_key ? KM_READ : KM_CHANGE);
        return REDISMODULE_OK;
    }
    if (argc < 4) return RedisModule_WrongArity(ctx);
    if (!counted) return RedisModule_ReplyWithError(ctx, "ERR nummodels must be a whole number from 1 to 64");
    if (!sources_counted)
        return RedisModule_ReplyWithError(ctx, "ERR numsources must be a whole number from 1 to 64, with the models at most 64");
    if (first_key >= argc) return RedisModule_ReplyWithError(ctx, "ERR after the numsources sources at least one key must follow");
    if (RedisModule_GetSelectedDb(ctx) != 0) return RedisModule_ReplyWithError(ctx, "ERR keys are derived in database 0 only");
    km_name sources[KM_DEPS_MAX_SOURCES];
    for (int i = 0; i < n_models; i++) sources[i] = name_from(argv[3 + i]);
    for (int i = 0; i < n; i++) sources[n_models + i] = name_from(argv[at + 1 + i]);
    RedisModuleString **keys = argv + first_key, **recorded = km_alloc(sizeof *recorded * (size_t)argc);
    size_t n_recorded = 0;
    for (int i = 0; i < argc - first_key; i++) {
        if (!exists(ctx, keys[i])) continue;
        km_deps_record(deps, name_from(keys[i]), sources, (int)(n_models + n));
        recorded[n_recorded++] = keys[i];
    }
    if (n_recorded) {
        km_events_watch_keys();
        recount();
        RedisModule_Replicate(ctx, "KM.DERIVE", "vv", argv + 1, (size_t)first_key - 1, recorded, n_recorded);
    }
    km_free(recorded);
    return RedisModule_ReplyWithLongLong(ctx, (long long)n_recorded);
}

/* ---- RDB: an auxiliary part behind the keys, so that a record can be checked against them ----
 * The number of sources, their names; then up to the mark 0 each key: 1, name, number of sources (0: it is
 * stale), which ones. */

static void save_name(void *rdb, km_name name) { RedisModule_SaveStringBuffer(rdb, name.bytes, name.len); }

static void save_key(void *rdb, km_name name, const uint64_t *sources, int n) {
    RedisModule_SaveUnsigned(rdb, 1);
    save_name(rdb, name);
    RedisModule_SaveUnsigned(rdb, (uint64_t)n);
    for (int i = 0; i < n; i++) RedisModule_SaveUnsigned(rdb, sources[i]);
}

static void aux_save(RedisModuleIO *rdb, int when) {
    (void)when;
    RedisModule_SaveUnsigned(rdb, km_deps_sources(deps));
    km_deps_each(deps, save_name, save_key, rdb);
    RedisModule_SaveUnsigned(rdb, 0);
}

/* From 7.2 on this is asked instead, and an RDB without records can be read without this part. */
static void aux_save_if_any(RedisModuleIO *rdb, int when) {
    if (km_derived_keys) aux_save(rdb, when);
}

/* A number of the RDB. Returns 0, or -1 when there is none or it is larger than max. */
static int load_number(RedisModuleIO *rdb, uint64_t max, uint64_t *out) {
    *out = RedisModule_LoadUnsigned(rdb);
    return RedisModule_IsIOError(rdb) || *out > max ? -1 : 0;
}

static RedisModuleString *load_name(RedisModuleIO *rdb) {
    RedisModuleString *name = RedisModule_LoadString(rdb);
    if (!name) return NULL;
    if (!RedisModule_IsIOError(rdb)) return name;
    RedisModule_FreeString(NULL, name);
    return NULL;
}

typedef struct {
    RedisModuleString **items;
    size_t n, room;
} names;

static void names_add(names *list, RedisModuleString *name) {
    if (list->n == list->room) { /* grows as names come: their number in the RDB is not trusted */
        size_t room = list->room ? list->room * 2 : 16;
        RedisModuleString **items = km_alloc(room * sizeof *items);
        if (list->n) memcpy(items, list->items, list->n * sizeof *items);
        km_free(list->items);
        list->items = items;
        list->room = room;
    }
    list->items[list->n++] = name;
}

/* What is wrong with the next key of the RDB, or NULL. A key that was not loaded (it expired) is passed over. */
static const char *load_key(RedisModuleIO *rdb, const names *known) {
    RedisModuleString *name = load_name(rdb);
    if (!name) return "a key";
    uint64_t n, which;
    km_name sources[KM_DEPS_MAX_SOURCES];
    const char *bad = load_number(rdb, KM_DEPS_MAX_SOURCES, &n) ? "a key's number of sources" : NULL;
    for (uint64_t i = 0; i < n && !bad; i++) {
        if (known->n == 0 || load_number(rdb, known->n - 1, &which))
            bad = "a key's source";
        else
            sources[i] = name_from(known->items[which]);
    }
    if (!bad && exists(own_ctx, name)) km_deps_record(deps, name_from(name), sources, (int)n);
    RedisModule_FreeString(NULL, name);
    return bad;
}

static int aux_load(RedisModuleIO *rdb, int encver, int when) {
    (void)when;
    forget_all(1);
    const char *bad = encver == RDB_VERSION ? NULL : "a version this module does not know";
    names known = {0};
    uint64_t n = 0, more = 1;
    if (!bad && load_number(rdb, UINT32_MAX, &n)) bad = "the number of sources";
    for (uint64_t i = 0; i < n && !bad; i++) {
        RedisModuleString *name = load_name(rdb);
        if (name)
            names_add(&known, name);
        else
            bad = "a source";
    }
    while (!bad && more) {
        if (load_number(rdb, 1, &more))
            bad = "the mark before a key";
        else if (more)
            bad = load_key(rdb, &known);
    }
    for (size_t i = 0; i < known.n; i++) RedisModule_FreeString(NULL, known.items[i]);
    km_free(known.items);
    recount();
    if (bad) {
        forget_all(1);
        RedisModule_LogIOError(rdb, "warning", "keymiss: the RDB's records of derived keys are damaged: %s", bad);
        return REDISMODULE_ERR;
    }
    if (km_derived_keys) km_events_watch_keys();
    if (km_derived_stale) set_timer(RETRY_MS);
    return REDISMODULE_OK;
}

static const km_command commands[] = {
    {"km.derive", derive_command, "write getkeys-api", -4,
     KM_KEYS({.notes = "sources are read, keys are written; with MODELS they begin later",
              .flags = KM_CHANGE | REDISMODULE_CMD_KEY_ACCESS | REDISMODULE_CMD_KEY_VARIABLE_FLAGS | REDISMODULE_CMD_KEY_INCOMPLETE,
              .begin_search_type = REDISMODULE_KSPEC_BS_INDEX, .bs.index.pos = 2,
              .find_keys_type = REDISMODULE_KSPEC_FK_RANGE, .fk.range = {.lastkey = -1, .keystep = 1}}),
     KM_ARGS(KM_BLOCK("models", .token = "MODELS", .flags = KM_OPTIONAL, .subargs = KM_ARGS(KM_NUMBER("nummodels"), KM_TEXT("model", .flags = KM_MANY))),
             KM_NUMBER("numsources"), KM_KEY("source", 0, .flags = KM_MANY), KM_KEY("key", 0, .flags = KM_MANY)),
     "Records from which sources keys were made: when a source changes they are removed.", "O(N*S), with N keys and S sources", NULL},
};

int km_derive_register(RedisModuleCtx *ctx) {
    seed = km_seed();
    deps = km_deps_new(seed);
    own_ctx = RedisModule_GetDetachedThreadSafeContext(ctx);
    km_stays(derived_one_stays);
    km_on(KM_ON_KEY_EVENT, key_event);
    km_on(KM_ON_FLUSH, flushed);
    RedisModuleTypeMethods part = {
        .aux_load = aux_load, .aux_save = aux_save, .aux_save2 = aux_save_if_any, .aux_save_triggers = REDISMODULE_AUX_AFTER_RDB};
    if (km_aux_type_register(ctx, "km-derive", RDB_VERSION, part) != REDISMODULE_OK) return REDISMODULE_ERR;
    return KM_REGISTER(ctx, commands);
}
