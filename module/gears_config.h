/* RedisGears' settings: RG.CONFIGGET, RG.CONFIGSET, and those of the load arguments (load_args.h) that are no other. Ours are in config.c. */
#ifndef KM_GEARS_CONFIG_H
#define KM_GEARS_CONFIG_H

#include "core.h"

typedef struct {
    long long max_executions, max_executions_per_registration, execution_max_idle_ms;
} km_gears_settings;

extern km_gears_settings km_gears_config;

int km_gears_config_register(RedisModuleCtx *ctx);
/* A name and a value behind loadmodule; what is wrong is a line in the log. */
void km_gears_config_load_one(RedisModuleCtx *ctx, RedisModuleString *name, RedisModuleString *value);

#endif
