/* What every file of commands shares: tables that describe commands, and the first lines of a command. */
#ifndef KM_COMMAND_H
#define KM_COMMAND_H

#include "kmapi.h"

/* ---- tables ---- */

/* A command: how it runs, and what COMMAND DOCS, redis-cli's hints and ACLs are told of it. */
typedef struct {
    const char *name;
    RedisModuleCmdFunc run;
    const char *flags;
    int arity;                             /* the name counts; -n: n or more */
    const RedisModuleCommandKeySpec *keys; /* NULL: none */
    const RedisModuleCommandArg *args;     /* NULL: none */
    const char *summary, *complexity, *tips;
} km_command;

/* Both at file scope: what is in the parentheses lives as long as the table. */
#define KM_ARGS(...) ((const RedisModuleCommandArg[]){__VA_ARGS__, {0}})
#define KM_KEYS(...) ((const RedisModuleCommandKeySpec[]){__VA_ARGS__, {0}})

/* Arguments; behind the name what else is to be said of it: .token = "WORD", .flags = KM_MANY, .subargs = KM_ARGS(...) */
#define KM_TEXT(name_, ...) {.name = name_, .type = REDISMODULE_ARG_TYPE_STRING, __VA_ARGS__}
#define KM_NUMBER(name_, ...) {.name = name_, .type = REDISMODULE_ARG_TYPE_INTEGER, __VA_ARGS__}
#define KM_WORD(name_, word, ...) {.name = name_, .type = REDISMODULE_ARG_TYPE_PURE_TOKEN, .token = word, __VA_ARGS__}
#define KM_KEY(name_, spec, ...) {.name = name_, .type = REDISMODULE_ARG_TYPE_KEY, .key_spec_index = spec, __VA_ARGS__}
#define KM_ONE_OF(name_, ...) {.name = name_, .type = REDISMODULE_ARG_TYPE_ONEOF, __VA_ARGS__}
#define KM_BLOCK(name_, ...) {.name = name_, .type = REDISMODULE_ARG_TYPE_BLOCK, __VA_ARGS__}
/* A count and as many keys. */
#define KM_COUNTED_KEYS(spec) KM_ARGS(KM_NUMBER("n"), KM_KEY("key", spec, .flags = KM_MANY))
#define KM_OPTIONAL REDISMODULE_CMD_ARG_OPTIONAL
#define KM_MANY REDISMODULE_CMD_ARG_MULTIPLE

/* What is done with keys: what a user may do with them is checked by it. */
#define KM_READ (REDISMODULE_CMD_KEY_RO | REDISMODULE_CMD_KEY_ACCESS)
#define KM_OVERWRITE (REDISMODULE_CMD_KEY_OW | REDISMODULE_CMD_KEY_UPDATE)
#define KM_CHANGE (REDISMODULE_CMD_KEY_RW | REDISMODULE_CMD_KEY_UPDATE)
#define KM_CHANGE_ANY (REDISMODULE_CMD_KEY_RW | REDISMODULE_CMD_KEY_ACCESS | REDISMODULE_CMD_KEY_UPDATE)
#define KM_ROUTE REDISMODULE_CMD_KEY_NOT_KEY /* it says where to, and nothing is done with it */
#define KM_REMOVE (REDISMODULE_CMD_KEY_RM | REDISMODULE_CMD_KEY_DELETE)
#define KM_KEY_AT(pos_, flags_) {.flags = (flags_), .begin_search_type = REDISMODULE_KSPEC_BS_INDEX, .bs.index.pos = (pos_)}

int km_commands_register(RedisModuleCtx *ctx, const km_command *table, size_t n);
#define KM_REGISTER(ctx, table) km_commands_register(ctx, table, sizeof(table) / sizeof *(table))

/* ---- commands ---- */

/* 1 if the argument is the word, in any case. */
int km_is_word(RedisModuleString *arg, const char *word);
/* A whole number from min to max: 0, else -1. */
int km_read_number(RedisModuleString *arg, long long min, long long max, long long *out);
/* 1 if this context cannot be blocked: MULTI, Lua, a module's call. */
int km_cannot_block(RedisModuleCtx *ctx);

/* The type of what is at a key, looked at without any trace; more: further flags for opening it. */
int km_look_at_type(RedisModuleCtx *ctx, RedisModuleString *name, int more);
/* Whether the server would run a command on the key: its slot is served here, and does not just leave without it. */
int km_is_served_here(RedisModuleCtx *ctx, RedisModuleString *name);
/* The value at a key if it is of the type: NULL, else an error's text; missing: what it says when there is none. */
const char *km_find_value(RedisModuleCtx *ctx, RedisModuleString *name, RedisModuleType *type, const char *missing, void **value);
/* The same: the value, or NULL after an error reply. */
void *km_value_at(RedisModuleCtx *ctx, RedisModuleString *name, RedisModuleType *type, const char *missing);
/* A key that may be written with a value of the type: open for writing, or NULL after an error reply. */
RedisModuleKey *km_open_for_write(RedisModuleCtx *ctx, RedisModuleString *name, RedisModuleType *type);
/* Closes the key, tells everybody that it changed, and replicates the command as it was given. Does not reply. */
void km_written(RedisModuleCtx *ctx, RedisModuleKey *key, RedisModuleString *name, const char *event);
/* The same, but replicates nothing. */
void km_changed(RedisModuleCtx *ctx, RedisModuleKey *key, RedisModuleString *name, const char *event);

/* A field of a reply that is a list of names and values. */
void km_reply_text(RedisModuleCtx *ctx, const char *field, const char *value);
void km_reply_number(RedisModuleCtx *ctx, const char *field, long long value);

#endif
