/* The arguments behind loadmodule. */
#ifndef KM_LOAD_ARGS_H
#define KM_LOAD_ARGS_H

#include "kmapi.h"

/* RedisAI's, as INFO shows them; 0: not given. */
typedef struct {
    long long threads_per_queue, inter_op_parallelism, intra_op_parallelism, model_execution_timeout, backend_memory_limit;
    long long model_chunk_size; /* of AI.MODELGET's blobs; also AI.CONFIG's */
} km_load_arguments;
extern km_load_arguments km_load_args;

/* Takes what a configuration of RedisAI may have. 0, or -1 after a line in the log. Once the settings are registered. */
int km_load_args_read(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);
int km_load_args_chunk_size(RedisModuleString *arg); /* 0, or -1 */

#endif
