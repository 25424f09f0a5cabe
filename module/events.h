/* What happens in the server and in the module: who wants to hear of it leaves a hook here, so that no file has to know
 * those above it. A module has one callback for each of the server's events, and a second one would replace it. */
#ifndef KM_EVENTS_H
#define KM_EVENTS_H

#include "kmapi.h"

typedef enum {
    /* of the server; data: */
    KM_ON_KEY_EVENT,     /* km_key_event; only database 0, and only once km_events_watch_keys() was called */
    KM_ON_FLUSH,         /* RedisModuleFlushInfo; before and after */
    KM_ON_LOADING,       /* uint64_t, REDISMODULE_SUBEVENT_LOADING_*: an RDB or AOF, at a start or later */
    KM_ON_KEYS_REPLACED, /* NULL; many keys may have changed without an event of each, also by a flush */
    KM_ON_CLIENT_LEFT,   /* its id: unsigned long long */
    KM_ON_TICK,          /* mstime_t, the time; every 100 ms */
    /* of the module; data: NULL */
    KM_ON_REGISTRATIONS, /* they have changed */
    KM_ON_WORK,          /* a job waits */
    KM_N_EVENTS
} km_event;

typedef struct {
    const char *name;
    RedisModuleString *key;
} km_key_event;

typedef void (*km_hook)(RedisModuleCtx *ctx, const void *data);

int km_events_register(RedisModuleCtx *ctx);
void km_on(km_event event, km_hook hook); /* hooks are called in the order in which they came */
void km_tell(km_event event, RedisModuleCtx *ctx, const void *data); /* ctx: NULL for the module's own events */
/* Not before a registration or a derived key needs it: a subscriber costs every SET of every client a context. */
void km_events_watch_keys(void);

#endif
