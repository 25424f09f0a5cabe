/* The part of the server's module ABI that Keymiss uses, declared by us.
 *
 * The server hands every module one function that looks other functions up by name
 * (RedisModule_GetApi). Nothing is linked: a function that a server does not have stays NULL,
 * and km_api_load() says which of the needed ones is missing. Sources of the facts here: the
 * public module API reference of redis 7.0 and valkey 8.0. Add a line to KM_API to use one more.
 */
#ifndef KMAPI_H
#define KMAPI_H

#include <stddef.h>
#include <stdint.h>

typedef struct RedisModuleCtx RedisModuleCtx;
typedef struct RedisModuleKey RedisModuleKey;
typedef struct RedisModuleString RedisModuleString;
typedef struct RedisModuleIO RedisModuleIO;
typedef struct RedisModuleType RedisModuleType;
typedef struct RedisModuleDigest RedisModuleDigest;
typedef struct RedisModuleBlockedClient RedisModuleBlockedClient;
typedef struct RedisModuleInfoCtx RedisModuleInfoCtx;
typedef struct RedisModuleServerInfoData RedisModuleServerInfoData;
typedef struct RedisModuleCommand RedisModuleCommand;
typedef struct RedisModuleCommandFilterCtx RedisModuleCommandFilterCtx;
typedef struct RedisModuleCommandFilter RedisModuleCommandFilter;
typedef struct RedisModuleKeyOptCtx RedisModuleKeyOptCtx;
typedef struct RedisModuleCallReply RedisModuleCallReply;
typedef struct RedisModuleUser RedisModuleUser;
typedef struct RedisModuleDefragCtx RedisModuleDefragCtx;
typedef uint64_t RedisModuleTimerID;
typedef long long mstime_t;

#define REDISMODULE_OK 0
#define REDISMODULE_ERR 1
#define REDISMODULE_APIVER_1 1
#define REDISMODULE_READ 1
#define REDISMODULE_WRITE 2
#define REDISMODULE_OPEN_KEY_NOTOUCH (1 << 16)
#define REDISMODULE_OPEN_KEY_NONOTIFY (1 << 17) /* 7.2+, ignored by 7.0 */
#define REDISMODULE_OPEN_KEY_NOSTATS (1 << 18)
#define REDISMODULE_OPEN_KEY_NOEXPIRE (1 << 19)
#define REDISMODULE_NO_EXPIRE -1
#define REDISMODULE_KEYTYPE_EMPTY 0
#define REDISMODULE_KEYTYPE_STRING 1
#define REDISMODULE_POSTPONED_LEN -1
#define REDISMODULE_CTX_FLAGS_LUA (1 << 0)
#define REDISMODULE_CTX_FLAGS_MULTI (1 << 1)
#define REDISMODULE_CTX_FLAGS_MASTER (1 << 2)
#define REDISMODULE_CTX_FLAGS_SLAVE (1 << 3)
#define REDISMODULE_CTX_FLAGS_CLUSTER (1 << 5)
#define REDISMODULE_CTX_FLAGS_REPLICATED (1 << 12)
#define REDISMODULE_CTX_FLAGS_LOADING (1 << 13)
#define REDISMODULE_CTX_FLAGS_DENY_BLOCKING (1 << 21)
#define REDISMODULE_NOTIFY_GENERIC (1 << 2)
#define REDISMODULE_NOTIFY_STRING (1 << 3)
#define REDISMODULE_NOTIFY_LIST (1 << 4)
#define REDISMODULE_NOTIFY_SET (1 << 5)
#define REDISMODULE_NOTIFY_HASH (1 << 6)
#define REDISMODULE_NOTIFY_ZSET (1 << 7)
#define REDISMODULE_NOTIFY_EXPIRED (1 << 8)
#define REDISMODULE_NOTIFY_EVICTED (1 << 9)
#define REDISMODULE_NOTIFY_STREAM (1 << 10)
#define REDISMODULE_NOTIFY_MODULE (1 << 13)
#define REDISMODULE_AUX_BEFORE_RDB (1 << 0)
#define REDISMODULE_AUX_AFTER_RDB (1 << 1)
#define REDISMODULE_CMDFILTER_NOSELF (1 << 0)
#define REDISMODULE_OPTIONS_HANDLE_IO_ERRORS (1 << 0)
#define REDISMODULE_OPTION_NO_IMPLICIT_SIGNAL_MODIFIED (1 << 1)
#define REDISMODULE_CONFIG_DEFAULT 0
#define REDISMODULE_CONFIG_IMMUTABLE (1 << 0)
#define REDISMODULE_ERRORMSG_WRONGTYPE "WRONGTYPE Operation against a key holding the wrong kind of value"
#define REDISMODULE_EVENT_REPLICATION_ROLE_CHANGED 0
#define REDISMODULE_EVENT_FLUSHDB 2
#define REDISMODULE_EVENT_LOADING 3
#define REDISMODULE_EVENT_CLIENT_CHANGE 4
#define REDISMODULE_EVENT_SWAPDB 11
#define REDISMODULE_EVENT_REPL_ASYNC_LOAD 14
#define REDISMODULE_REPLY_ERROR 1
#define REDISMODULE_SUBEVENT_LOADING_AOF_START 1
#define REDISMODULE_SUBEVENT_CLIENT_CHANGE_DISCONNECTED 1

