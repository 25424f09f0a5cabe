/* A server reads its AOF as a client of the user `default`. redis-server 7.0 and valkey-server 8 check at each EXEC in it
 * what that user may do now, so where `default` may not do everything, all that a script or a MULTI has ever written is
 * left out, and the server starts with what remains (github.com/redis/redis/issues/14541).
 *
 * So `default` may do everything while the AOF of a start is read, and nobody can be it: it is off. Clients that come
 * meanwhile log in or read NOAUTH. Only at a start: later there are clients that are `default` already (DEBUG LOADAOF). */
#include "aof_loading.h"

#include <string.h>

#include "core.h"
#include "events.h"

#define USER "user default "
#define EVERYTHING "off ~* &* +@all"
#define AFRESH "resetkeys resetchannels -@all clearselectors"

static RedisModuleString *rules; /* those of `default`, while it has others */
static int started;

static RedisModuleString *rules_of_default(RedisModuleCtx *ctx) {
    RedisModuleString *found = NULL;
    RedisModuleCallReply *list = RedisModule_Call(ctx, "ACL", "c", "LIST");
    for (size_t i = 0; list && !found && i < RedisModule_CallReplyLength(list); i++) {
        size_t len;
        const char *line = RedisModule_CallReplyStringPtr(RedisModule_CallReplyArrayElement(list, i), &len);
        if (line && len > strlen(USER) && memcmp(line, USER, strlen(USER)) == 0)
            found = RedisModule_CreateString(NULL, line + strlen(USER), len - strlen(USER));
    }
    if (list) RedisModule_FreeCallReply(list);
    return found;
}

/* `given`: separated by blanks; they come after what is there. */
static void add_rules(RedisModuleCtx *ctx, const char *given) {
    RedisModuleString **words = km_alloc((strlen(given) + 1) * sizeof *words);
    size_t n = 0;
    while (*given) {
        size_t len = strcspn(given, " ");
        if (len) words[n++] = RedisModule_CreateString(NULL, given, len);
        given += len + (given[len] == ' ');
    }
    RedisModuleCallReply *reply = RedisModule_Call(ctx, "ACL", "ccv", "SETUSER", "default", words, n);
    if (!reply || RedisModule_CallReplyType(reply) == REDISMODULE_REPLY_ERROR)
        RedisModule_Log(ctx, "warning", "keymiss: could not set the user default's rules for the time in which the AOF is read, or back to what they were: see ACL LIST");
    if (reply) RedisModule_FreeCallReply(reply);
    while (n) RedisModule_FreeString(NULL, words[--n]);
    km_free(words);
}

static int allows_everything(const char *of) { return strstr(of, " ~* ") && strstr(of, " +@all") && !strstr(of, " -"); }

static void loading(RedisModuleCtx *ctx, const void *data) {
    uint64_t subevent = *(const uint64_t *)data;
    if (subevent == REDISMODULE_SUBEVENT_LOADING_AOF_START && !started) {
        RedisModuleString *now = rules_of_default(ctx);
        if (!now) return;
        if (allows_everything(RedisModule_StringPtrLen(now, NULL))) {
            RedisModule_FreeString(NULL, now);
            return;
        }
        rules = now;
        add_rules(ctx, EVERYTHING);
    } else if (rules) {
        add_rules(ctx, AFRESH);
        add_rules(ctx, RedisModule_StringPtrLen(rules, NULL));
        RedisModule_FreeString(NULL, rules);
        rules = NULL;
    }
}

static void tick(RedisModuleCtx *ctx, const void *data) {
    (void)ctx;
    (void)data;
    started = 1; /* timers do not run while a server loads */
}

int km_aof_loading_register(RedisModuleCtx *ctx) {
    (void)ctx;
    km_on(KM_ON_LOADING, loading);
    km_on(KM_ON_TICK, tick);
    return REDISMODULE_OK;
}
