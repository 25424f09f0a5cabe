#include "shard_models.h"

#include <string.h>

#include "alloc.h"
#include "command.h"
#include "datatype.h"
#include "derive.h"
#include "events.h"
#include "jobs.h"
#include "moving.h"

/* MIGRATE of a model holds up both servers: 0.5 s for one of 71 MB on an idle machine, 5 s on a busy one, longer than the
 * node timeout. Of a larger one than this the key is dropped instead when its slot moves, and the model is given a key of another slot by a worker (KM.MODELHOME), or sent in pieces to where the
 * slot went (KM.MODELGIVE). Without a worker it moves as it is. */
#define MOVES_UP_TO_BYTES (1 << 20)
#define LOOK_SOON_MS 1

/* The keys at which models were stored or loaded, the latest first. What is there now is seen when it is looked at: a key
 * may have gone without this file's hearing of it. */
typedef struct place {
    struct place *next;
    RedisModuleString *key;
    size_t n_bytes;
} place;

/* Models without a key, since their slots moved, the latest first: at most one of a key, as each may be somebody's own.
 * Not saved. */
typedef struct kept {
    struct kept *next;
    RedisModuleString *key; /* what it was */
    km_model *model;
} kept;

static RedisModuleCtx *own_ctx; /* detached: outside of commands */
static place *places;
static kept *shelf;
static int timer_set;
static unsigned long long epoch;

unsigned long long km_shard_models_epoch(void) { return epoch ? epoch : (epoch = km_next_version()); }

void km_shard_models_changed(void) { epoch = km_next_version(); }

static km_name bytes_of(const RedisModuleString *key) {
    km_name name;
    name.bytes = RedisModule_StringPtrLen(key, &name.len);
    return name;
}

static int is_equal(km_name a, km_name b) { return a.len == b.len && memcmp(a.bytes, b.bytes, a.len) == 0; }

/* The tag's length with its braces, at *at; 0: there is none. */
static size_t tag_of(km_name key, size_t *at) {
    const char *open = memchr(key.bytes, '{', key.len);
    const char *close = open ? memchr(open, '}', key.len - (size_t)(open - key.bytes)) : NULL;
    *at = open ? (size_t)(open - key.bytes) : key.len;
    return close ? (size_t)(close - open) + 1 : 0;
}

/* What the key is called on every shard, in a buffer of its length. */
static km_name without_tag(km_name key, char *buffer) {
    size_t at, len = tag_of(key, &at);
    if (len == 0) at = key.len;
    memcpy(buffer, key.bytes, at);
    memcpy(buffer + at, key.bytes + at + len, key.len - at - len);
    return (km_name){buffer, key.len - len};
}

static int of_one_name(km_name a, km_name b) {
    char *buffer = km_alloc(a.len + b.len + 1);
    int same = is_equal(without_tag(a, buffer), without_tag(b, buffer + a.len));
    km_free(buffer);
    return same;
}

static void changed(km_name key) {
    char *buffer = km_alloc(key.len + 1);
    km_derive_source_changed(without_tag(key, buffer));
    km_free(buffer);
}

static km_model *model_at(RedisModuleCtx *ctx, RedisModuleString *name) {
    RedisModuleKey *key = RedisModule_OpenKey(ctx, name, REDISMODULE_READ | REDISMODULE_OPEN_KEY_NOTOUCH | REDISMODULE_OPEN_KEY_NOSTATS);
    km_model *model = km_is_type(key, km_model_type) ? RedisModule_ModuleTypeGetValue(key) : NULL;
    RedisModule_CloseKey(key);
    return model;
}

static place **find_place(km_name key) {
    place **link = &places;
    while (*link && !is_equal(bytes_of((*link)->key), key)) link = &(*link)->next;
    return link;
}

static void forget(place **link) {
    place *gone = *link;
    *link = gone->next;
    RedisModule_FreeString(NULL, gone->key);
    km_free(gone);
}

