/* A hooked command "SET k v" becomes "KM.HOOK SET k v" in the filter, or "KM.HOOKREAD GET k" if it only reads, so that a replica
 * and a server that is short of memory treat it as the command itself. Its keys are those of the command: a key of another shard
 * is answered MOVED by the server, before anything runs. */
#include "hooks.h"

#include <stdio.h>
#include <strings.h>

#include "command.h"
#include "events.h"

#define MAX_FOLLOWED 64 /* events of one command that its client waits for */

static RedisModuleString *hook_name, *hookread_name;
static km_map *unhooked; /* connections of functions: what they send is not hooked */
static const char *running; /* the hooked command that runs now */
static uint64_t followed[MAX_FOLLOWED]; /* ids of the jobs, as the command may end one itself */
static int n_followed;

/* ---- which registration ---- */

typedef struct { /* a command, in the filter or in ours */
    RedisModuleCommandFilterCtx *fctx;
    RedisModuleString **argv;
    int argc;
} words;

static const char *word(const words *w, int i, size_t *len) {
    return RedisModule_StringPtrLen(w->fctx ? RedisModule_CommandFilterArgGet(w->fctx, i) : w->argv[i], len);
}

static int names(const km_registration *reg, const char *name, size_t len) {
    for (const char *item = reg->commands; item;) {
        const char *comma = strchr(item, ',');
        size_t item_len = comma ? (size_t)(comma - item) : strlen(item);
        if (item_len == len && strncasecmp(item, name, len) == 0) return 1;
        item = comma ? comma + 1 : NULL;
    }
    return 0;
}

/* One of the command's keys begins as the hook asks for. */
static int has_prefix(const km_registration *reg, const words *w) {
    if (reg->prefix_len == 0 || !reg->is_hook) return 1;
    int first = (int)km_registration_arg(reg, "firstKey", 0), last = (int)km_registration_arg(reg, "lastKey", 0);
    int jump = (int)km_registration_arg(reg, "jump", 1);
    if (last < 0) last += w->argc;
    for (int i = first; i > 0 && jump > 0 && i <= last && i < w->argc; i += jump) {
        size_t len;
        const char *key = word(w, i, &len);
        if (len >= reg->prefix_len && memcmp(key, reg->prefix, reg->prefix_len) == 0) return 1;
    }
    return 0;
}

/* The newest hook of the command among reg and those older than it; is_hook: only those that run in its place. */
static km_registration *hook_of(km_registration *reg, const words *w, int is_hook) {
    size_t len;
    const char *name = word(w, 0, &len);
    for (; reg; reg = reg->next)
        if ((reg->is_hook || (reg->is_hooking && !is_hook)) && names(reg, name, len) && has_prefix(reg, w)) return reg;
    return NULL;
}

int km_hooks_filter(RedisModuleCommandFilterCtx *fctx) {
    words w = {.fctx = fctx, .argc = RedisModule_CommandFilterArgsCount(fctx)};
    km_registration *reg = hook_of(km_registry_first(), &w, 0);
    if (!reg) return 0;
    RedisModuleString *name = km_registration_arg(reg, "reads", 0) ? hookread_name : hook_name;
    RedisModule_RetainString(NULL, name);
    RedisModule_CommandFilterArgInsert(fctx, 0, name);
    return 1;
}

int km_hooks_hears(const km_registration *reg) { return !reg->is_hooking || (running && names(reg, running, strlen(running))); }

void km_hooks_follow(const km_registration *reg, km_job *job) {
    if (reg->is_hooking && running && n_followed < MAX_FOLLOWED) followed[n_followed++] = job->id;
}

/* ---- the command ---- */

/* As the client's own user, and replicated; how: the protocol that the reply is in. */
static RedisModuleCallReply *call(RedisModuleCtx *ctx, const char *how, RedisModuleString **argv, int argc) {
    return RedisModule_Call(ctx, RedisModule_StringPtrLen(argv[0], NULL), how, argv + 1, (size_t)argc - 1);
}
#define AS_CLIENT "!CE0v"
#define AS_RESP2 "!CEv"

