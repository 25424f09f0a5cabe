/* Registrations and scripts of this shard, and the prefixes that others have functions for. */
#ifndef KM_REGISTRY_H
#define KM_REGISTRY_H

#include "core.h"

#define KM_MAX_SCRIPT_BYTES (64 * 1024 * 1024)

typedef struct km_registration {
    struct km_registration *next; /* newest first */
    struct km_registration *next_miss;
    char *id, *script, *reader, *desc, *mode, *prefix, *events, *keytypes, *commands;
    char *session; /* RG.PYEXECUTE ... ID; without one the script's sha1 */
    char *upload;  /* those of one upload run in one namespace */
    char *trigger; /* of a CommandReader: its name */
    char *args;    /* of the reader, for those who ask: a line "name=value" each */
    size_t prefix_len;
    long long ordinal;
    long long batch; /* how many misses its function takes at once */
    int coalesce; /* the same event of a key that waits already is not queued again; those of different keys run at once */
    int is_miss; /* its events name keymiss */
    int is_mget; /* and its commands MGET */
    int is_command, is_stream;
    int is_hook;     /* a CommandReader that runs in the place of `commands` */
    int is_hooking;  /* events of these `commands` alone; their clients wait */
    int paused;      /* RG.PAUSEREGISTRATIONS; saved */
    int failing;     /* its last run did */
    int stopped;     /* a stream's function failed, and is to stop then */
    long long period_ms; /* of a time event; 0: it is none */
    mstime_t next_ms;    /* when it comes */
    /* Since this process started; not saved. */
    long long triggered, done, failed, aborted, total_us, last_us, last_lag_us, total_lag_us;
    char *last_error;
    struct km_execution *ended_first, *ended_last; /* the oldest first (executions.h) */
    long long n_ended;
} km_registration;

int km_registry_register(RedisModuleCtx *ctx); /* KM.SCRIPT, KM.REGISTER, ... and the RDB part */
int km_registry_count(void);
int km_registry_scripts(void);
/* Registrations of each sort; 0 lets hot paths leave at once. km_mget_count: of those for misses, that name MGET. */
extern int km_miss_count, km_mget_count, km_event_count, km_hook_count, km_time_count;
km_registration *km_registry_first(void);
km_registration *km_registry_by_id(const char *id);
/* The registration that answers a miss of this key: the longest prefix, among equals the newest; or NULL. */
km_registration *km_registry_for_miss(const char *key, size_t len);
/* The CommandReader with this trigger, or NULL. */
km_registration *km_registry_for_trigger(const char *name);
/* A number among the reader's arguments, or the fallback. */
long long km_registration_arg(const km_registration *reg, const char *name, long long fallback);

/* ---- ids of registrations and executions: the shard's node id (40 zeros without a cluster), a dash, a number that grows ---- */
#define KM_ID_LEN 64
long long km_next_number(void);
void km_id_of(long long number, char id[KM_ID_LEN + 1]);
long long km_number_of(const char *id); /* -1: it is no id of this shard */
const char *km_shard_id(void);          /* 40 characters and NUL */

/* 1 if the comma separated list is empty or holds the word (any case). */
int km_list_has(const char *list, const char *word);

/* ---- sessions.c: what is known of a session; it lives as long as it has registrations ---- */
int km_sessions_register(RedisModuleCtx *ctx); /* KM.SESSION, RG.PYDUMPSESSIONS, RG.PYDUMPREQS */
int km_session_is_used(const char *id);
void km_sessions_drop_unused(void);
void km_sessions_save(RedisModuleIO *rdb);
int km_sessions_load(RedisModuleIO *rdb); /* 0, or -1: damaged */

/* ---- announce.c: what other shards have registered ---- */
int km_announce_register(RedisModuleCtx *ctx);
extern int km_unregistered_count; /* prefixes that others have functions for and this shard has not; 0 ordinarily */
int km_is_unregistered(const char *key, size_t len);

#endif