static km_model *take_off(kept **link) {
    km_shard_models_changed();
    kept *gone = *link;
    km_model *model = gone->model;
    *link = gone->next;
    RedisModule_FreeString(NULL, gone->key);
    km_free(gone);
    return model;
}

static kept **find_kept(km_name name) {
    kept **link = &shelf;
    while (*link && !of_one_name(bytes_of((*link)->key), name)) link = &(*link)->next;
    return link;
}

static kept **find_kept_of(km_name key) {
    kept **link = &shelf;
    while (*link && !is_equal(bytes_of((*link)->key), key)) link = &(*link)->next;
    return link;
}

/* 1 if there was one. */
static int drop_kept_of(km_name key) {
    kept **link = find_kept_of(key);
    if (!*link) return 0;
    km_model_free(take_off(link));
    return 1;
}

void km_shard_models_keep(RedisModuleString *key, km_model *model) {
    km_shard_models_changed();
    drop_kept_of(bytes_of(key));
    kept *k = km_alloc(sizeof *k);
    km_name name = bytes_of(key);
    *k = (kept){shelf, RedisModule_CreateString(NULL, name.bytes, name.len), model};
    shelf = k;
    km_blob_settle(model->blob);
}

void km_shard_models_note(RedisModuleString *key, const km_model *model) {
    km_shard_models_changed();
    km_name name = bytes_of(key);
    place **link = find_place(name);
    if (*link) forget(link);
    place *p = km_alloc(sizeof *p);
    *p = (place){places, RedisModule_CreateString(NULL, name.bytes, name.len), model->n_bytes};
    places = p;
    km_blob_settle(model->blob);
}

void km_shard_models_leaves(RedisModuleString *key, const km_model *model) {
    km_shard_models_changed();
    if (km_moving != KM_LEAVES || km_protocol_workers() == 0) return;
    km_model *copy = km_model_copy(model);
    copy->version = model->version; /* for workers it is the same */
    km_shard_models_keep(key, copy);
}

km_model *km_shard_model(RedisModuleCtx *ctx, RedisModuleString *name) {
    km_model *model = model_at(ctx, name);
    if (model) return model;
    km_name wanted = bytes_of(name);
    for (place **link = &places; *link;) {
        if (!of_one_name(bytes_of((*link)->key), wanted)) {
            link = &(*link)->next;
            continue;
        }
        if ((model = model_at(ctx, (*link)->key))) return model;
        forget(link);
    }
    kept *k = *find_kept(wanted);
    return k ? k->model : NULL;
}

/* ---- a slot moves ---- */

/* Takes the model away from a key, without telling of it: the shard keeps it. NULL if there is none. */
static km_model *take_from_key(RedisModuleCtx *ctx, RedisModuleString *name) {
    RedisModuleKey *key = RedisModule_OpenKey(ctx, name, REDISMODULE_READ | REDISMODULE_WRITE);
    void *old = NULL;
    if (RedisModule_ModuleTypeGetType(key) == km_model_type &&
        RedisModule_ModuleTypeReplaceValue(key, km_model_type, km_model_empty(), &old) == REDISMODULE_OK)
        RedisModule_DeleteKey(key);
    RedisModule_CloseKey(key);
    if (!old) return NULL;
    km_shard_models_changed();
    RedisModule_SignalModifiedKey(ctx, name);
    RedisModule_Replicate(ctx, "UNLINK", "s", name);
    return old;
}

static void take_leavers(RedisModuleCtx *ctx, void *data) {
    (void)data;
    timer_set = 0;
    km_move_ended();
    for (place **link = &places; *link;) {
        place *p = *link;
        if (p->n_bytes != SIZE_MAX || !km_may_write(ctx)) {
            link = &p->next;
            continue;
        }
        km_model *model = take_from_key(ctx, p->key);
        if (model) km_shard_models_keep(p->key, model);
        forget(link);
    }
}

