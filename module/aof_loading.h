#ifndef KM_AOF_LOADING_H
#define KM_AOF_LOADING_H

#include "kmapi.h"

int km_aof_loading_register(RedisModuleCtx *ctx);

#endif