static int reply_call(RedisModuleCtx *ctx, RedisModuleCallReply *reply) {
    if (!reply) return RedisModule_ReplyWithError(ctx, "ERR the hooked command could not be run");
    RedisModule_ReplyWithCallReply(ctx, reply);
    RedisModule_FreeCallReply(reply);
    return REDISMODULE_OK;
}

/* As if nobody had hooked it; but events that it makes are those of this command. */
static RedisModuleCallReply *call_heard(RedisModuleCtx *ctx, const char *how, RedisModuleString **argv, int argc) {
    const char *outer = running;
    running = RedisModule_StringPtrLen(argv[0], NULL);
    RedisModuleCallReply *reply = call(ctx, how, argv, argc);
    running = outer;
    return reply;
}

/* With copies of the arguments: a value that is stored is the argument itself, and the client that waits has its own until then
 * (model_store.c says what a lazy-free thread does to the two). */
static RedisModuleCallReply *call_with_copies(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    RedisModuleString **copies = km_calloc((size_t)argc, sizeof *copies);
    for (int i = 0; i < argc; i++) {
        size_t len;
        const char *bytes = RedisModule_StringPtrLen(argv[i], &len);
        copies[i] = RedisModule_CreateString(NULL, bytes, len);
    }
    RedisModuleCallReply *reply = call_heard(ctx, AS_RESP2, copies, argc);
    for (int i = 0; i < argc; i++) RedisModule_FreeString(NULL, copies[i]);
    km_free(copies);
    return reply;
}

static int find_followed(km_job **jobs) {
    int n = 0;
    for (int i = 0; i < n_followed; i++)
        if ((jobs[n] = km_job_by_id(followed[i]))) n++;
    return n;
}

/* Runs it, then waits for the functions that hear of its events. */
static int call_and_wait(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    n_followed = 0;
    int waits = !km_cannot_block(ctx);
    RedisModuleCallReply *reply = waits ? call_with_copies(ctx, argv, argc) : call_heard(ctx, AS_RESP2, argv, argc);
    km_job *jobs[MAX_FOLLOWED];
    int n = find_followed(jobs);
    size_t len = 0;
    const char *raw = reply ? RedisModule_CallReplyProto(reply, &len) : NULL;
    if (n == 0 || !waits || !raw) return reply_call(ctx, reply);
    km_asker *asker = km_asker_new(n, KM_OVERRIDE, NULL);
    asker->fallback = km_answer_new(raw, len);
    for (int i = 0; i < n; i++) km_asker_follow(asker, i, jobs[i]);
    RedisModule_FreeCallReply(reply);
    return km_asker_wait(ctx, asker, km_config.miss_timeout_ms);
}

/* The client's user may run the command: the function that runs in its place has the worker's permissions. */
static int is_allowed(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    RedisModuleString *name = RedisModule_GetCurrentUserName(ctx);
    if (!name) return 0;
    RedisModuleUser *user = RedisModule_GetModuleUserFromUserName(name);
    int ok = user && RedisModule_ACLCheckCommandPermissions(user, argv, argc) == REDISMODULE_OK;
    if (user) RedisModule_FreeModuleUser(user);
    RedisModule_FreeString(ctx, name);
    return ok;
}

static const char cannot_wait_text[] = "ERR can not run a hooked command inside a MULTI/LUA (blocking is not allowed): its function runs "
                                       "in a worker (RG.DUMPREGISTRATIONS lists the hooks)";