typedef struct RedisModuleEvent {
    uint64_t id, dataver;
} RedisModuleEvent;

typedef struct RedisModuleClientInfo {
    uint64_t version, flags, id;
    char addr[46];
    uint16_t port, db;
} RedisModuleClientInfo;

typedef struct RedisModuleFlushInfo {
    uint64_t version;
    int32_t sync, dbnum; /* dbnum -1: all */
} RedisModuleFlushInfo;

/* What COMMAND DOCS tells of a command, and what ACLs check its keys by. The layouts are those of version 1; unions have
 * their full size. */
#define REDISMODULE_CMD_KEY_RO (1ULL << 0)
#define REDISMODULE_CMD_KEY_RW (1ULL << 1)
#define REDISMODULE_CMD_KEY_OW (1ULL << 2)
#define REDISMODULE_CMD_KEY_RM (1ULL << 3)
#define REDISMODULE_CMD_KEY_ACCESS (1ULL << 4)
#define REDISMODULE_CMD_KEY_UPDATE (1ULL << 5)
#define REDISMODULE_CMD_KEY_DELETE (1ULL << 7)
#define REDISMODULE_CMD_KEY_NOT_KEY (1ULL << 8)
#define REDISMODULE_CMD_KEY_INCOMPLETE (1ULL << 9)
#define REDISMODULE_CMD_KEY_VARIABLE_FLAGS (1ULL << 10)
#define REDISMODULE_CMD_ARG_OPTIONAL (1 << 0)
#define REDISMODULE_CMD_ARG_MULTIPLE (1 << 1)

typedef enum {
    REDISMODULE_ARG_TYPE_STRING,
    REDISMODULE_ARG_TYPE_INTEGER,
    REDISMODULE_ARG_TYPE_DOUBLE,
    REDISMODULE_ARG_TYPE_KEY,
    REDISMODULE_ARG_TYPE_PATTERN,
    REDISMODULE_ARG_TYPE_UNIX_TIME,
    REDISMODULE_ARG_TYPE_PURE_TOKEN,
    REDISMODULE_ARG_TYPE_ONEOF,
    REDISMODULE_ARG_TYPE_BLOCK
} RedisModuleCommandArgType;

typedef struct {
    int version;
    size_t sizeof_historyentry, sizeof_keyspec, sizeof_arg;
} RedisModuleCommandInfoVersion;

