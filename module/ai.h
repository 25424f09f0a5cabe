/* Tensors and models: data types and the commands AI.* and KM.MODEL*. */
#ifndef KM_AI_H
#define KM_AI_H

#include "core.h"
#include "model.h"
#include "tensor.h"

int km_ai_register(RedisModuleCtx *ctx);
int km_model_store_register(RedisModuleCtx *ctx); /* model_store.c: AI.MODELSTORE, AI.MODELSET */
long long km_ai_memory_bytes(void); /* of all tensors and models of this server */
void km_ai_memory_add(long long bytes);

/* ---- ai_commands.c, for the commands that write ---- */
/* A key that may be written with a value of the type: open for writing, or NULL after an error reply. */
RedisModuleKey *km_ai_open_for_write(RedisModuleCtx *ctx, RedisModuleString *name, RedisModuleType *type);
/* Closes the key, tells everybody that it changed, and replicates the command as it was given. Does not reply. */
void km_ai_written(RedisModuleCtx *ctx, RedisModuleKey *key, RedisModuleString *name, const char *event);
/* A whole number from 0 to max: 0, else -1. */
int km_ai_read_count(RedisModuleString *arg, long long max, long long *out);

/* ---- replicas.c ---- */
/* 1 if this client can wait for replicas, and there are some. */
int km_has_replicas_to_wait_for(RedisModuleCtx *ctx);
/* Blocks the client; it gets OK when every replica that is connected has what was written, at the latest after
 * keymiss.replica-wait-ms. */
int km_reply_when_replicas_have_it(RedisModuleCtx *ctx);

#endif