/* KM.HOOK command [argument ...], KM.HOOKREAD: what the filter makes of a hooked command */
static int hook_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (RedisModule_IsKeysPositionRequest(ctx)) {
        int n = 0, *flags = NULL;
        int *at = argc > 1 ? RedisModule_GetCommandKeysWithFlags(ctx, argv + 1, argc - 1, &n, &flags) : NULL;
        int otherwise = km_is_word(argv[0], "km.hookread") ? (int)KM_READ : 0; /* of many 7.0 does not say what they do: see is_allowed */
        for (int i = 0; at && i < n; i++) RedisModule_KeyAtPosWithFlags(ctx, at[i] + 1, flags[i] ? flags[i] : otherwise);
        if (at) RedisModule_Free(at);
        if (flags) RedisModule_Free(flags);
        return REDISMODULE_OK;
    }
    if (argc < 2) return RedisModule_WrongArity(ctx);
    argv++;
    argc--;
    int flags = RedisModule_GetContextFlags(ctx);
    unsigned long long client = RedisModule_GetClientId(ctx);
    if (!(flags & (REDISMODULE_CTX_FLAGS_REPLICATED | REDISMODULE_CTX_FLAGS_LOADING)) && !is_allowed(ctx, argv, argc))
        return RedisModule_ReplyWithError(ctx, "NOPERM this user has no permissions to run the hooked command, or to access one of its keys");
    if ((flags & (REDISMODULE_CTX_FLAGS_REPLICATED | REDISMODULE_CTX_FLAGS_LOADING | REDISMODULE_CTX_FLAGS_SLAVE)) ||
        RedisModule_GetSelectedDb(ctx) != 0)
        return reply_call(ctx, call(ctx, AS_CLIENT, argv, argc));
    if (km_map_size(unhooked) && km_map_get(unhooked, &client, sizeof client)) return reply_call(ctx, call_heard(ctx, AS_CLIENT, argv, argc));
    km_registration *reg = hook_of(km_registry_first(), &(words){.argv = argv, .argc = argc}, 1);
    if (!reg) return call_and_wait(ctx, argv, argc);
    if (km_cannot_block(ctx)) return RedisModule_ReplyWithError(ctx, cannot_wait_text);
    km_job *job = km_jobs_add_command(ctx, reg, "hook", argv, argc, km_config.miss_timeout_ms);
    if (!job) return REDISMODULE_OK;
    km_asker *asker = km_asker_new(1, KM_ONE, NULL);
    asker->measured = 1;
    km_asker_follow(asker, 0, job);
    return km_asker_wait(ctx, asker, km_config.miss_timeout_ms);
}

/* KM.NEXTHOOK id command [argument ...]: the hook that runs when this one calls the next, or null: the command itself does */
static int nexthook_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc < 3) return RedisModule_WrongArity(ctx);
    km_registration *reg = km_registry_by_id(RedisModule_StringPtrLen(argv[1], NULL));
    if (reg) reg = hook_of(reg->next, &(words){.argv = argv + 2, .argc = argc - 2}, 1);
    return reg ? RedisModule_ReplyWithCString(ctx, reg->id) : RedisModule_ReplyWithNull(ctx);
}

/* KM.UNHOOKED: what this connection sends from here on is not hooked; that of functions */
static int unhooked_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    (void)argv;
    if (argc != 1) return RedisModule_WrongArity(ctx);
    unsigned long long client = RedisModule_GetClientId(ctx);
    if (client) km_map_set(unhooked, &client, sizeof client, &unhooked);
    return RedisModule_ReplyWithSimpleString(ctx, "OK");
}

static void client_left(RedisModuleCtx *ctx, const void *data) {
    (void)ctx;
    if (km_map_size(unhooked)) km_map_del(unhooked, data, sizeof(unsigned long long));
}

