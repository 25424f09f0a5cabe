/* Derived keys: keys that go when one of those they were made from changes. */
#ifndef KM_DERIVE_H
#define KM_DERIVE_H

#include "core.h"
#include "deps.h"

int km_derive_register(RedisModuleCtx *ctx); /* KM.DERIVE and the RDB part */
extern size_t km_derived_keys, km_derived_stale; /* 0 lets hot paths leave at once */
size_t km_derived_sources(void);
size_t km_derived_states(void);
/* What was derived from it is stale. Of a model the name: its key without the tag. */
void km_derive_source_changed(km_name source);
int km_derive_is_stale(const char *key, size_t len);
/* Removes the stale key, here and on the replicas; not on a replica and not while writes are paused. */
/* Whether this server may change keys of its own accord now. */
int km_may_write(RedisModuleCtx *ctx);
/* Events after which the value is as it was: only its time to live is another. */
int km_keeps_value(const char *event);
void km_derive_remove_if_allowed(RedisModuleCtx *ctx, RedisModuleString *key);

#endif
