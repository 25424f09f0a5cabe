/* A TorchScript source that workers compile, the functions that may be called, and what its runs cost. */
#ifndef KM_SCRIPT_H
#define KM_SCRIPT_H

#include "model.h"

#define KM_SCRIPT_MAX_BYTES (16 * 1024 * 1024)

typedef struct {
    char *device, *tag, *source;
    size_t source_len;
    km_strings entry_points; /* none: a script of AI.SCRIPTSET, whose functions take tensors one by one */
    unsigned long long version;
    long long calls, duration_us, errors; /* since the start or RESETSTAT; not saved */
} km_script;

extern RedisModuleType *km_script_type;
int km_script_type_register(RedisModuleCtx *ctx);

/* Takes what it is given over. */
km_script *km_script_new(char *device, char *tag, char *source, size_t source_len, km_strings entry_points);
void km_script_free(void *script);
/* Replicates the script as a command that stores it. */
void km_script_replicate(RedisModuleCtx *ctx, RedisModuleString *key, const km_script *script);

int km_script_commands_register(RedisModuleCtx *ctx); /* AI.SCRIPTSTORE, AI.SCRIPTSET, AI.SCRIPTGET, AI.SCRIPTDEL, KM.SCRIPTINFO */

#endif
