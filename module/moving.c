#include "moving.h"

#include <string.h>
#include <strings.h>

#define MAX_HOOKS 2
#define FIRST_OPTION 6 /* MIGRATE host port key|"" db timeout [COPY] [REPLACE] [AUTH..] [AUTH2 ..] KEYS key [key ...] */

km_move km_moving;

static km_stays_hook hooks[MAX_HOOKS];
static RedisModuleString *nothing; /* a key that is never there */

void km_stays(km_stays_hook hook) {
    int i = 0;
    while (hooks[i]) i++;
    hooks[i] = hook;
}

static int stays(RedisModuleString *arg) {
    size_t len;
    const char *key = RedisModule_StringPtrLen(arg, &len);
    for (int i = 0; i < MAX_HOOKS && hooks[i]; i++)
        if (hooks[i](key, len)) return 1;
    return 0;
}

static int is_word(RedisModuleCommandFilterCtx *fctx, int i, const char *word) {
    size_t len;
    const char *text = RedisModule_StringPtrLen(RedisModule_CommandFilterArgGet(fctx, i), &len);
    return len == strlen(word) && strncasecmp(text, word, len) == 0;
}

static void leave_out(RedisModuleCommandFilterCtx *fctx) {
    int n = RedisModule_CommandFilterArgsCount(fctx), i = FIRST_OPTION;
    if (n < FIRST_OPTION) return;
    while (i < n && !is_word(fctx, i, "keys")) i += is_word(fctx, i, "auth") ? 2 : is_word(fctx, i, "auth2") ? 3 : 1;
    if (i >= n) {
        if (!stays(RedisModule_CommandFilterArgGet(fctx, 3))) return;
        if (!nothing) nothing = RedisModule_CreateString(NULL, "\0", 1);
        RedisModule_RetainString(NULL, nothing);
        RedisModule_CommandFilterArgReplace(fctx, 3, nothing);
        return;
    }
    for (int k = n - 1; k > i; k--) /* without any key left it replies NOKEY */
        if (stays(RedisModule_CommandFilterArgGet(fctx, k))) RedisModule_CommandFilterArgDelete(fctx, k);
}

void km_moving_filter(RedisModuleCommandFilterCtx *fctx) {
    size_t len;
    const char *name = RedisModule_StringPtrLen(RedisModule_CommandFilterArgGet(fctx, 0), &len);
    km_moving = KM_STAYS;
    if (len == 7 && strncasecmp(name, "migrate", len) == 0) {
        km_moving = KM_LEAVES;
        if (hooks[0]) leave_out(fctx);
    } else if (len == 14 && strncasecmp(name, "restore-asking", len) == 0) {
        km_moving = KM_ARRIVES;
    }
}

int km_is_move(const char *event) {
    return (km_moving == KM_LEAVES && strcmp(event, "del") == 0) || (km_moving == KM_ARRIVES && strcmp(event, "restore") == 0);
}
