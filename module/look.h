/* Storing a value that a worker looks into first. */
#ifndef KM_LOOK_H
#define KM_LOOK_H

#include "jobs.h"
#include "model.h"

/* What can be stored so. */
typedef struct {
    RedisModuleType **type;
    const char *event;
    void (*replicate)(RedisModuleCtx *ctx, RedisModuleString *key, const void *value); /* as a command that stores it */
    void (*found)(void *value, km_strings inputs, km_strings outputs); /* takes over what the worker found in it; NULL: nothing is */
    void (*free)(void *value);
    void (*stored)(RedisModuleString *key, const void *value); /* hears of it before the event; NULL: nothing does */
} km_stored;
extern const km_stored km_stored_model, km_stored_script;

enum { KM_NO_WAIT, KM_WAIT_FOR_REPLICAS }; /* when there is nobody to look into it */

/* 1 if km_store will block the client: the value must hold none of its arguments. */
int km_store_blocks(RedisModuleCtx *ctx, int wait);
/* Stores the value, which it takes over, and replies OK, or an error: when a worker that looks is attached, after that has
 * looked and, as the client's own WAIT cannot see that write, the replicas have it; else at once, and unlooked. payload: the
 * job's; its first is the kind of value. */
void km_store(RedisModuleCtx *ctx, RedisModuleString *key, const km_stored *kind, void *value, RedisModuleString **payload, int n, int wait);

int km_look_register(RedisModuleCtx *ctx); /* KM.LOOKED, KM.CANDIDATE, KM.MODELNAMES */

/* Shared by AI.MODELSTORE and AI.SCRIPTSTORE. */
int km_is_device(RedisModuleString *arg); /* CPU, CPU:<n>, GPU or GPU:<n> */
char *km_upper_copy(RedisModuleString *arg);

#endif