/* In the filter: nothing may be opened. */
static int large_one_stays(const char *key, size_t len) {
    place *p = *find_place((km_name){key, len});
    if (!p || p->n_bytes <= MOVES_UP_TO_BYTES || km_protocol_workers() == 0) return 0;
    p->n_bytes = SIZE_MAX; /* it leaves */
    if (!timer_set) RedisModule_CreateTimer(own_ctx, LOOK_SOON_MS, take_leavers, NULL);
    timer_set = 1;
    return 1;
}

/* ---- what changes ---- */

static void key_event(RedisModuleCtx *ctx, const void *data) {
    const km_key_event *event = data;
    km_name name = bytes_of(event->key);
    if (strcmp(event->name, "rename_to") == 0) {
        const km_model *model = model_at(ctx, event->key);
        if (model) km_shard_models_note(event->key, model);
    }
    if (!places || !*find_place(name) || km_is_move(event->name) || km_keeps_value(event->name)) return;
    drop_kept_of(name);
    changed(name);
}

static void flushed(RedisModuleCtx *ctx, const void *data) {
    (void)ctx;
    (void)data;
    while (shelf) km_model_free(take_off(&shelf));
}

static void keys_replaced(RedisModuleCtx *ctx, const void *data) {
    (void)ctx;
    (void)data;
    km_shard_models_changed();
}

/* ---- commands ---- */

static void reply_names(RedisModuleCtx *ctx, const char *field, const km_strings *names) {
    RedisModule_ReplyWithCString(ctx, field);
    RedisModule_ReplyWithArray(ctx, names->n);
    for (int i = 0; i < names->n; i++) RedisModule_ReplyWithString(ctx, names->items[i]);
}

static void reply_model(RedisModuleCtx *ctx, RedisModuleString *key, const km_model *m, int has_key) {
    RedisModule_ReplyWithArray(ctx, 26);
    RedisModule_ReplyWithCString(ctx, "key");
    RedisModule_ReplyWithString(ctx, key);
    km_reply_number(ctx, "has_key", has_key);
    km_reply_number(ctx, "version", (long long)m->version);
    km_reply_number(ctx, "size_bytes", (long long)m->n_bytes);
    km_reply_text(ctx, "sha256", m->sha256);
    km_reply_text(ctx, "backend", m->backend);
    km_reply_text(ctx, "device", m->device);
    km_reply_text(ctx, "tag", m->tag);
    km_reply_number(ctx, "batchsize", m->batch_size);
    km_reply_number(ctx, "minbatchsize", m->min_batch_size);
    km_reply_number(ctx, "minbatchtimeout", m->min_batch_timeout_ms);
    reply_names(ctx, "inputs", &m->inputs);
    reply_names(ctx, "outputs", &m->outputs);
}

/* KM.MODELS */
static int models_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    (void)argv;
    if (argc != 1) return RedisModule_WrongArity(ctx);
    long n = 0;
    RedisModule_ReplyWithArray(ctx, REDISMODULE_POSTPONED_LEN);
    for (place **link = &places; *link;) {
        const km_model *model = model_at(ctx, (*link)->key);
        if (!model) {
            forget(link);
            continue;
        }
        reply_model(ctx, (*link)->key, model, 1);
        n++;
        link = &(*link)->next;
    }
    for (const kept *k = shelf; k; k = k->next, n++) reply_model(ctx, k->key, k->model, 0);
    RedisModule_ReplySetArrayLength(ctx, n);
    return REDISMODULE_OK;
}

static int is_same(const km_model *a, const km_model *b) {
    return a->sha256[0] && strcmp(a->sha256, b->sha256) == 0 && a->n_bytes == b->n_bytes;
}