typedef struct {
    const char *notes;
    uint64_t flags;
    enum { REDISMODULE_KSPEC_BS_INVALID, REDISMODULE_KSPEC_BS_UNKNOWN, REDISMODULE_KSPEC_BS_INDEX, REDISMODULE_KSPEC_BS_KEYWORD } begin_search_type;
    union {
        struct {
            int pos;
        } index;
        struct {
            const char *keyword;
            int startfrom;
        } keyword;
    } bs;
    enum { REDISMODULE_KSPEC_FK_OMITTED, REDISMODULE_KSPEC_FK_UNKNOWN, REDISMODULE_KSPEC_FK_RANGE, REDISMODULE_KSPEC_FK_KEYNUM } find_keys_type;
    union {
        struct {
            int lastkey, keystep, limit;
        } range;
        struct {
            int keynumidx, firstkey, keystep;
        } keynum;
    } fk;
} RedisModuleCommandKeySpec;

typedef struct {
    const char *since, *changes;
} RedisModuleCommandHistoryEntry;

typedef struct RedisModuleCommandArg {
    const char *name;
    RedisModuleCommandArgType type;
    int key_spec_index;
    const char *token, *summary, *since;
    int flags;
    const char *deprecated_since;
    const struct RedisModuleCommandArg *subargs;
    const char *display_text; /* 7.2+ reads it whatever size we say; 7.0 steps over it */
} RedisModuleCommandArg;

typedef struct {
    const RedisModuleCommandInfoVersion *version;
    const char *summary, *complexity, *since;
    const RedisModuleCommandHistoryEntry *history;
    const char *tips; /* separated by blanks */
    int arity;
    const RedisModuleCommandKeySpec *key_specs;
    const RedisModuleCommandArg *args;
} RedisModuleCommandInfo;

#define REDISMODULE_COMMAND_INFO_VERSION                                                                     \
    {1, sizeof(RedisModuleCommandHistoryEntry), sizeof(RedisModuleCommandKeySpec), sizeof(RedisModuleCommandArg)}

typedef int (*RedisModuleCmdFunc)(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);
typedef void (*RedisModuleDisconnectFunc)(RedisModuleCtx *ctx, RedisModuleBlockedClient *bc);
typedef int (*RedisModuleNotificationFunc)(RedisModuleCtx *ctx, int type, const char *event, RedisModuleString *key);
typedef void (*RedisModuleEventCallback)(RedisModuleCtx *ctx, RedisModuleEvent eid, uint64_t subevent, void *data);
typedef void (*RedisModuleClusterMessageReceiver)(RedisModuleCtx *ctx, const char *sender_id, uint8_t type, const unsigned char *payload, uint32_t len);
typedef void (*RedisModuleTimerProc)(RedisModuleCtx *ctx, void *data);
typedef void (*RedisModuleInfoFunc)(RedisModuleInfoCtx *ctx, int for_crash_report);
typedef void (*RedisModuleCommandFilterFunc)(RedisModuleCommandFilterCtx *filter);
typedef long long (*RedisModuleConfigGetNumericFunc)(const char *name, void *privdata);
typedef int (*RedisModuleConfigSetNumericFunc)(const char *name, long long val, void *privdata, RedisModuleString **err);
typedef int (*RedisModuleConfigGetBoolFunc)(const char *name, void *privdata);
typedef int (*RedisModuleConfigSetBoolFunc)(const char *name, int val, void *privdata, RedisModuleString **err);
typedef RedisModuleString *(*RedisModuleConfigGetStringFunc)(const char *name, void *privdata);
typedef int (*RedisModuleConfigSetStringFunc)(const char *name, RedisModuleString *val, void *privdata, RedisModuleString **err);
typedef int (*RedisModuleConfigApplyFunc)(RedisModuleCtx *ctx, void *privdata, RedisModuleString **err);

