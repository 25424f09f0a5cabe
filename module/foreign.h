/* RedisAI's values in dump files and RESTORE payloads. */
#ifndef KM_FOREIGN_H
#define KM_FOREIGN_H

#include "kmapi.h"

/* RedisAI wrote versions 0 to 4. In this one a value is saved that was read but is not yet ours: laid out as our own type's. */
#define KM_FOREIGN_VERSION 5

/* Registers RedisAI's type beside our own one, which has the same values, of that size. */
int km_foreign_type_register(RedisModuleCtx *ctx, const char *name, RedisModuleTypeMethods *methods, RedisModuleType *own, size_t size);

/* A value of RedisAI's encodings 0 to 4 as ours, or NULL: it is damaged, and the log says so. */
void *km_foreign_tensor(RedisModuleIO *rdb, int encver);
void *km_foreign_model(RedisModuleIO *rdb, int encver);
void *km_foreign_script(RedisModuleIO *rdb, int encver);

/* The key that is being loaded gets a value of one of their types: it becomes ours at the next tick. */
void km_foreign_loaded(RedisModuleIO *rdb);

int km_foreign_register(RedisModuleCtx *ctx);

#endif