/* Other keys of the name that have the very same model go; one that lost its key, too. */
static long long drop_twins(RedisModuleCtx *ctx, RedisModuleString *home, const km_model *model) {
    km_name name = bytes_of(home);
    long long n = 0;
    for (kept **off = &shelf; *off;) {
        if (!of_one_name(bytes_of((*off)->key), name) || !is_same((*off)->model, model)) {
            off = &(*off)->next;
            continue;
        }
        km_model_free(take_off(off));
        n++;
    }
    for (place **link = &places; *link;) {
        place *p = *link;
        const km_model *other = of_one_name(bytes_of(p->key), name) ? model_at(ctx, p->key) : NULL;
        if (is_equal(bytes_of(p->key), name) || !other || other == model || !is_same(other, model) || !km_is_served_here(ctx, p->key)) {
            link = &p->next;
            continue;
        }
        km_model_free(take_from_key(ctx, p->key));
        forget(link);
        n++;
    }
    return n;
}

/* KM.MODELHOME key
 * The model of that name that has another key, or lost it, gets this one, and keys with the very same model go. Nothing is
 * told of it: the shard had it all the time. Replies how many keys changed.
 *
 * The key is not declared: from version 8 on, Valkey looks for any key that is opened in the slot of those that are, and the
 * other keys of the name are in other slots. */
static int modelhome_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc != 2) return RedisModule_WrongArity(ctx);
    if (!km_is_served_here(ctx, argv[1])) return RedisModule_ReplyWithError(ctx, "ERR the key's slot is not served here");
    km_model *model = model_at(ctx, argv[1]);
    if (model) return RedisModule_ReplyWithLongLong(ctx, drop_twins(ctx, argv[1], model));
    if (km_look_at_type(ctx, argv[1], 0) != REDISMODULE_KEYTYPE_EMPTY)
        return RedisModule_ReplyWithError(ctx, "ERR there is another value at the key already");
    km_name wanted = bytes_of(argv[1]);
    kept **off = find_kept_of(wanted);
    if (!*off) off = find_kept(wanted);
    if (*off) model = take_off(off);
    for (place **link = &places; !model && *link;) {
        if (!of_one_name(bytes_of((*link)->key), wanted) || !km_is_served_here(ctx, (*link)->key)) {
            link = &(*link)->next;
            continue;
        }
        model = take_from_key(ctx, (*link)->key);
        forget(link);
    }
    if (!model) return RedisModule_ReplyWithLongLong(ctx, 0);
    RedisModuleKey *key = RedisModule_OpenKey(ctx, argv[1], REDISMODULE_READ | REDISMODULE_WRITE);
    RedisModule_ModuleTypeSetValue(key, km_model_type, model);
    RedisModule_CloseKey(key);
    km_shard_models_note(argv[1], model);
    RedisModule_SignalModifiedKey(ctx, argv[1]);
    km_model_replicate(ctx, argv[1], model);
    return RedisModule_ReplyWithLongLong(ctx, 1 + drop_twins(ctx, argv[1], model));
}

/* KM.MODELDROP key: forgets the model that lost this key. */
static int modeldrop_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc != 2) return RedisModule_WrongArity(ctx);
    return RedisModule_ReplyWithLongLong(ctx, drop_kept_of(bytes_of(argv[1])));
}

static const km_command commands[] = {
    {"km.models", models_command, "readonly admin", 1, NULL, NULL,
     "Lists the models of this shard, those too whose keys went with their slots.", "O(N), with N models", NULL},
    {"km.modelhome", modelhome_command, "write deny-oom admin", 2, NULL, KM_ARGS(KM_TEXT("key")),
     "Gives the model of that name, that has another key or none, this key.", "O(N), with N chunks", NULL},
    {"km.modeldrop", modeldrop_command, "write admin", 2, NULL, KM_ARGS(KM_TEXT("key")),
     "Forgets the model whose key went with its slot.", "O(1)", NULL},
};

int km_shard_models_register(RedisModuleCtx *ctx) {
    own_ctx = RedisModule_GetDetachedThreadSafeContext(ctx);
    km_stays(large_one_stays);
    km_on(KM_ON_KEY_EVENT, key_event);
    km_on(KM_ON_FLUSH, flushed);
    km_on(KM_ON_KEYS_REPLACED, keys_replaced);
    return KM_REGISTER(ctx, commands);
}
