#include "command.h"

#include <string.h>
#include <strings.h>

#include "datatype.h"

#define SINCE "0.1.0" /* of all of them so far */

/* Where a server cannot be told (SetCommandInfo is of 7.0) the commands work, undescribed. */
static int describe(RedisModuleCtx *ctx, const km_command *c) {
    static const RedisModuleCommandInfoVersion version = REDISMODULE_COMMAND_INFO_VERSION;
    const RedisModuleCommandInfo info = {
        .version = &version, .summary = c->summary, .complexity = c->complexity, .since = SINCE,
        .tips = c->tips, .arity = c->arity, .key_specs = c->keys, .args = c->args,
    };
    if (!RedisModule_GetCommand || !RedisModule_SetCommandInfo) return REDISMODULE_OK;
    RedisModuleCommand *command = RedisModule_GetCommand(ctx, c->name);
    return command ? RedisModule_SetCommandInfo(command, &info) : REDISMODULE_ERR;
}

int km_commands_register(RedisModuleCtx *ctx, const km_command *table, size_t n) {
    for (const km_command *c = table; c < table + n; c++) {
        int first = c->keys ? c->keys->bs.index.pos : 0, last = c->keys ? c->keys->fk.range.lastkey : 0;
        if (RedisModule_CreateCommand(ctx, c->name, c->run, c->flags, first, last < 0 ? last : first + last, c->keys != NULL) != REDISMODULE_OK ||
            describe(ctx, c) != REDISMODULE_OK)
            return REDISMODULE_ERR;
    }
    return REDISMODULE_OK;
}

int km_is_word(RedisModuleString *arg, const char *word) {
    size_t len;
    const char *bytes = RedisModule_StringPtrLen(arg, &len);
    return len == strlen(word) && strncasecmp(bytes, word, len) == 0;
}

int km_read_number(RedisModuleString *arg, long long min, long long max, long long *out) {
    return RedisModule_StringToLongLong(arg, out) == REDISMODULE_OK && *out >= min && *out <= max ? 0 : -1;
}

int km_cannot_block(RedisModuleCtx *ctx) {
    return (RedisModule_GetContextFlags(ctx) &
            (REDISMODULE_CTX_FLAGS_DENY_BLOCKING | REDISMODULE_CTX_FLAGS_MULTI | REDISMODULE_CTX_FLAGS_LUA)) != 0;
}

int km_look_at_type(RedisModuleCtx *ctx, RedisModuleString *name, int more) {
    RedisModuleKey *key = RedisModule_OpenKey(
        ctx, name, REDISMODULE_READ | REDISMODULE_OPEN_KEY_NOTOUCH | REDISMODULE_OPEN_KEY_NOSTATS | REDISMODULE_OPEN_KEY_NONOTIFY | more);
    int type = RedisModule_KeyType(key);
    RedisModule_CloseKey(key);
    return type;
}

int km_is_served_here(RedisModuleCtx *ctx, RedisModuleString *name) {
    if (!(RedisModule_GetContextFlags(ctx) & REDISMODULE_CTX_FLAGS_CLUSTER)) return 1;
    RedisModuleCallReply *reply = RedisModule_Call(ctx, "EXISTS", "s", name);
    if (reply) RedisModule_FreeCallReply(reply);
    return reply != NULL;
}

const char *km_find_value(RedisModuleCtx *ctx, RedisModuleString *name, RedisModuleType *type, const char *missing, void **value) {
    RedisModuleKey *key = RedisModule_OpenKey(ctx, name, REDISMODULE_READ);
    const char *error = NULL;
    *value = NULL;
    if (RedisModule_KeyType(key) == REDISMODULE_KEYTYPE_EMPTY)
        error = missing;
    else if (!km_is_type(key, type))
        error = REDISMODULE_ERRORMSG_WRONGTYPE;
    else
        *value = RedisModule_ModuleTypeGetValue(key);
    RedisModule_CloseKey(key);
    return error;
}

void *km_value_at(RedisModuleCtx *ctx, RedisModuleString *name, RedisModuleType *type, const char *missing) {
    void *value;
    const char *error = km_find_value(ctx, name, type, missing, &value);
    if (error) RedisModule_ReplyWithError(ctx, error);
    return value;
}

RedisModuleKey *km_open_for_write(RedisModuleCtx *ctx, RedisModuleString *name, RedisModuleType *type) {
    RedisModuleKey *key = RedisModule_OpenKey(ctx, name, REDISMODULE_READ | REDISMODULE_WRITE);
    if (RedisModule_KeyType(key) == REDISMODULE_KEYTYPE_EMPTY || km_is_type(key, type)) return key;
    RedisModule_CloseKey(key);
    RedisModule_ReplyWithError(ctx, REDISMODULE_ERRORMSG_WRONGTYPE);
    return NULL;
}

void km_changed(RedisModuleCtx *ctx, RedisModuleKey *key, RedisModuleString *name, const char *event) {
    RedisModule_CloseKey(key);
    RedisModule_SignalModifiedKey(ctx, name);
    RedisModule_NotifyKeyspaceEvent(ctx, REDISMODULE_NOTIFY_MODULE, event, name);
}

void km_written(RedisModuleCtx *ctx, RedisModuleKey *key, RedisModuleString *name, const char *event) {
    km_changed(ctx, key, name, event);
    RedisModule_ReplicateVerbatim(ctx);
}

void km_reply_text(RedisModuleCtx *ctx, const char *field, const char *value) {
    RedisModule_ReplyWithCString(ctx, field);
    RedisModule_ReplyWithCString(ctx, value);
}

void km_reply_number(RedisModuleCtx *ctx, const char *field, long long value) {
    RedisModule_ReplyWithCString(ctx, field);
    RedisModule_ReplyWithLongLong(ctx, value);
}
