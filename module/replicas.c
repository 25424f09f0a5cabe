/* A reply that waits until the replicas have what was written, as WAIT does for clients that send it.
 *
 * How far a replica is, is in INFO replication (it says so once a second); the offset it must reach is read by the
 * first look, after the command has gone into the replication stream. A waiter leaves exactly once: its replicas have
 * it or its time is over (look()), CLIENT UNBLOCK, or it disconnects, which is also what a server does to blocked
 * clients when it becomes a replica. In every case UnblockClient is called once: the server frees the handle then. */
#include "replicas.h"

#include <stdio.h>

#include "command.h"
#include "core.h"

#define LOOK_MS 50

typedef struct waiter {
    struct waiter *next;
    RedisModuleBlockedClient *bc; /* NULL: it is no client, but is called */
    void (*then)(RedisModuleCtx *ctx, unsigned long long id);
    unsigned long long id;
    long long offset; /* of the replication stream; -1 before the first look */
    mstime_t deadline_ms;
} waiter;

static waiter *waiters;
static int looking; /* the timer is set */

/* The bytes of the stream that every connected replica has; `head` is the stream's end. */
static long long replicated(RedisModuleCtx *ctx, long long *head, long long *n_replicas) {
    RedisModuleServerInfoData *info = RedisModule_GetServerInfo(ctx, "replication");
    *head = RedisModule_ServerInfoGetFieldSigned(info, "master_repl_offset", NULL);
    long long least = *head;
    for (*n_replicas = 0;; ++*n_replicas) {
        char name[32];
        snprintf(name, sizeof name, "slave%lld", *n_replicas);
        const char *replica = RedisModule_ServerInfoGetFieldC(info, name); /* ip=..,port=..,state=online,offset=..,lag=.. */
        if (!replica) break;
        const char *has = strstr(replica, "state=online") ? strstr(replica, ",offset=") : NULL;
        long long offset = 0; /* one that is still being sent everything has nothing yet */
        if (has) sscanf(has, ",offset=%lld", &offset);
        if (offset < least) least = offset;
    }
    RedisModule_FreeServerInfo(ctx, info);
    return least;
}

static int reply_ok(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    (void)argv;
    (void)argc;
    return RedisModule_ReplyWithSimpleString(ctx, "OK");
}

/* 0 if it has left already. */
static int leave(RedisModuleBlockedClient *bc) {
    for (waiter **link = &waiters; *link; link = &(*link)->next) {
        if ((*link)->bc != bc) continue;
        waiter *w = *link;
        *link = w->next;
        km_free(w);
        RedisModule_UnblockClient(bc, NULL);
        return 1;
    }
    return 0;
}

/* CLIENT UNBLOCK: it is stored all the same. */
static int unblocked(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    leave(RedisModule_GetBlockedClientHandle(ctx));
    return reply_ok(ctx, argv, argc);
}

static void disconnected(RedisModuleCtx *ctx, RedisModuleBlockedClient *bc) {
    (void)ctx;
    leave(bc);
}

static void look(RedisModuleCtx *ctx, void *data);
static void look_later(RedisModuleCtx *ctx) {
    if (!looking) RedisModule_CreateTimer(ctx, LOOK_MS, look, NULL);
    looking = 1;
}

static void look(RedisModuleCtx *ctx, void *data) {
    (void)data;
    looking = 0;
    mstime_t now = RedisModule_Milliseconds();
    long long head, n_replicas, have = replicated(ctx, &head, &n_replicas);
    for (waiter *w = waiters, *next; w; w = next) {
        next = w->next;
        if (w->offset < 0) w->offset = head;
        int late = now >= w->deadline_ms;
        if (have < w->offset && !late) continue;
        if (have < w->offset)
            RedisModule_Log(ctx, "warning", "keymiss: a model was stored, but not every replica has it after keymiss.replica-wait-ms");
        if (w->bc) {
            leave(w->bc);
            continue;
        }
        for (waiter **link = &waiters; *link; link = &(*link)->next) {
            if (*link != w) continue;
            *link = w->next;
            break;
        }
        w->then(ctx, w->id);
        km_free(w);
    }
    if (waiters) look_later(ctx);
}

int km_has_replicas_to_wait_for(RedisModuleCtx *ctx) {
    int as_replica = REDISMODULE_CTX_FLAGS_REPLICATED | REDISMODULE_CTX_FLAGS_LOADING;
    if (km_config.replica_wait_ms == 0 || km_cannot_block(ctx) || RedisModule_GetContextFlags(ctx) & as_replica) return 0;
    long long head, n_replicas;
    replicated(ctx, &head, &n_replicas);
    return n_replicas > 0;
}

static waiter *add_waiter(RedisModuleCtx *ctx) {
    waiter *w = km_calloc(1, sizeof *w);
    w->offset = -1;
    w->deadline_ms = RedisModule_Milliseconds() + km_config.replica_wait_ms;
    w->next = waiters;
    waiters = w;
    look_later(ctx);
    return w;
}

int km_reply_when_replicas_have_it(RedisModuleCtx *ctx) {
    waiter *w = add_waiter(ctx);
    w->bc = RedisModule_BlockClient(ctx, reply_ok, unblocked, NULL, 0);
    RedisModule_SetDisconnectCallback(w->bc, disconnected);
    return REDISMODULE_OK;
}

void km_when_replicas_have_it(RedisModuleCtx *ctx, void (*then)(RedisModuleCtx *ctx, unsigned long long id), unsigned long long id) {
    waiter *w = add_waiter(ctx);
    w->then = then;
    w->id = id;
}
