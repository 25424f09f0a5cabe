/* A blob on its way in, part by part: one command with gigabytes holds a server up for seconds, as it writes it to its
 * append-only file and sends it to its replicas in one go. */
#ifndef KM_UPLOAD_H
#define KM_UPLOAD_H

#include "blob.h"

/* The blob at a key, still the key's; NULL after an error reply. */
km_blob *km_upload_at(RedisModuleCtx *ctx, RedisModuleString *name);
/* Removes it from its key, without telling of it: 1, or 0 if the key has not that blob any more. */
int km_upload_take(RedisModuleCtx *ctx, RedisModuleString *name, const km_blob *blob);
int km_upload_register(RedisModuleCtx *ctx); /* the type, KM.MODELPART */

#endif
