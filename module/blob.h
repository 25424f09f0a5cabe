/* The blob of a model. It is on the heap, as it was sent; a large one is moved into a file of the folder that the setting
 * model-folder names, if it names one, and mapped from there (blob_files.h). What reads it does not see where it is. */
#ifndef KM_BLOB_H
#define KM_BLOB_H

#include "string_list.h"

typedef struct km_blob km_blob;

km_blob *km_blob_new(km_strings chunks); /* takes them over */
/* It is at a key, and may be moved from the next tick on; not before, as what is replicated should not be copied. */
void km_blob_settle(km_blob *blob);
int km_blob_may_grow(const km_blob *blob); /* no model is made of it, nor was */
void km_blob_append(km_blob *blob, RedisModuleString *chunk); /* takes it over; the blob may grow */
km_blob *km_blob_share(km_blob *blob);   /* to be released once more */
void km_blob_release(km_blob *blob);     /* from any thread; NULL: nothing */

size_t km_blob_bytes(const km_blob *blob);
size_t km_blob_heap_bytes(const km_blob *blob);
int km_blob_n_chunks(const km_blob *blob);
/* On the main thread, until it runs something else, and in a child that saves. */
const char *km_blob_chunk(const km_blob *blob, int i, size_t *len);
/* The chunks for a command; free them at once. `copy`: they are strings of their own. */
km_strings km_blob_strings(const km_blob *blob, int copy);

/* As if its chunks were strings of a list: where the blob is, nobody sees. */
void km_blob_save(RedisModuleIO *rdb, const km_blob *blob);
void km_blob_digest(RedisModuleDigest *md, const km_blob *blob);

long long km_blobs_mapped_bytes(void); /* of all blobs of this server that are in files */
int km_blobs_register(RedisModuleCtx *ctx);

#endif