#define REDISMODULE_TYPE_METHOD_VERSION 5 /* an older server reads the part it knows */
typedef struct RedisModuleTypeMethods {
    uint64_t version;
    void *(*rdb_load)(RedisModuleIO *rdb, int encver);
    void (*rdb_save)(RedisModuleIO *rdb, void *value);
    void (*aof_rewrite)(RedisModuleIO *aof, RedisModuleString *key, void *value);
    size_t (*mem_usage)(const void *value);
    void (*digest)(RedisModuleDigest *digest, void *value);
    void (*free)(void *value);
    int (*aux_load)(RedisModuleIO *rdb, int encver, int when);
    void (*aux_save)(RedisModuleIO *rdb, int when);
    int aux_save_triggers;
    size_t (*free_effort)(RedisModuleString *key, const void *value);
    void (*unlink)(RedisModuleString *key, const void *value);
    void *(*copy)(RedisModuleString *fromkey, RedisModuleString *tokey, const void *value);
    int (*defrag)(RedisModuleDefragCtx *ctx, RedisModuleString *key, void **value);
    size_t (*mem_usage2)(RedisModuleKeyOptCtx *ctx, const void *value, size_t sample_size);
    size_t (*free_effort2)(RedisModuleKeyOptCtx *ctx, const void *value);
    void (*unlink2)(RedisModuleKeyOptCtx *ctx, const void *value);
    void *(*copy2)(RedisModuleKeyOptCtx *ctx, const void *value);
    void (*aux_save2)(RedisModuleIO *rdb, int when); /* 7.2+: may save nothing */
} RedisModuleTypeMethods;

