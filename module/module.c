/* Keymiss: the module in every shard. Start reading here.
 *
 * Threads. There is one: the server's main thread. Every command, callback, filter, timer and event
 * of this module runs on it, so there is no lock and no race between them. Three things happen elsewhere: an RDB or AOF
 * child (fork) sees a copy of memory and only reads; the server's lazy-free thread frees tensors and models (hence the
 * atomic count of their memory in datatype.c); and a thread of blob.c writes and compares files of blobs, one task at a time, that
 * the main thread gives it and takes back. What takes long, Python and models, runs in worker processes that are
 * clients of the server.
 *
 * Files know those below them, never those above: what the server tells (keys, clients, flushes, time) and what jobs and
 * registrations tell comes through hooks (events.h), left at load and never taken away.
 *
 * Lifetimes.
 *  - A job (jobs.c; its commands: protocol.c) lives from the request until exactly one of: answered (KM.DONE), failed (KM.FAIL, or
 *    its worker's connection closed twice), refused (no worker), abandoned (every client left before it was
 *    taken), forgotten (it ran its time limit and as long again). It is in `by_id`, and in one
 *    of the lists questions, events, running; a miss also in `flights` by key until it ends.
 *  - Events of one registration run one after the other; if it coalesces, those of one key do. A later one that is its turn
 *    while an earlier one runs is parked: in no list but that of the running job, which is found in `running_events`. When
 *    that one ends, the oldest of them is the head of `events`, and the others are parked behind it; when it goes back to
 *    `events`, they stay behind it. An event is tried 8 times, as nobody would ask for it again.
 *  - An asker is one client and all that it asks for: a waiter for each value (KM.MISSES has many). A waiter is in the list
 *    of its job until that ends or the asker leaves; its job points to it, never it to a job that has ended. A blocked asker
 *    leaves exactly once: its last waiter is answered (we call UnblockClient), its time is over (tick() unblocks it with
 *    what is ready; the server's own time limits are not used, see client_timeout; that callback is for CLIENT UNBLOCK),
 *    or it disconnects (the callback). In every case we call UnblockClient exactly once: the server frees the handle
 *    (35 KB) only then, and the asker through the free callback, whether or not the reply could be delivered. It is found
 *    by its handle in `askers`; a handle that is not there has been answered, and a late callback for it is void.
 *    Its request's id is part of it, and is copied into KM.PULL's reply: nobody else points to it.
 *  - An answer is shared by all waiters of a job and counted; each asker gives its shares back when it is freed.
 *  - An execution is a job with a number: an event, a command, a script that runs. An unattended one has no asker any more:
 *    it lives until its worker says how it ended, or is gone. What ended is copied into a km_execution (executions.c), which
 *    points to its registration and goes with it.
 *  - RG.ABORTEXECUTION of a job that runs marks it; its worker asks (KM.ENDING), ends the function, and fails the job. Who asked for it
 *    waits for the job as any asker does.
 *  - While a hooked command runs (hooks.c) the jobs of its events are noted in a static list, and its client's asker follows
 *    them before anything else can run.
 *  - A puller is a worker's connection waiting in KM.PULL. When it is woken it is unlinked at once and
 *    takes its jobs in its reply callback; if it disconnects in between, it has taken none.
 *  - A key seen (seen.c) is remembered from the KM.MISS that found it until an event tells that it changed, and at most
 *    100 ms. It is a name, not a key: nothing is open.
 *  - A client of AI.MODELSET that waits for replicas is no job and no waiter of one: it is in the list of replicas.c
 *    until they have the model, its time is over, CLIENT UNBLOCK, or it disconnects. The server keeps the arguments of a
 *    blocked client, so the model has copies of them.
 *  - A candidate (look.c), a model or script that is to be stored, belongs to the job that looks into it, until KM.LOOKED makes it
 *    the key's, or the job ends. Once stored, the job belongs to no worker, and ends when the replicas have it.
 *  - A blob (blob.c) is counted: its models, those of a COPY too, have shares, and so has the list of those to be moved into files,
 *    or the thread's task. Whoever gives back the last one frees it, on whatever thread.
 *  - A model run that waits for others of its batch is in the list `held`, and in no other.
 *  - No key is kept open across a block; the reply comes from the worker's answer, and a key is opened anew
 *    by every command. Registrations are named by id in jobs and looked up again when one ends.
 *  - A derived key's record (derive.c, deps.c) lives from KM.DERIVE until the next event that changes the key,
 *    and is replaced by the next KM.DERIVE. A source's record lives as long as a key is derived from it. When
 *    the source changes, its record leaves the table with all its keys: these are stale from then on, are not
 *    served (filter, KM.MISS), and are removed by a timer on the master, slice by slice; a replica's records
 *    follow the UNLINKs. The key events only mark: writing inside them is not safe. The records of a FLUSHALL
 *    ASYNC are freed by the same timer.
 *  - The rules of the user `default` are others while a server reads its AOF at a start (aof_loading.c says why).
 *
 * Known races, none of them in memory: a worker may answer a job whose clients have gone (KM.ALIVE told
 * it; the answer reaches nobody and ends the job); a key may appear between a miss and its answer (the clients get the worker's answer, later GETs the
 * key); a replica promoted in between knows no jobs (the clients' connections are to the old master); a GET queued
 * in MULTI is looked at when it is queued, so EXEC may give it a key that went or became stale after that.
 *
 * Rejected: opening the key in the filter (miss.c says why); an interpreter or a model inside the server (its crash
 * would take the data down); threads here but that one (nothing to run on them); blocking on the key (BlockClientOnKeys) instead of a
 * job (an answer that is not cached would wake nobody); answering from the keymiss notification (the client has its nil
 * by then). */
