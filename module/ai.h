/* Tensors and models: data types and the commands AI.* and KM.MODEL*. */
#ifndef KM_AI_H
#define KM_AI_H

#include "core.h"
#include "model.h"
#include "tensor.h"

int km_ai_register(RedisModuleCtx *ctx);
long long km_ai_memory_bytes(void); /* of all tensors and models of this server */
void km_ai_memory_add(long long bytes);

#endif
