/* AI.SCRIPTSTORE, AI.SCRIPTSET, AI.SCRIPTGET, AI.SCRIPTDEL. Texts and order of the checks are RedisAI's. */
#include "alloc.h"
#include "command.h"
#include "errors.h"
#include "look.h"
#include "script.h"

static const char no_source[] = "ERR Insufficient arguments, missing script SOURCE";
static const char no_entry_points[] = "ERR Insufficient arguments, missing script entry points";

static void replicate(RedisModuleCtx *ctx, RedisModuleString *key, const void *script) { km_script_replicate(ctx, key, script); }
const km_stored km_stored_script = {&km_script_type, "scriptstore", replicate, NULL, km_script_free, NULL};

typedef struct {
    const char *tag;
    RedisModuleString **entry_points, *source;
    int n_entry_points;
} options;

/* [TAG tag], and where the rest begins; NULL, or an error's text. */
static const char *read_tag(RedisModuleString **argv, int argc, int *at, options *given) {
    given->tag = "";
    if (*at + 1 >= argc || !km_is_word(argv[*at], "tag")) return NULL;
    size_t len;
    given->tag = RedisModule_StringPtrLen(argv[*at + 1], &len);
    *at += 2;
    return len > 4096 || strlen(given->tag) != len ? "ERR TAG is at most 4096 bytes and holds no NUL" : NULL;
}

/* SOURCE source, and nothing more. */
static const char *read_source(RedisModuleString **argv, int argc, int at, options *given) {
    if (at + 2 > argc || !km_is_word(argv[at], "source")) return no_source;
    if (at + 2 < argc) return "ERR SOURCE takes one argument, and nothing comes behind it";
    size_t len;
    const char *source = RedisModule_StringPtrLen(argv[at + 1], &len);
    given->source = argv[at + 1];
    if (len > KM_SCRIPT_MAX_BYTES) return "ERR the script is larger than 16 MiB";
    return strlen(source) == len ? NULL : "ERR the script holds a NUL";
}

static const char *read_entry_points(RedisModuleString **argv, int argc, int *at, options *given) {
    if (*at >= argc || !km_is_word(argv[*at], "entry_points")) return no_entry_points;
    long long n;
    if (*at + 1 >= argc || RedisModule_StringToLongLong(argv[*at + 1], &n) != REDISMODULE_OK)
        return "ERR Non numeric entry points number provided to AI.SCRIPTSTORE command";
    *at += 2;
    if (n < 1 || n > KM_MODEL_MAX_NAMES || n > argc - *at) return no_entry_points;
    given->entry_points = argv + *at;
    given->n_entry_points = (int)n;
    for (int i = 0; i < n; i++) {
        size_t len;
        const char *name = RedisModule_StringPtrLen(argv[*at + i], &len);
        if (len == 0 || len > 4096 || strlen(name) != len) return "ERR the name of an entry point has 1 to 4096 bytes and holds no NUL";
    }
    *at += (int)n;
    return NULL;
}

static int store(RedisModuleCtx *ctx, RedisModuleString **argv, const options *given) {
    if (!km_is_device(argv[2])) return RedisModule_ReplyWithError(ctx, km_bad_device);
    RedisModuleKey *key = km_open_for_write(ctx, argv[1], km_script_type);
    if (!key) return REDISMODULE_OK;
    RedisModule_CloseKey(key);
    size_t len;
    const char *source = RedisModule_StringPtrLen(given->source, &len);
    km_strings points = {given->n_entry_points, given->entry_points};
    km_script *script = km_script_new(km_upper_copy(argv[2]), km_memdup0(given->tag, strlen(given->tag)), km_memdup0(source, len), len, km_strings_copy(&points));
    int n = 3 + given->n_entry_points;
    RedisModuleString **payload = km_alloc(sizeof *payload * (size_t)n);
    payload[0] = RedisModule_CreateString(ctx, "script", 6);
    payload[1] = argv[1];
    payload[2] = given->source;
    for (int i = 0; i < given->n_entry_points; i++) payload[3 + i] = given->entry_points[i];
    km_store(ctx, argv[1], &km_stored_script, script, payload, n, KM_NO_WAIT);
    RedisModule_FreeString(ctx, payload[0]);
    km_free(payload);
    return REDISMODULE_OK;
}

/* AI.SCRIPTSTORE key device [TAG tag] ENTRY_POINTS n name [name ...] SOURCE source */
static int scriptstore_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc < 8) return RedisModule_WrongArity(ctx);
    options given = {0};
    int at = 3;
    const char *error = read_tag(argv, argc, &at, &given);
    if (!error) error = read_entry_points(argv, argc, &at, &given);
    if (!error) error = read_source(argv, argc, at, &given);
    return error ? RedisModule_ReplyWithError(ctx, error) : store(ctx, argv, &given);
}

/* AI.SCRIPTSET key device [TAG tag] SOURCE source */
static int scriptset_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc != 5 && argc != 7) return RedisModule_WrongArity(ctx);
    options given = {0};
    int at = 3;
    const char *error = read_tag(argv, argc, &at, &given);
    if (!error) error = read_source(argv, argc, at, &given);
    return error ? RedisModule_ReplyWithError(ctx, error) : store(ctx, argv, &given);
}