#include "aof_loading.h"
#include "core.h"
#include "derive.h"
#include "events.h"
#include "gears_config.h"
#include "hooks.h"
#include "foreign.h"
#include "jobs.h"
#include "load_args.h"
#include "look.h"
#include "run.h"
#include "script.h"

__attribute__((visibility("default"))) int RedisModule_OnLoad(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);

int RedisModule_OnLoad(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    const char *missing = km_api_load(ctx);
    if (missing) {
        if (RedisModule_Log)
            RedisModule_Log(ctx, "warning", "keymiss: this server lacks RedisModule_%s: redis-server 7.0 or valkey-server 8.0 is needed", missing);
        return REDISMODULE_ERR;
    }
    if (RedisModule_IsModuleNameBusy("keymiss")) return REDISMODULE_ERR;
    RedisModule_SetModuleAttribs(ctx, "keymiss", 1, REDISMODULE_APIVER_1);
    RedisModule_SetModuleOptions(ctx, REDISMODULE_OPTIONS_HANDLE_IO_ERRORS | REDISMODULE_OPTION_NO_IMPLICIT_SIGNAL_MODIFIED);
    /* A part knows only those before it; of what those after it do it hears by a hook (events.h). */
    static int (*const parts[])(RedisModuleCtx *) = {
        km_config_register, km_gears_config_register, km_events_register, km_registry_register, km_sessions_register,
        km_announce_register, km_jobs_register, km_execution_commands_register, km_derive_register, km_hooks_register, km_miss_register,
        km_gears_register, km_tensor_commands_register, km_ai_register, km_model_store_register,
        km_script_commands_register, km_look_register, km_runs_register, km_dag_register, km_foreign_register, km_ai_info_register, km_info_register,
        km_aof_loading_register,
    };
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        if (parts[i](ctx) == REDISMODULE_OK) continue;
        RedisModule_Log(ctx, "warning", "keymiss: could not register its commands, types or settings");
        return REDISMODULE_ERR;
    }
    return km_load_args_read(ctx, argv, argc) == 0 ? REDISMODULE_OK : REDISMODULE_ERR;
}
