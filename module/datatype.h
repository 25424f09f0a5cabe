/* What tensors and models, registrations and derived keys share as things that are saved. */
#ifndef KM_DATATYPE_H
#define KM_DATATYPE_H

#include "kmapi.h"

/* The memory of all tensors and models of this server. */
long long km_values_bytes(void);
void km_values_bytes_add(long long bytes);

/* A text of the RDB: bounded, without NUL; NULL when it is not one. */
void km_rdb_save_text(RedisModuleIO *rdb, const char *text);
char *km_rdb_load_text(RedisModuleIO *rdb, size_t max);

/* RedisAI's types: read from its dumps, and ours at the next tick (foreign.c). Until then a key may have either. */
int km_is_type(RedisModuleKey *key, RedisModuleType *type);

/* A type without values: the owner of an auxiliary part of the RDB, so that what is saved takes no key and no slot. */
int km_aux_type_register(RedisModuleCtx *ctx, const char *name, int version, RedisModuleTypeMethods part);

#endif