/* X(return type, name, (arguments)): the functions Keymiss cannot run without. */
#define KM_API(X)                                                                                            \
    X(void *, Alloc, (size_t bytes))                                                                         \
    X(void *, Calloc, (size_t nmemb, size_t size))                                                           \
    X(void, Free, (void *ptr))                                                                               \
    X(int, CreateCommand, (RedisModuleCtx *ctx, const char *name, RedisModuleCmdFunc fn, const char *flags, int first, int last, int step)) \
    X(void, SetModuleAttribs, (RedisModuleCtx *ctx, const char *name, int ver, int apiver))                  \
    X(int, IsModuleNameBusy, (const char *name))                                                             \
    X(void, SetModuleOptions, (RedisModuleCtx *ctx, int options))                                            \
    X(int, WrongArity, (RedisModuleCtx *ctx))                                                                \
    X(int, ReplyWithLongLong, (RedisModuleCtx *ctx, long long ll))                                           \
    X(int, ReplyWithError, (RedisModuleCtx *ctx, const char *err))                                           \
    X(int, ReplyWithSimpleString, (RedisModuleCtx *ctx, const char *msg))                                    \
    X(int, ReplyWithArray, (RedisModuleCtx *ctx, long len))                                                  \
    X(void, ReplySetArrayLength, (RedisModuleCtx *ctx, long len))                                            \
    X(int, ReplyWithStringBuffer, (RedisModuleCtx *ctx, const char *buf, size_t len))                        \
    X(int, ReplyWithCString, (RedisModuleCtx *ctx, const char *buf))                                         \
    X(int, ReplyWithString, (RedisModuleCtx *ctx, RedisModuleString *str))                                   \
    X(int, ReplyWithNull, (RedisModuleCtx *ctx))                                                             \
    X(int, ReplyWithNullArray, (RedisModuleCtx *ctx))                                                        \
    X(int, ReplyWithDouble, (RedisModuleCtx *ctx, double d))                                                 \
    X(RedisModuleString *, CreateString, (RedisModuleCtx *ctx, const char *ptr, size_t len))                 \
    X(RedisModuleString *, CreateStringPrintf, (RedisModuleCtx *ctx, const char *fmt, ...))                  \
    X(void, FreeString, (RedisModuleCtx *ctx, RedisModuleString *str))                                       \
    X(void, RetainString, (RedisModuleCtx *ctx, RedisModuleString *str))                                     \
    X(const char *, StringPtrLen, (const RedisModuleString *str, size_t *len))                               \
    X(int, StringToLongLong, (const RedisModuleString *str, long long *ll))                                  \
    X(int, StringToDouble, (const RedisModuleString *str, double *d))                                        \
    X(RedisModuleKey *, OpenKey, (RedisModuleCtx *ctx, RedisModuleString *key, int mode))                              \
    X(void, CloseKey, (RedisModuleKey *key))                                                                 \
    X(int, KeyType, (RedisModuleKey *key))                                                                   \
    X(int, DeleteKey, (RedisModuleKey *key))                                                                 \
    X(int, UnlinkKey, (RedisModuleKey *key))                                                                 \
    X(mstime_t, GetAbsExpire, (RedisModuleKey *key))                                                         \
    X(int, SetAbsExpire, (RedisModuleKey *key, mstime_t expire))                                             \
    X(int, SelectDb, (RedisModuleCtx *ctx, int id))                                                          \
    X(mstime_t, GetExpire, (RedisModuleKey *key))                                                            \
    X(char *, StringDMA, (RedisModuleKey *key, size_t *len, int mode))                                       \
    X(RedisModuleType *, ModuleTypeGetType, (RedisModuleKey *key))                                           \
    X(void *, ModuleTypeGetValue, (RedisModuleKey *key))                                                     \
    X(int, ModuleTypeSetValue, (RedisModuleKey *key, RedisModuleType *mt, void *value))                      \
    X(int, ModuleTypeReplaceValue, (RedisModuleKey *key, RedisModuleType *mt, void *value, void **old))      \
    X(const RedisModuleString *, GetKeyNameFromIO, (RedisModuleIO *io))                                      \
    X(RedisModuleType *, CreateDataType, (RedisModuleCtx *ctx, const char *name, int encver, RedisModuleTypeMethods *methods)) \
    X(int, SignalModifiedKey, (RedisModuleCtx *ctx, RedisModuleString *key))                                 \
    X(int, NotifyKeyspaceEvent, (RedisModuleCtx *ctx, int type, const char *event, RedisModuleString *key))  \
    X(RedisModuleString *, GetCurrentUserName, (RedisModuleCtx *ctx))                                        \
    X(RedisModuleUser *, GetModuleUserFromUserName, (RedisModuleString *name))                               \
    X(int, FreeModuleUser, (RedisModuleUser *user))                                                          \
    X(int, ACLCheckKeyPermissions, (RedisModuleUser *user, RedisModuleString *key, int flags))               \
    X(RedisModuleCallReply *, Call, (RedisModuleCtx *ctx, const char *cmd, const char *fmt, ...))            \
    X(void, FreeCallReply, (RedisModuleCallReply *reply))                                                    \
    X(int, CallReplyType, (RedisModuleCallReply *reply))                                                     \
    X(size_t, CallReplyLength, (RedisModuleCallReply *reply))                                                \
    X(RedisModuleCallReply *, CallReplyArrayElement, (RedisModuleCallReply *reply, size_t idx))              \
    X(const char *, CallReplyStringPtr, (RedisModuleCallReply *reply, size_t *len))                          \
    X(int, ReplicateVerbatim, (RedisModuleCtx *ctx))                                                         \
    X(int, Replicate, (RedisModuleCtx *ctx, const char *cmd, const char *fmt, ...))                          \
    X(int, AvoidReplicaTraffic, (void))                                                                      \
    X(int, IsKeysPositionRequest, (RedisModuleCtx *ctx))                                                     \
    X(void, KeyAtPosWithFlags, (RedisModuleCtx *ctx, int pos, int flags))                                    \
    X(unsigned long long, GetClientId, (RedisModuleCtx *ctx))                                                \
    X(int, GetSelectedDb, (RedisModuleCtx *ctx))                                                             \
    X(int, GetContextFlags, (RedisModuleCtx *ctx))                                                           \
    X(void, SaveUnsigned, (RedisModuleIO *io, uint64_t value))                                               \
    X(uint64_t, LoadUnsigned, (RedisModuleIO *io))                                                           \
    X(void, SaveStringBuffer, (RedisModuleIO *io, const char *str, size_t len))                              \
    X(char *, LoadStringBuffer, (RedisModuleIO *io, size_t *len))                                            \
    X(int, IsIOError, (RedisModuleIO *io))                                                                   \
    X(const RedisModuleString *, GetKeyNameFromIO, (RedisModuleIO *io))                                      \
    X(int, GetDbIdFromIO, (RedisModuleIO *io))                                                               \
    X(void, LogIOError, (RedisModuleIO *io, const char *level, const char *fmt, ...))                        \
    X(void, EmitAOF, (RedisModuleIO *io, const char *cmd, const char *fmt, ...))                             \
    X(void, DigestAddStringBuffer, (RedisModuleDigest *md, const char *ele, size_t len))                     \
    X(void, DigestAddLongLong, (RedisModuleDigest *md, long long ele))                                       \
    X(void, DigestEndSequence, (RedisModuleDigest *md))                                                      \
    X(void, Log, (RedisModuleCtx *ctx, const char *level, const char *fmt, ...))                             \
    X(long long, Milliseconds, (void))                                                                       \
    X(RedisModuleBlockedClient *, BlockClient, (RedisModuleCtx *ctx, RedisModuleCmdFunc reply, RedisModuleCmdFunc timeout, void (*free_privdata)(RedisModuleCtx *, void *), long long timeout_ms)) \
    X(int, UnblockClient, (RedisModuleBlockedClient *bc, void *privdata))                                    \
    X(void *, GetBlockedClientPrivateData, (RedisModuleCtx *ctx))                                            \
    X(RedisModuleBlockedClient *, GetBlockedClientHandle, (RedisModuleCtx *ctx))                             \
    X(void, SetDisconnectCallback, (RedisModuleBlockedClient *bc, RedisModuleDisconnectFunc fn))             \
    X(RedisModuleCtx *, GetDetachedThreadSafeContext, (RedisModuleCtx *ctx))                                 \
    X(int, SubscribeToKeyspaceEvents, (RedisModuleCtx *ctx, int types, RedisModuleNotificationFunc cb))      \
    X(int, SubscribeToServerEvent, (RedisModuleCtx *ctx, RedisModuleEvent event, RedisModuleEventCallback cb)) \
    X(int, SendClusterMessage, (RedisModuleCtx *ctx, const char *target_id, uint8_t type, const char *msg, uint32_t len)) \
    X(void, RegisterClusterMessageReceiver, (RedisModuleCtx *ctx, uint8_t type, RedisModuleClusterMessageReceiver receiver)) \
    X(RedisModuleTimerID, CreateTimer, (RedisModuleCtx *ctx, mstime_t period, RedisModuleTimerProc cb, void *data)) \
    X(RedisModuleCommandFilter *, RegisterCommandFilter, (RedisModuleCtx *ctx, RedisModuleCommandFilterFunc cb, int flags)) \
    X(int, CommandFilterArgsCount, (RedisModuleCommandFilterCtx *fctx))                                      \
    X(RedisModuleString *, CommandFilterArgGet, (RedisModuleCommandFilterCtx *fctx, int pos))                \
    X(int, CommandFilterArgReplace, (RedisModuleCommandFilterCtx *fctx, int pos, RedisModuleString *arg))    \
    X(int, CommandFilterArgDelete, (RedisModuleCommandFilterCtx *fctx, int pos))                             \
    X(int, RegisterInfoFunc, (RedisModuleCtx *ctx, RedisModuleInfoFunc cb))                                  \
    X(int, InfoAddSection, (RedisModuleInfoCtx *ctx, const char *name))                                      \
    X(int, InfoAddFieldLongLong, (RedisModuleInfoCtx *ctx, const char *field, long long value))              \
    X(int, InfoAddFieldCString, (RedisModuleInfoCtx *ctx, const char *field, const char *value))             \
    X(int, InfoAddFieldDouble, (RedisModuleInfoCtx *ctx, const char *field, double value))                   \
    X(RedisModuleServerInfoData *, GetServerInfo, (RedisModuleCtx *ctx, const char *section))                \
    X(void, FreeServerInfo, (RedisModuleCtx *ctx, RedisModuleServerInfoData *data))                          \
    X(const char *, ServerInfoGetFieldC, (RedisModuleServerInfoData *data, const char *field))               \
    X(long long, ServerInfoGetFieldSigned, (RedisModuleServerInfoData *data, const char *field, int *error)) \
    X(int, RegisterNumericConfig, (RedisModuleCtx *ctx, const char *name, long long default_val, unsigned int flags, long long min, long long max, RedisModuleConfigGetNumericFunc get, RedisModuleConfigSetNumericFunc set, RedisModuleConfigApplyFunc apply, void *privdata)) \
    X(int, RegisterBoolConfig, (RedisModuleCtx *ctx, const char *name, int default_val, unsigned int flags, RedisModuleConfigGetBoolFunc get, RedisModuleConfigSetBoolFunc set, RedisModuleConfigApplyFunc apply, void *privdata)) \
    X(int, RegisterStringConfig, (RedisModuleCtx *ctx, const char *name, const char *default_val, unsigned int flags, RedisModuleConfigGetStringFunc get, RedisModuleConfigSetStringFunc set, RedisModuleConfigApplyFunc apply, void *privdata)) \
    X(int, LoadConfigs, (RedisModuleCtx *ctx))                                                               \
    X(void, SaveString, (RedisModuleIO *io, RedisModuleString *s))                                           \
    X(RedisModuleString *, LoadString, (RedisModuleIO *io))                                                  \
    X(void, GetRandomBytes, (unsigned char *dst, size_t len))                                                \
    X(int, CommandFilterArgInsert, (RedisModuleCommandFilterCtx *fctx, int pos, RedisModuleString *arg))     \
    X(int *, GetCommandKeysWithFlags, (RedisModuleCtx *ctx, RedisModuleString **argv, int argc, int *num_keys, int **out_flags)) \
    X(long long, CallReplyInteger, (RedisModuleCallReply *reply))                                            \
    X(const char *, CallReplyProto, (RedisModuleCallReply *reply, size_t *len))                              \
    X(int, ReplyWithCallReply, (RedisModuleCtx *ctx, RedisModuleCallReply *reply))                           \
    X(const char *, GetMyClusterID, (void))                                                                  \
    X(RedisModuleString *, GetCurrentUserName, (RedisModuleCtx *ctx))                                        \
    X(RedisModuleUser *, GetModuleUserFromUserName, (RedisModuleString *name))                               \
    X(int, ACLCheckCommandPermissions, (RedisModuleUser *user, RedisModuleString **argv, int argc))          \
    X(int, FreeModuleUser, (RedisModuleUser *user))                                                          \
    X(int, BlockedClientMeasureTimeStart, (RedisModuleBlockedClient *bc))                                    \
    X(int, BlockedClientMeasureTimeEnd, (RedisModuleBlockedClient *bc))

/* Those it can run without: NULL where a server lacks them. */
#define KM_OPTIONAL_API(X)                                                                                   \
    X(RedisModuleCommand *, GetCommand, (RedisModuleCtx *ctx, const char *name))                             \
    X(int, SetCommandInfo, (RedisModuleCommand *command, const RedisModuleCommandInfo *info))

#define KM_DECLARE(ret, name, args) extern ret(*RedisModule_##name) args;
KM_API(KM_DECLARE)
KM_OPTIONAL_API(KM_DECLARE)
#undef KM_DECLARE

/* Looks every function up. Returns NULL, or the name of the first one of KM_API that the server lacks. */
const char *km_api_load(RedisModuleCtx *ctx);

#endif
