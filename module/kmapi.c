#include "kmapi.h"

#define KM_DEFINE(ret, name, args) ret(*RedisModule_##name) args;
KM_API(KM_DEFINE)
KM_OPTIONAL_API(KM_DEFINE)

const char *km_api_load(RedisModuleCtx *ctx) {
    /* The context's first member is the look-up function: the ABI's one fixed point. */
    int (*get_api)(const char *, void *) = ((int (**)(const char *, void *))(void *)ctx)[0];
#define KM_LOOKUP(ret, name, args) get_api("RedisModule_" #name, (void *)&RedisModule_##name);
#define KM_NEED(ret, name, args) \
    if (!RedisModule_##name) return #name;
    KM_API(KM_LOOKUP)
    KM_OPTIONAL_API(KM_LOOKUP)
    KM_API(KM_NEED)
    return NULL;
}
