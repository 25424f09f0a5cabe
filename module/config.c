#include "core.h"

km_settings km_config;

typedef struct {
    const char *name;
    long long *value;
    long long fallback, min, max;
} number_setting;

/* A day is the longest anyone waits; the queue limits keep the memory of waiting jobs within a few
 * hundred megabytes (a job is about 300 bytes and its key). */
static const number_setting numbers[] = {
    {"miss-timeout-ms", &km_config.miss_timeout_ms, 30000, 1, 86400000},
    {"model-timeout-ms", &km_config.model_timeout_ms, 30000, 1, 86400000},
    {"script-timeout-ms", &km_config.script_timeout_ms, 300000, 1, 86400000},
    {"noworker-grace-ms", &km_config.noworker_grace_ms, 1000, 0, 60000},
    {"queue-limit", &km_config.queue_limit, 10000, 1, 1000000},
    {"event-queue-limit", &km_config.event_queue_limit, 1000000, 1, 10000000},
    {"replica-wait-ms", &km_config.replica_wait_ms, 60000, 0, 86400000},
    {"answer-ttl-s", &km_config.answer_ttl_s, 604800, 0, 315360000}, /* a week; at most ten years */
};

static long long get_number(const char *name, void *setting) {
    (void)name;
    return *((const number_setting *)setting)->value;
}

static int set_number(const char *name, long long value, void *setting, RedisModuleString **err) {
    (void)name;
    (void)err;
    *((const number_setting *)setting)->value = value;
    return REDISMODULE_OK;
}

static int get_cache(const char *name, void *privdata) {
    (void)name;
    (void)privdata;
    return km_config.cache;
}

static int set_cache(const char *name, int value, void *privdata, RedisModuleString **err) {
    (void)name;
    (void)privdata;
    (void)err;
    km_config.cache = value;
    return REDISMODULE_OK;
}

static RedisModuleString *folder; /* km_config.model_folder is its text */

static RedisModuleString *get_folder(const char *name, void *privdata) {
    (void)name;
    (void)privdata;
    return folder;
}

static int set_folder(const char *name, RedisModuleString *value, void *privdata, RedisModuleString **err) {
    (void)privdata;
    size_t len;
    const char *path = RedisModule_StringPtrLen(value, &len);
    if (len && (path[0] != '/' || strlen(path) != len)) {
        *err = RedisModule_CreateStringPrintf(NULL, "keymiss.%s must be the path of a folder from / on", name);
        return REDISMODULE_ERR;
    }
    if (folder) RedisModule_FreeString(NULL, folder);
    RedisModule_RetainString(NULL, value);
    folder = value;
    km_config.model_folder = path;
    return REDISMODULE_OK;
}

int km_config_register(RedisModuleCtx *ctx) {
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        const number_setting *s = &numbers[i];
        if (RedisModule_RegisterNumericConfig(ctx, s->name, s->fallback, REDISMODULE_CONFIG_DEFAULT, s->min,
                                              s->max, get_number, set_number, NULL,
                                              (void *)s) != REDISMODULE_OK)
            return REDISMODULE_ERR;
    }
    if (RedisModule_RegisterBoolConfig(ctx, "cache", 1, REDISMODULE_CONFIG_DEFAULT, get_cache, set_cache,
                                       NULL, NULL) != REDISMODULE_OK)
        return REDISMODULE_ERR;
    /* Fixed at the start: where the server writes is for those who configure it. */
    if (RedisModule_RegisterStringConfig(ctx, "model-folder", "", REDISMODULE_CONFIG_IMMUTABLE, get_folder, set_folder, NULL,
                                         NULL) != REDISMODULE_OK)
        return REDISMODULE_ERR;
    return RedisModule_LoadConfigs(ctx);
}
