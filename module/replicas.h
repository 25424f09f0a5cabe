/* Answering AI.MODELSET, and whoever stores what was looked into, when the replicas have the model, too. */
#ifndef KM_REPLICAS_H
#define KM_REPLICAS_H

#include "kmapi.h"

/* 1 if this client can wait for replicas, and there are some. */
int km_has_replicas_to_wait_for(RedisModuleCtx *ctx);
/* Blocks the client; it gets OK when every replica that is connected has what was written, at the latest after
 * keymiss.replica-wait-ms. */
int km_reply_when_replicas_have_it(RedisModuleCtx *ctx);
/* The same for what is no client: calls `then` with the id. */
void km_when_replicas_have_it(RedisModuleCtx *ctx, void (*then)(RedisModuleCtx *ctx, unsigned long long id), unsigned long long id);

#endif