/* RG.TRIGGER trigger [argument ...], RG.TRIGGERONKEY trigger key [argument ...] */
static int trigger_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc < (km_is_word(argv[0], "rg.triggeronkey") ? 3 : 2)) return RedisModule_WrongArity(ctx);
    km_registration *reg = km_registry_for_trigger(RedisModule_StringPtrLen(argv[1], NULL));
    if (!reg)
        return RedisModule_ReplyWithError(ctx, "ERR subcommand not found: no function is registered for this trigger "
                                               "(RG.DUMPREGISTRATIONS lists them)");
    if (km_cannot_block(ctx))
        return RedisModule_ReplyWithError(ctx, strcmp(reg->mode, "sync") == 0
                                                   ? "ERR can not run a function inside a MULTI/LUA (blocking is not allowed): it runs in a worker, "
                                                     "in mode sync, too"
                                                   : "ERR can not run a non-sync execution inside a MULTI/LUA (blocking is not allowed) or on loading.");
    if (RedisModule_GetSelectedDb(ctx) != 0) return RedisModule_ReplyWithError(ctx, "ERR functions see database 0 only");
    km_job *job = km_jobs_add_command(ctx, reg, "trigger", argv + 1, argc - 1, km_config.script_timeout_ms);
    if (!job) return REDISMODULE_OK;
    km_asker *asker = km_asker_new(1, KM_ONE, NULL);
    asker->measured = 1;
    km_asker_follow(asker, 0, job);
    return km_asker_wait(ctx, asker, km_config.script_timeout_ms);
}

#define KEYS_OF_THE_COMMAND(flags_)                                                                                                \
    KM_KEYS({.notes = "the keys of the command", .flags = (flags_) | REDISMODULE_CMD_KEY_VARIABLE_FLAGS,                           \
             .begin_search_type = REDISMODULE_KSPEC_BS_INDEX, .bs.index.pos = 2, .find_keys_type = REDISMODULE_KSPEC_FK_RANGE,     \
             .fk.range = {.lastkey = 0, .keystep = 1}})

static const km_command commands[] = {
    {"km.hook", hook_command, "write deny-oom getkeys-api", -2, KEYS_OF_THE_COMMAND(KM_CHANGE),
     KM_ARGS(KM_TEXT("command"), KM_TEXT("argument", .flags = KM_OPTIONAL | KM_MANY)),
     "Runs the function that hooked a command that writes; the server makes it of that command.", "O(1), and the function's time", NULL},
    {"km.hookread", hook_command, "readonly getkeys-api", -2, KEYS_OF_THE_COMMAND(KM_READ),
     KM_ARGS(KM_TEXT("command"), KM_TEXT("argument", .flags = KM_OPTIONAL | KM_MANY)),
     "Runs the function that hooked a command that reads; the server makes it of that command.", "O(1), and the function's time", NULL},
    {"km.nexthook", nexthook_command, "readonly admin", -3, NULL,
     KM_ARGS(KM_TEXT("id"), KM_TEXT("command"), KM_TEXT("argument", .flags = KM_OPTIONAL | KM_MANY)),
     "Names the hook that runs behind this one.", "O(N), with N registrations", NULL},
    {"km.unhooked", unhooked_command, "admin fast", 1, NULL, NULL, "Takes hooks from what this connection sends.", "O(1)", NULL},
    {"rg.trigger", trigger_command, "write", -2, NULL, KM_ARGS(KM_TEXT("trigger"), KM_TEXT("argument", .flags = KM_OPTIONAL | KM_MANY)),
     "Runs the function that is registered for a trigger, and gives its results.", "O(N), with N registrations, and the function's time",
     "nondeterministic_output"},
    {"rg.triggeronkey", trigger_command, "write", -3, KM_KEYS(KM_KEY_AT(2, KM_CHANGE)),
     KM_ARGS(KM_TEXT("trigger"), KM_KEY("key", 0), KM_TEXT("argument", .flags = KM_OPTIONAL | KM_MANY)),
     "Runs a trigger's function on the shard that has a key.", "O(N), with N registrations, and the function's time",
     "nondeterministic_output"},
};

int km_hooks_register(RedisModuleCtx *ctx) {
    hook_name = RedisModule_CreateString(NULL, "km.hook", 7);
    hookread_name = RedisModule_CreateString(NULL, "km.hookread", 11);
    unhooked = km_map_new(km_seed());
    km_on(KM_ON_CLIENT_LEFT, client_left);
    return KM_REGISTER(ctx, commands);
}