/* AI.SCRIPTGET key [META] [SOURCE] */
static int scriptget_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc < 2 || argc > 4) return RedisModule_WrongArity(ctx);
    const km_script *s = km_value_at(ctx, argv[1], km_script_type, km_no_script);
    if (!s) return REDISMODULE_OK;
    int meta = argc == 2, source = argc == 2;
    for (int i = 2; i < argc; i++) {
        if (km_is_word(argv[i], "meta"))
            meta = 1;
        else if (km_is_word(argv[i], "source"))
            source = 1;
        else
            return RedisModule_ReplyWithError(ctx, "ERR unknown option: the syntax is AI.SCRIPTGET key [META] [SOURCE]");
    }
    if (!meta) return RedisModule_ReplyWithStringBuffer(ctx, s->source, s->source_len);
    RedisModule_ReplyWithArray(ctx, source ? 8 : 6);
    km_reply_text(ctx, "device", s->device);
    km_reply_text(ctx, "tag", s->tag);
    RedisModule_ReplyWithCString(ctx, "Entry Points");
    RedisModule_ReplyWithArray(ctx, s->entry_points.n);
    for (int i = 0; i < s->entry_points.n; i++) RedisModule_ReplyWithString(ctx, s->entry_points.items[i]);
    if (source) {
        RedisModule_ReplyWithCString(ctx, "source");
        RedisModule_ReplyWithStringBuffer(ctx, s->source, s->source_len);
    }
    return REDISMODULE_OK;
}

/* AI.SCRIPTDEL key */
static int scriptdel_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc != 2) return RedisModule_WrongArity(ctx);
    if (!km_value_at(ctx, argv[1], km_script_type, km_no_script)) return REDISMODULE_OK;
    RedisModuleKey *key = RedisModule_OpenKey(ctx, argv[1], REDISMODULE_READ | REDISMODULE_WRITE);
    RedisModule_DeleteKey(key);
    km_written(ctx, key, argv[1], "scriptdel");
    return RedisModule_ReplyWithSimpleString(ctx, "OK");
}

/* KM.SCRIPTINFO key */
static int scriptinfo_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc != 2) return RedisModule_WrongArity(ctx);
    const km_script *s = km_value_at(ctx, argv[1], km_script_type, km_no_script);
    if (!s) return REDISMODULE_OK;
    RedisModule_ReplyWithArray(ctx, 6);
    km_reply_number(ctx, "version", (long long)s->version);
    RedisModule_ReplyWithCString(ctx, "source");
    RedisModule_ReplyWithStringBuffer(ctx, s->source, s->source_len);
    RedisModule_ReplyWithCString(ctx, "entry_points");
    RedisModule_ReplyWithArray(ctx, s->entry_points.n);
    for (int i = 0; i < s->entry_points.n; i++) RedisModule_ReplyWithString(ctx, s->entry_points.items[i]);
    return REDISMODULE_OK;
}

#define TAG KM_TEXT("tag", .token = "TAG", .flags = KM_OPTIONAL)

static const km_command commands[] = {
    /* admin: a script may send commands to the shard as the worker's user. */
    {"AI.SCRIPTSTORE", scriptstore_command, "write deny-oom admin", -8, KM_KEYS(KM_KEY_AT(1, KM_OVERWRITE)),
     KM_ARGS(KM_KEY("key", 0), KM_TEXT("device"), TAG,
             KM_BLOCK("entry_points", .token = "ENTRY_POINTS", .subargs = KM_ARGS(KM_NUMBER("n"), KM_TEXT("name", .flags = KM_MANY))),
             KM_TEXT("source", .token = "SOURCE")),
     "Stores a TorchScript source, once a worker has compiled it.", "O(N), with N bytes of source", NULL},
    {"AI.SCRIPTSET", scriptset_command, "write deny-oom admin", -5, KM_KEYS(KM_KEY_AT(1, KM_OVERWRITE)),
     KM_ARGS(KM_KEY("key", 0), KM_TEXT("device"), TAG, KM_TEXT("source", .token = "SOURCE")),
     "Stores a TorchScript source whose functions take tensors one by one.", "O(N), with N bytes of source", NULL},
    {"AI.SCRIPTGET", scriptget_command, "readonly", -2, KM_KEYS(KM_KEY_AT(1, KM_READ)),
     KM_ARGS(KM_KEY("key", 0), KM_WORD("meta", "META", .flags = KM_OPTIONAL), KM_WORD("source", "SOURCE", .flags = KM_OPTIONAL)),
     "Gives a script's settings and its source.", "O(N), with N bytes of source", NULL},
    {"AI.SCRIPTDEL", scriptdel_command, "write", 2, KM_KEYS(KM_KEY_AT(1, KM_REMOVE)), KM_ARGS(KM_KEY("key", 0)),
     "Deletes a script.", "O(1)", NULL},
    {"km.scriptinfo", scriptinfo_command, "readonly", 2, KM_KEYS(KM_KEY_AT(1, KM_READ)), KM_ARGS(KM_KEY("key", 0)),
     "Gives a script's version, source and entry points.", "O(N), with N bytes of source", NULL},
};

int km_script_commands_register(RedisModuleCtx *ctx) {
    if (km_script_type_register(ctx) != REDISMODULE_OK) return REDISMODULE_ERR;
    return KM_REGISTER(ctx, commands);
}
