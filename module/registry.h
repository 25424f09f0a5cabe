/* Registrations and scripts of this shard, and the prefixes that others have functions for. */
#ifndef KM_REGISTRY_H
#define KM_REGISTRY_H

#include "core.h"

#define KM_MAX_SCRIPT_BYTES (64 * 1024 * 1024)

typedef struct km_registration {
    struct km_registration *next; /* newest first */
    struct km_registration *next_miss;
    char *id, *script, *reader, *desc, *mode, *prefix, *events, *keytypes, *commands;
    size_t prefix_len;
    long long ordinal;
    long long batch; /* how many misses its function takes at once */
    int coalesce; /* the same event of a key that waits already is not queued again; those of different keys run at once */
    int is_miss; /* its events name keymiss */
    int is_mget; /* and its commands MGET */
    /* Since this process started; not saved. */
    long long triggered, done, failed, aborted, total_us, last_us;
    char *last_error;
} km_registration;

int km_registry_register(RedisModuleCtx *ctx); /* KM.SCRIPT, KM.REGISTER, ... and the RDB part */
int km_registry_count(void);
int km_registry_scripts(void);
/* Registrations of each sort; 0 lets hot paths leave at once. km_mget_count: of those for misses, that name MGET. */
extern int km_miss_count, km_mget_count, km_event_count;
km_registration *km_registry_first(void);
km_registration *km_registry_by_id(const char *id);
/* The registration that answers a miss of this key: the longest prefix, among equals the newest; or NULL. */
km_registration *km_registry_for_miss(const char *key, size_t len);
/* 1 if the comma separated list is empty or holds the word (any case). */
int km_list_has(const char *list, const char *word);

/* ---- announce.c: what other shards have registered ---- */
int km_announce_register(RedisModuleCtx *ctx);
extern int km_unregistered_count; /* prefixes that others have functions for and this shard has not; 0 ordinarily */
int km_is_unregistered(const char *key, size_t len);

#endif
