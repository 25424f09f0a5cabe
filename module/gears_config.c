#include "gears_config.h"

#include <limits.h>
#include <stdio.h>
#include <strings.h>

#include "command.h"
#include "executions.h"

#define MAX_NAMES 1024 /* of settings that only functions know */
#define MAX_VALUE_BYTES (64 * 1024)

km_gears_settings km_gears_config = {1000, 100, 300000};

typedef struct {
    const char *name;
    long long *value; /* NULL: nothing here depends on it, and it stands as it is */
    long long min, max, fixed;
    const char *why; /* it cannot be another */
} setting;

/* Each execution is about 150 bytes and its errors; the results of all have a limit of their own. */
static const setting settings[] = {
    {"MaxExecutions", &km_gears_config.max_executions, 1, 1000000, 0, NULL},
    {"MaxExecutionsPerRegistration", &km_gears_config.max_executions_per_registration, 1, 1000000, 0, NULL},
    {"ExecutionMaxIdleTime", &km_gears_config.execution_max_idle_ms, 1, 86400000, 0, NULL},
    {"ProfileExecutions", NULL, 0, 0, 0, "nothing is profiled: the worker's metrics have the times of runs"},
    {"PythonAttemptTraceback", NULL, 0, 0, 1, "errors have the line of the function that raised them"},
    {"PythonInstallReqMaxIdleTime", NULL, 0, 0, 30000, "no server installs requirements"},
    {"SendMsgRetries", NULL, 0, 0, 3, "shards send each other no messages"},
    {"ExecutionThreads", NULL, 0, 0, 3, "functions run in workers (--job-threads)"},
    {"CreateVenv", NULL, 0, 0, 0, "functions run in the worker's environment"},
};

typedef struct extra { /* what only functions know: configGet */
    struct extra *next;
    char *name, *value;
} extra;

static extra *extras;
static int n_extras;

static const setting *find(const char *name) {
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++)
        if (strcasecmp(settings[i].name, name) == 0) return &settings[i];
    return NULL;
}

static extra *find_extra(const char *name) {
    for (extra *e = extras; e; e = e->next)
        if (strcmp(e->name, name) == 0) return e;
    return NULL;
}

/* What is wrong, in text, or NULL. */
static const char *set(const setting *s, RedisModuleString *value, char *text, size_t size) {
    long long number;
    long long min = s->value ? s->min : s->fixed, max = s->value ? s->max : s->fixed;
    if (km_read_number(value, min, max, &number) == 0) {
        if (s->value) *s->value = number;
        return NULL;
    }
    if (s->value)
        snprintf(text, size, "(error) Failed setting config value %s: a whole number from %lld to %lld", s->name, min, max);
    else
        snprintf(text, size, "(error) Failed setting config value %s: it is %lld, as %s", s->name, s->fixed, s->why);
    return text;
}

static const char *set_extra(RedisModuleString *name, RedisModuleString *value) {
    size_t name_len, len;
    const char *key = RedisModule_StringPtrLen(name, &name_len), *bytes = RedisModule_StringPtrLen(value, &len);
    if (len > MAX_VALUE_BYTES || name_len > MAX_VALUE_BYTES || strlen(key) != name_len || strlen(bytes) != len)
        return "(error) a setting's name and value have at most 64 KiB and no NUL";
    extra *e = find_extra(key);
    if (!e && n_extras == MAX_NAMES) return "(error) there are 1024 settings of functions already";
    if (!e) {
        e = km_calloc(1, sizeof *e);
        e->name = km_memdup0(key, name_len);
        e->next = extras;
        extras = e;
        n_extras++;
    }
    km_free(e->value);
    e->value = km_memdup0(bytes, len);
    return NULL;
}

/* RG.CONFIGGET name [name ...] */
static int configget_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc < 2) return RedisModule_WrongArity(ctx);
    RedisModule_ReplyWithArray(ctx, argc - 1);
    for (int i = 1; i < argc; i++) {
        const char *name = RedisModule_StringPtrLen(argv[i], NULL);
        const setting *s = find(name);
        extra *e = s ? NULL : find_extra(name);
        if (s) {
            RedisModule_ReplyWithLongLong(ctx, s->value ? *s->value : s->fixed);
        } else if (e) {
            RedisModule_ReplyWithCString(ctx, e->value);
        } else {
            RedisModuleString *text = RedisModule_CreateStringPrintf(ctx, "(error) Unsupported config parameter: %.200s", name);
            RedisModule_ReplyWithError(ctx, RedisModule_StringPtrLen(text, NULL));
            RedisModule_FreeString(ctx, text);
        }
    }
    return REDISMODULE_OK;
}

/* RG.CONFIGSET name value [name value ...] */
static int configset_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc < 3 || argc % 2 == 0) return RedisModule_WrongArity(ctx);
    RedisModule_ReplyWithArray(ctx, (argc - 1) / 2);
    for (int i = 1; i < argc; i += 2) {
        char text[256];
        const setting *s = find(RedisModule_StringPtrLen(argv[i], NULL));
        const char *bad = s ? set(s, argv[i + 1], text, sizeof text) : set_extra(argv[i], argv[i + 1]);
        if (bad)
            RedisModule_ReplyWithError(ctx, bad);
        else
            RedisModule_ReplyWithSimpleString(ctx, s ? "OK" : "OK - value was saved in extra config dictionary");
    }
    km_executions_trim();
    return REDISMODULE_OK;
}

void km_gears_config_load_one(RedisModuleCtx *ctx, RedisModuleString *name, RedisModuleString *value) {
    char text[256];
    const setting *s = find(RedisModule_StringPtrLen(name, NULL));
    const char *bad = s ? set(s, value, text, sizeof text) : set_extra(name, value);
    if (bad) RedisModule_Log(ctx, "warning", "keymiss: %s", bad);
}

static const km_command commands[] = {
    {"rg.configget", configget_command, "readonly", -2, NULL, KM_ARGS(KM_TEXT("name", .flags = KM_MANY)),
     "Gives settings of RedisGears, and those that functions read by configGet.", "O(N*M), with N names and M settings", NULL},
    {"rg.configset", configset_command, "admin", -3, NULL,
     KM_ARGS(KM_BLOCK("setting", .flags = KM_MANY, .subargs = KM_ARGS(KM_TEXT("name"), KM_TEXT("value")))),
     "Changes settings of RedisGears on this shard; other names are kept for functions (configGet).",
     "O(N*M), with N names and M settings", NULL},
};

int km_gears_config_register(RedisModuleCtx *ctx) { return KM_REGISTER(ctx, commands); }
