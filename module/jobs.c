/* Jobs: the queue, single flight, blocked clients. How workers take them: protocol.c. Lifetimes: see module.c. */
#include <stdio.h>

#include "jobs.h"

#include "command.h"
#include "events.h"
#include "executions.h"

#define MAX_ATTEMPTS 2
#define MAX_OPEN_RUNS 16 /* of different registrations, in one KM.PULL */
#define MAX_EVENT_ATTEMPTS 8 /* nobody can ask again for an event that is given up */

/* ---- state ---- */
typedef struct {
    km_job *head, *tail;
    long long n;
} job_list;

static job_list questions, events, running; /* questions are taken before events */
static job_list held; /* model runs that wait for others of their batch */
static km_map *by_id, *flights, *queued_events, *running_events;
static km_map *askers;         /* those that are blocked, by their handles; */
static km_asker *first_asker;  /* and all of them, the newest first */
static long long n_parked, n_events_running;
static uint64_t next_id;
static mstime_t first_deadline_ms; /* no asker's time ends before it; 0 when nobody waits */
#define WHY_LATE(setting) ": the worker may be busy (INFO keymiss), or raise " setting
#define TIMEOUT_TEXT(setting) "TIMEOUT no answer came in time" WHY_LATE(setting)
/* In ONNX Runtime's words, by which clients of RedisAI know a run that passed MODEL_EXECUTION_TIMEOUT. */
#define RUN_ENDED ", so the run ends (Exiting due to terminate flag being set to true)"

static const char *const kind_names[] = {"miss", "event", "script", "unregister", "command", "gears",
                                         "model", "torchscript", "dag", "look", "scan"};

static const char *timeout_text(km_job_kind kind) {
    switch (kind) {
        case KM_JOB_MODEL:
            return "TIMEOUT no answer came in time" RUN_ENDED WHY_LATE("TIMEOUT of AI.MODELEXECUTE, or keymiss.model-timeout-ms");
        case KM_JOB_TORCHSCRIPT: return TIMEOUT_TEXT("TIMEOUT of AI.SCRIPTEXECUTE, or keymiss.model-timeout-ms");
        case KM_JOB_DAG: return TIMEOUT_TEXT("TIMEOUT of AI.DAGEXECUTE, or keymiss.model-timeout-ms");
        case KM_JOB_SCRIPT:
        case KM_JOB_UNREGISTER:
        case KM_JOB_LOOK:
        case KM_JOB_SCAN: return TIMEOUT_TEXT("keymiss.script-timeout-ms");
        default: return TIMEOUT_TEXT("keymiss.miss-timeout-ms");
    }
}

static void list_push(job_list *list, km_job *job, int at_head) {
    job->prev = job->next = NULL;
    if (!list->head) {
        list->head = list->tail = job;
    } else if (at_head) {
        job->next = list->head;
        list->head->prev = job;
        list->head = job;
    } else {
        job->prev = list->tail;
        list->tail->next = job;
        list->tail = job;
    }
    list->n++;
}

static void list_remove(job_list *list, km_job *job) {
    if (job->prev)
        job->prev->next = job->next;
    else
        list->head = job->next;
    if (job->next)
        job->next->prev = job->prev;
    else
        list->tail = job->prev;
    list->n--;
}

static job_list *list_of(const km_job *job) {
    return job->running ? &running : job->kind == KM_JOB_EVENT ? &events : job->held ? &held : &questions;
}

/* ---- a job's life ---- */

static km_job *job_new(km_job_kind kind, long long timeout_ms) {
    km_job *job = km_calloc(1, sizeof *job);
    job->id = next_id++;
    job->kind = kind;
    job->number = -1;
    job->weight = 1;
    job->created_ms = RedisModule_Milliseconds();
    job->deadline_ms = timeout_ms ? job->created_ms + timeout_ms : 0;
    return job;
}

static char *event_name(const km_job *job, size_t *len) { /* what makes two queued events the same */
    size_t a = strlen(job->registration), b = strlen(job->event);
    *len = a + b + 2 + job->key_len;
    char *name = km_alloc(*len);
    memcpy(name, job->registration, a + 1);
    memcpy(name + a + 1, job->event, b + 1);
    memcpy(name + a + b + 2, job->key, job->key_len);
    return name;
}

static void unindex_event(km_job *job) {
    size_t len;
    char *name = event_name(job, &len);
    if (km_map_get(queued_events, name, len) == job) km_map_del(queued_events, name, len);
    km_free(name);
}

/* Events of one registration (and of one key, if it coalesces) run one after the other, in the order in which they came:
 * what is the same here is not handed out twice at a time. A stream is not read by a registration and the one in its place at
 * a time, either: both would get the same records. */
static char *serial_name(const km_job *job, size_t *len) {
    const char *whose = job->reads_for ? job->reads_for : job->registration;
    size_t a = strlen(whose), key_len = job->by_key ? job->key_len : 0;
    *len = a + 1 + key_len;
    char *name = km_alloc(*len);
    memcpy(name, whose, a + 1);
    memcpy(name + a + 1, job->key, key_len);
    return name;
}

/* The job, and what is parked behind it, are the last ones behind first. */
static void park(km_job *first, km_job *job) {
    job->prev = NULL;
    job->next = job->parked;
    if (first->parked_tail)
        first->parked_tail->next = job;
    else
        first->parked = job;
    first->parked_tail = job->parked ? job->parked_tail : job;
    job->parked = job->parked_tail = NULL;
    n_parked++;
}

/* 1 if the event must wait for one that runs: it is parked there until that one ends. */
static int park_behind_running(km_job *job) {
    size_t len;
    char *name = serial_name(job, &len);
    km_job *first = km_map_get(running_events, name, len);
    if (first) {
        park(first, job);
    } else {
        km_map_set(running_events, name, len, job);
        n_events_running++;
    }
    km_free(name);
    return first != NULL;
}

/* The event runs no more. What is parked behind it stays there: it goes back to the queue, or unparks them. */
static void runs_no_more(km_job *job) {
    size_t len;
    char *name = serial_name(job, &len);
    km_map_del(running_events, name, len);
    km_free(name);
    n_events_running--;
}

/* The oldest that is parked behind the event goes to the head of the queue, the others stay behind that one. */
static void unpark(km_job *job) {
    km_job *oldest = job->parked;
    if (!oldest) return;
    oldest->parked = oldest->next;
    oldest->parked_tail = oldest->parked ? job->parked_tail : NULL;
    job->parked = job->parked_tail = NULL;
    list_push(&events, oldest, 1);
    n_parked--;
}

void km_job_yield(km_job *job) {
    if (job->kind != KM_JOB_EVENT || job->yielded || job->reads_for) return; /* a stream is read by one at a time */
    job->yielded = 1;
    runs_no_more(job);
    unpark(job);
    km_tell(KM_ON_WORK, NULL, NULL);
}

/* Takes the job out of every table and frees it. Its waiters must be gone. */
static void job_end(km_job *job) {
    list_remove(list_of(job), job);
    if (job->kind == KM_JOB_EVENT && job->running && !job->yielded) runs_no_more(job);
    if (job->kind == KM_JOB_EVENT) unpark(job);
    km_map_del(by_id, &job->id, sizeof job->id);
    if (job->kind == KM_JOB_MISS) km_map_del(flights, job->key, job->key_len);
    if (job->kind == KM_JOB_EVENT && !job->running) unindex_event(job);
    for (int i = 0; i < job->n_payload; i++) RedisModule_FreeString(NULL, job->payload[i]);
    km_free(job->payload);
    if (job->candidate) job->candidate_free(job->candidate);
    km_free(job->registration);
    km_free(job->reads_for);
    km_free(job->event);
    km_free(job->key);
    km_free(job);
}

static void count_run(km_registration *reg, long long took_us, const char *error, size_t len) {
    reg->last_us = took_us;
    reg->total_us += took_us;
    reg->failing = error != NULL;
    if (!error) {
        reg->done++;
        return;
    }
    reg->failed++;
    km_free(reg->last_error);
    reg->last_error = km_memdup0(error, len > 1024 ? 1024 : len);
}

/* Of an event: how it ended is kept for RG.GETEXECUTION. */
static void keep_execution(const km_job *job, int status, const char *error, size_t len) {
    if (job->kind != KM_JOB_EVENT) return;
    km_registration *reg = km_registry_by_id(job->registration);
    long long took_ms = job->taken_ms ? RedisModule_Milliseconds() - job->taken_ms : 0;
    if (reg) km_executions_add(reg, job->number, status, took_ms, 0, NULL, error ? km_answer_texts(error, len) : NULL);
}

static void job_count(km_job *job, const char *error, size_t len) {
    km_registration *reg = job->registration ? km_registry_by_id(job->registration) : NULL;
    if (!reg) return;
    if (!reg->is_stream || (error && !job->batches)) count_run(reg, (RedisModule_Milliseconds() - job->taken_ms) * 1000, error, len);
    keep_execution(job, KM_EXECUTION_DONE, error, len);
}

void km_job_batch(km_job *job, long long took_us, long long lag_us, const char *error, size_t len) {
    job->batches++;
    km_registration *reg = km_registry_by_id(job->registration);
    if (!reg) return;
    reg->triggered++;
    reg->last_lag_us = lag_us;
    reg->total_lag_us += lag_us;
    count_run(reg, took_us, error, len);
    if (error && km_registration_arg(reg, "stopsOnFailure", 0)) reg->stopped = 1;
}

static void asker_unblock(km_asker *asker);

static km_answer *late_answer(const km_asker *asker, km_job_kind kind) {
    return asker->late ? km_answer_new(asker->late, strlen(asker->late)) : km_answer_error(timeout_text(kind), "", 0);
}

/* Answers all that wait for the job and ends it. Takes over the answer. */
static void job_answer(km_job *job, km_answer *a) {
    while (job->waiters) {
        km_waiter *w = job->waiters;
        job->waiters = w->next;
        w->job = NULL;
        int late = w->asker->late && RedisModule_Milliseconds() > w->asker->deadline_ms; /* the tick comes only now and then */
        w->answer = late ? late_answer(w->asker, job->kind) : km_answer_share(a);
        if (--w->asker->n_missing == 0) asker_unblock(w->asker);
    }
    km_answer_release(a);
    job_end(job);
}

static void job_refuse(km_job *job, const char *error) {
    job_answer(job, km_answer_error(error, "", 0));
}

/* ---- blocked clients: reply, timeout, disconnect, free ---- */

km_asker *km_asker_new(int n, int form, const char *request) {
    km_asker *asker = km_calloc(1, sizeof *asker + sizeof *asker->waiters * (size_t)n);
    asker->n = n;
    asker->form = form;
    if (request) snprintf(asker->request, sizeof asker->request, "%s", request);
    for (int i = 0; i < n; i++) asker->waiters[i].asker = asker;
    return asker;
}

static void asker_free(km_asker *asker) {
    if (asker->fallback) km_answer_release(asker->fallback);
    for (int i = 0; i < asker->n; i++)
        if (asker->waiters[i].answer) km_answer_release(asker->waiters[i].answer);
    km_free(asker);
}

void km_asker_give(km_asker *asker, int i, km_answer *a, int there) {
    asker->waiters[i].answer = a;
    asker->waiters[i].there = there;
}

static void reply_value(RedisModuleCtx *ctx, const km_waiter *w) {
    if (w->answer)
        km_answer_reply(ctx, w->answer);
    else
        RedisModule_ReplyWithNull(ctx);
}

static void reply_override(RedisModuleCtx *ctx, const km_asker *asker) {
    for (int i = 0; i < asker->n; i++) {
        const km_answer *a = asker->waiters[i].answer;
        if (!a || km_answer_is_failure(a) || km_answer_is_nothing(a)) continue;
        km_answer_reply(ctx, a);
        return;
    }
    km_answer_reply(ctx, asker->fallback);
}

static void asker_reply(RedisModuleCtx *ctx, const km_asker *asker) {
    const km_waiter *first = &asker->waiters[0];
    if (asker->form == KM_ONE || (asker->timed_out && asker->form != KM_EACH && asker->form != KM_VALUES && asker->form != KM_OVERRIDE)) {
        reply_value(ctx, first);
        return;
    }
    if (asker->form == KM_OK) {
        RedisModule_ReplyWithSimpleString(ctx, "OK");
        return;
    }
    if (asker->form == KM_RESULTS) {
        km_answer_reply_results(ctx, first->answer);
        return;
    }
    if (asker->form == KM_OVERRIDE) {
        reply_override(ctx, asker);
        return;
    }
    for (int i = 0; i < asker->n && asker->form == KM_VALUES; i++) {
        const km_answer *a = asker->waiters[i].answer;
        if (!a || !km_answer_is_error(a)) continue;
        km_answer_reply(ctx, a);
        return;
    }
    RedisModule_ReplyWithArray(ctx, asker->n);
    for (int i = 0; i < asker->n; i++) {
        if (asker->form == KM_VALUES) {
            reply_value(ctx, &asker->waiters[i]);
            continue;
        }
        RedisModule_ReplyWithArray(ctx, 2);
        RedisModule_ReplyWithLongLong(ctx, asker->waiters[i].there);
        reply_value(ctx, &asker->waiters[i]);
    }
}

static int client_reply(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    const km_asker *asker = RedisModule_GetBlockedClientPrivateData(ctx);
    if (asker->again) return asker->again(ctx, argv, argc);
    asker_reply(ctx, asker);
    return REDISMODULE_OK;
}

static void client_free(RedisModuleCtx *ctx, void *privdata) {
    (void)ctx;
    asker_free(privdata);
}

/* The server replies when its loop turns, if the client is still there, and frees the asker in any case. */
static void asker_unblock(km_asker *asker) {
    km_map_del(askers, &asker->bc, sizeof asker->bc);
    if (asker->prev)
        asker->prev->next = asker->next;
    else
        first_asker = asker->next;
    if (asker->next) asker->next->prev = asker->prev;
    if (asker->measured) RedisModule_BlockedClientMeasureTimeEnd(asker->bc);
    RedisModule_UnblockClient(asker->bc, asker);
}

static void waiter_leaves(km_waiter *w) {
    km_job *job = w->job;
    for (km_waiter **link = &job->waiters; *link; link = &(*link)->next) {
        if (*link != w) continue;
        *link = w->next;
        break;
    }
    w->job = NULL;
    w->asker->n_missing--;
    if (job->waiters || job->running) return;
    km_stats.jobs_abandoned++;
    km_registration *reg = job->registration ? km_registry_by_id(job->registration) : NULL;
    if (reg) reg->aborted++;
    job_end(job);
}

/* Takes a client out of the jobs it still waits for; what nobody waits for any more is not started. */
static void asker_leaves(km_asker *asker) {
    for (int i = 0; i < asker->n; i++) {
        km_waiter *w = &asker->waiters[i];
        if (!w->job) continue;
        km_job_kind kind = w->job->kind; /* the job may end with its last waiter */
        waiter_leaves(w);
        w->answer = late_answer(asker, kind);
    }
}

static void time_is_over(km_asker *asker) {
    km_stats.clients_timed_out++;
    asker->timed_out = 1;
    asker_leaves(asker);
}

/* CLIENT UNBLOCK. Time limits are kept by tick(), not by the server: 7.0 leaves a client without any reply
 * when its time ends in the same turn of the loop in which it was unblocked. */
static int client_timeout(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    RedisModuleBlockedClient *bc = RedisModule_GetBlockedClientHandle(ctx);
    km_asker *asker = km_map_get(askers, &bc, sizeof bc);
    if (!asker) return RedisModule_ReplyWithError(ctx, timeout_text(KM_JOB_MISS));
    time_is_over(asker);
    if (asker->again)
        asker->again(ctx, argv, argc);
    else
        asker_reply(ctx, asker);
    asker_unblock(asker); /* the server frees the handle only then */
    return REDISMODULE_OK;
}

static void client_disconnected(RedisModuleCtx *ctx, RedisModuleBlockedClient *bc) {
    (void)ctx;
    km_asker *asker = km_map_get(askers, &bc, sizeof bc);
    if (!asker) return; /* answered already, only not yet delivered */
    km_stats.clients_disconnected++;
    asker_leaves(asker);
    asker_unblock(asker);
}

int km_asker_wait(RedisModuleCtx *ctx, km_asker *asker, long long timeout_ms) {
    if (asker->n_missing == 0) {
        asker_reply(ctx, asker);
        asker_free(asker);
        return REDISMODULE_OK;
    }
    asker->deadline_ms = RedisModule_Milliseconds() + timeout_ms;
    if (first_deadline_ms == 0 || asker->deadline_ms < first_deadline_ms) first_deadline_ms = asker->deadline_ms;
    asker->bc = RedisModule_BlockClient(ctx, client_reply, client_timeout, client_free, 0);
    RedisModule_SetDisconnectCallback(asker->bc, client_disconnected);
    if (asker->measured) RedisModule_BlockedClientMeasureTimeStart(asker->bc);
    km_map_set(askers, &asker->bc, sizeof asker->bc, asker);
    asker->next = first_asker;
    if (first_asker) first_asker->prev = asker;
    first_asker = asker;
    return REDISMODULE_OK;
}

static void wait_for(km_asker *asker, int i, km_job *job) {
    km_waiter *w = &asker->waiters[i];
    w->job = job;
    w->next = job->waiters;
    job->waiters = w;
    asker->n_missing++;
}

void km_asker_follow(km_asker *asker, int i, km_job *job) { wait_for(asker, i, job); }

static void enqueue(km_job *job) {
    km_map_set(by_id, &job->id, sizeof job->id, job);
    list_push(list_of(job), job, 0);
    km_tell(KM_ON_WORK, NULL, NULL);
}

/* ---- runs that wait for others of their batch ---- */

/* The held runs of this batch go to the queue, one behind the other. */
static void release_batch(const char *name) {
    for (km_job *job = held.head, *next; job; job = next) {
        next = job->next;
        if (strcmp(job->registration, name) != 0) continue;
        list_remove(&held, job);
        job->held = KM_NOT_HELD;
        list_push(&questions, job, 0);
    }
    km_tell(KM_ON_WORK, NULL, NULL);
}

/* Those whose time is over, and what waits with them. */
static void release_overdue(mstime_t now) {
    for (km_job *job = held.head; job;) {
        if (job->held_until_ms == 0 || now < job->held_until_ms) {
            job = job->next;
            continue;
        }
        char *name = km_memdup0(job->registration, strlen(job->registration));
        release_batch(name);
        km_free(name);
        job = held.head;
    }
}

static void hold_is_over(RedisModuleCtx *ctx, void *data) {
    (void)ctx;
    (void)data;
    release_overdue(RedisModule_Milliseconds());
}

static void hold(RedisModuleCtx *ctx, km_job *job) {
    long long rows = job->weight;
    for (const km_job *other = held.head; other; other = other->next)
        if (strcmp(other->registration, job->registration) == 0) rows += other->weight;
    km_map_set(by_id, &job->id, sizeof job->id, job);
    job->held = KM_HELD;
    list_push(&held, job, 0);
    if (rows >= job->min_batch)
        release_batch(job->registration);
    else if (job->held_until_ms)
        RedisModule_CreateTimer(ctx, job->held_until_ms - job->created_ms, hold_is_over, NULL);
}

static const char busy_text[] = "BUSY the job queue is full: try again later, or raise keymiss.queue-limit";

static int reply_busy(RedisModuleCtx *ctx) {
    km_stats.refused_busy++;
    return RedisModule_ReplyWithError(ctx, busy_text);
}

void km_asker_join(km_asker *asker, int i, km_registration *reg, const char *key, size_t len) {
    km_job *job = km_map_get(flights, key, len);
    if (job) {
        km_stats.clients_coalesced++;
        wait_for(asker, i, job);
        return;
    }
    if (questions.n >= km_config.queue_limit) {
        km_stats.refused_busy++;
        km_asker_give(asker, i, km_answer_error(busy_text, "", 0), 0);
        return;
    }
    job = job_new(KM_JOB_MISS, km_config.miss_timeout_ms);
    job->registration = km_memdup0(reg->id, strlen(reg->id));
    job->event = km_memdup0("keymiss", 7);
    job->key = km_memdup0(key, len);
    job->key_len = len;
    job->batch = (int)reg->batch;
    reg->triggered++;
    km_stats.flights_opened++;
    km_map_set(flights, key, len, job);
    wait_for(asker, i, job);
    enqueue(job);
}

static char *stream_reader(const km_registration *reg) {
    size_t size = strlen(reg->session) + 32;
    char *name = km_alloc(size);
    snprintf(name, size, "%s %lld", reg->session, reg->ordinal);
    return name;
}

km_job *km_jobs_add_event(RedisModuleCtx *ctx, km_registration *reg, const char *event, const char *key, size_t len, int once) {
    km_job *job = job_new(KM_JOB_EVENT, 0);
    job->registration = km_memdup0(reg->id, strlen(reg->id));
    job->event = km_memdup0(event, strlen(event));
    job->key = km_memdup0(key, len);
    job->key_len = len;
    job->by_key = reg->coalesce;
    once |= reg->coalesce;
    size_t name_len;
    char *name = event_name(job, &name_len);
    km_job *known = once ? km_map_get(queued_events, name, name_len) : NULL;
    if (known || events.n + n_parked >= km_config.event_queue_limit) {
        if (known) {
            km_stats.events_coalesced++;
        } else {
            if (km_stats.events_dropped++ % 1000 == 0)
                RedisModule_Log(ctx, "warning", "keymiss: the event queue is full (keymiss.event-queue-limit): events are dropped");
        }
        km_free(name);
        km_free(job->registration);
        km_free(job->event);
        km_free(job->key);
        km_free(job);
        return known;
    }
    if (once) km_map_set(queued_events, name, name_len, job);
    km_free(name);
    if (reg->is_stream) job->reads_for = stream_reader(reg);
    job->number = km_next_number();
    if (!reg->is_stream) reg->triggered++;
    km_stats.events_triggered++;
    enqueue(job);
    return job;
}

static km_job *job_of_request(const km_request *request) {
    km_job *job = job_new(request->kind, request->timeout_ms);
    job->payload = km_alloc(sizeof *job->payload * (size_t)request->n);
    job->n_payload = request->n;
    for (int i = 0; i < request->n; i++) {
        size_t len;
        const char *bytes = RedisModule_StringPtrLen(request->payload[i], &len);
        job->payload[i] = RedisModule_CreateString(NULL, bytes, len);
    }
    job->candidate = request->candidate;
    job->candidate_free = request->candidate_free;
    const km_batch *batch = request->batch;
    if (!batch) return job;
    job->registration = km_memdup0(batch->name, strlen(batch->name));
    job->batch = (int)batch->max;
    job->weight = (int)batch->rows;
    job->min_batch = batch->min;
    job->held_until_ms = batch->min > 0 && batch->wait_ms ? job->created_ms + batch->wait_ms : 0;
    return job;
}

int km_jobs_submit(RedisModuleCtx *ctx, const km_request *request) {
    int cannot_wait = km_cannot_block(ctx);
    if (cannot_wait || questions.n + held.n >= km_config.queue_limit) {
        if (request->candidate) request->candidate_free(request->candidate);
        if (request->again) return REDISMODULE_ERR;
        return cannot_wait ? RedisModule_ReplyWithError(ctx, request->cannot_wait) : reply_busy(ctx);
    }
    km_job *job = job_of_request(request);
    km_asker *asker = km_asker_new(1, KM_ONE, NULL);
    asker->late = request->late;
    asker->again = request->again;
    wait_for(asker, 0, job);
    if (job->min_batch > job->weight) {
        hold(ctx, job);
    } else {
        enqueue(job);
    }
    return km_asker_wait(ctx, asker, request->timeout_ms);
}

km_job *km_jobs_add_command(RedisModuleCtx *ctx, km_registration *reg, const char *event, RedisModuleString **argv, int argc, long long timeout_ms) {
    if (questions.n >= km_config.queue_limit) {
        reply_busy(ctx);
        return NULL;
    }
    km_job *job = job_of_request(&(km_request){.kind = KM_JOB_COMMAND, .payload = argv, .n = argc, .timeout_ms = timeout_ms});
    job->registration = km_memdup0(reg->id, strlen(reg->id));
    job->event = km_memdup0(event, strlen(event));
    job->number = km_next_number();
    reg->triggered++;
    enqueue(job);
    return job;
}

/* ---- executions ---- */

void km_jobs_each_execution(km_job_visit visit, void *data) {
    const job_list *lists[] = {&running, &questions, &events};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        for (km_job *job = lists[i]->head, *next; job; job = next) {
            next = job->next;
            km_job *parked = job->parked;
            if (job->number >= 0) visit(job, data);
            for (km_job *later; parked; parked = later) {
                later = parked->next;
                visit(parked, data);
            }
        }
    }
}

static const char aborted_text[] = "ABORTED by RG.ABORTEXECUTION";

static void count_aborted(const km_job *job) {
    km_registration *reg = job->registration ? km_registry_by_id(job->registration) : NULL;
    if (reg) reg->aborted++;
}

static int unpark_behind(km_job *first, km_job *job) {
    km_job *before = NULL;
    for (km_job *one = first->parked; one; before = one, one = one->next) {
        if (one != job) continue;
        if (before)
            before->next = job->next;
        else
            first->parked = job->next;
        if (first->parked_tail == job) first->parked_tail = before;
        n_parked--;
        list_push(&events, job, 1);
        return 1;
    }
    return 0;
}

/* Out of the list of what is parked behind an event that runs, or ran when its worker went and is to run again. */
static void unpark_one(km_job *job) {
    const job_list *lists[] = {&running, &events};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        for (km_job *first = lists[i]->head; first; first = first->next)
            if (unpark_behind(first, job)) return;
}

static int is_parked(const km_job *job) { return job->kind == KM_JOB_EVENT && !job->running && !job->prev && events.head != job; }

void km_job_abort(km_job *job) {
    if (job->running) {
        job->aborted = 1;
        return;
    }
    if (is_parked(job)) unpark_one(job);
    count_aborted(job);
    keep_execution(job, KM_EXECUTION_ABORTED, NULL, 0);
    job_refuse(job, aborted_text);
}

typedef struct {
    const char *registration;
    km_job **found;
    size_t n, room;
} jobs_of;

static void collect(km_job *job, void *data) {
    jobs_of *of = data;
    if (!job->registration || strcmp(job->registration, of->registration) != 0) return;
    if (of->n == of->room) {
        km_job **more = km_alloc(sizeof *more * (of->room = of->room ? of->room * 2 : 16));
        if (of->n) memcpy(more, of->found, sizeof *more * of->n);
        km_free(of->found);
        of->found = more;
    }
    of->found[of->n++] = job;
}

void km_jobs_abort_of(const char *registration) {
    jobs_of of = {.registration = registration};
    km_jobs_each_execution(collect, &of);
    for (size_t i = of.n; i-- > 0;) km_job_abort(of.found[i]);
    km_free(of.found);
}

/* ---- for the protocol ---- */

const char *km_job_kind_name(const km_job *job) { return kind_names[job->kind]; }
long long km_job_queued_ms(const km_job *job) {
    mstime_t ms = RedisModule_Milliseconds() - job->created_ms;
    return ms > 0 ? ms : 0; /* the clock may have been set back */
}

int km_job_requests(const km_job *job, const char **ids) {
    int n = 0;
    for (const km_waiter *w = job->waiters; w && n < KM_MAX_REQUESTS; w = w->next) {
        const char *request = w->asker->request;
        int known = request[0] == '\0';
        for (int i = 0; i < n && !known; i++) known = strcmp(ids[i], request) == 0;
        if (!known) ids[n++] = request;
    }
    return n;
}

long long km_jobs_waiting(void) { return questions.n + events.n; }
int km_job_wanted(const km_job *job) { return !job->aborted && (job->kind != KM_JOB_MISS || job->waiters); }

static void job_taken(km_job *job, unsigned long long client) {
    job->running = 1;
    job->attempts++;
    job->owner = client;
    job->taken_ms = RedisModule_Milliseconds();
    list_push(&running, job, 0);
}

typedef struct { /* a run that takes more misses, or more rows */
    const char *registration;
    int room;
} open_run;

/* The open run of the job's registration, or a new one without room; NULL: the job is a run of its own. */
static open_run *run_for(open_run *runs, int *n, const km_job *job) {
    if (job->batch <= 1) return NULL;
    for (int i = 0; i < *n; i++)
        if (strcmp(runs[i].registration, job->registration) == 0) return &runs[i];
    if (*n == MAX_OPEN_RUNS) return NULL;
    runs[*n] = (open_run){job->registration, 0};
    return &runs[(*n)++];
}

int km_jobs_take(unsigned long long client, int max, km_job **taken) {
    open_run runs[MAX_OPEN_RUNS];
    int n = 0, n_runs = 0, n_open = 0, looked_at = 0, room = 0;
    for (km_job *job = questions.head, *next; job && looked_at < KM_MAX_PULL; job = next, looked_at++) {
        if (n_runs == max && room == 0) break;
        next = job->next;
        open_run *run = run_for(runs, &n_open, job);
        if (run && run->room >= job->weight) {
            run->room -= job->weight;
            room -= job->weight;
        } else if (n_runs < max) {
            n_runs++;
            if (run) {
                room -= run->room;
                run->room = job->batch > job->weight ? job->batch - job->weight : 0;
                room += run->room;
            }
        } else {
            continue;
        }
        list_remove(&questions, job);
        job_taken(job, client);
        taken[n++] = job;
    }
    for (; n_runs < max && n < KM_MAX_PULL && events.n; n_runs++) {
        km_job *job = events.head;
        list_remove(&events, job);
        if (park_behind_running(job)) {
            n_runs--;
            continue;
        }
        unindex_event(job);
        job_taken(job, client);
        taken[n++] = job;
    }
    return n;
}

km_job *km_job_by_id(uint64_t id) { return km_map_get(by_id, &id, sizeof id); }

km_job *km_job_running(uint64_t id) {
    km_job *job = km_job_by_id(id);
    return job && job->running ? job : NULL;
}

void km_job_done(km_job *job, const char *raw, size_t len) {
    km_stats.jobs_done++;
    job_count(job, NULL, 0);
    job_answer(job, km_answer_new(raw, len));
    km_tell(KM_ON_WORK, NULL, NULL); /* what was parked behind it */
}

void km_job_disown(km_job *job) { job->owner = 0; }

/* Its results and errors are one answer, for those who wait for both, and are kept if they are not too large: so they are read first. */
static void unattended_ends(km_job *job, int n_results, km_answer *results, km_answer *errors) {
    km_answer *both = km_answer_pair(results, errors);
    km_executions_add(NULL, job->number, KM_EXECUTION_DONE, RedisModule_Milliseconds() - job->taken_ms, n_results, results, errors);
    job_answer(job, both);
}

void km_job_failed(km_job *job, const char *code, const char *text, size_t len) {
    km_stats.jobs_failed++;
    job_count(job, text, len);
    if (job->unattended)
        unattended_ends(job, 0, km_answer_texts(NULL, 0), km_answer_texts(text, len));
    else
        job_answer(job, km_answer_error(code, text, len));
    km_tell(KM_ON_WORK, NULL, NULL);
}

void km_job_runs(km_job *job, int unattended) {
    char id[KM_ID_LEN + 1];
    if (job->number < 0) job->number = km_next_number();
    if (!unattended) return;
    km_id_of(job->number, id);
    job->unattended = 1;
    job->deadline_ms = 0;
    while (job->waiters) {
        km_waiter *w = job->waiters;
        job->waiters = w->next;
        w->job = NULL;
        w->answer = km_answer_bulk(id, strlen(id));
        if (--w->asker->n_missing == 0) asker_unblock(w->asker);
    }
}

void km_job_ended(km_job *job, int n_results, const char *results, size_t results_len, const char *errors, size_t errors_len) {
    km_stats.jobs_done++;
    unattended_ends(job, n_results, km_answer_new(results, results_len), km_answer_new(errors, errors_len));
    km_tell(KM_ON_WORK, NULL, NULL);
}

/* Back to the head of its queue; a job that nobody waits for ends instead. */
static void requeue(km_job *job) {
    km_stats.jobs_requeued++;
    list_remove(&running, job);
    if (job->kind == KM_JOB_EVENT && !job->yielded) runs_no_more(job);
    job->yielded = 0;
    job->running = 0;
    job->owner = 0;
    list_push(list_of(job), job, 1);
    if (job->kind == KM_JOB_MISS && !job->waiters) {
        km_stats.jobs_abandoned++;
        job_end(job);
    }
}

void km_job_give_back(km_job *job) {
    job->attempts--; /* it was not tried */
    requeue(job);
}

static const char gone_text[] = "the worker that ran this is gone";

void km_jobs_worker_gone(RedisModuleCtx *ctx, unsigned long long client) {
    for (km_job *job = running.tail, *prev; job; job = prev) {
        prev = job->prev;
        if (job->owner != client) continue;
        if (job->unattended) {
            km_job_failed(job, "FAILED ", gone_text, sizeof gone_text - 1);
            continue;
        }
        if (job->attempts < (job->kind == KM_JOB_EVENT ? MAX_EVENT_ATTEMPTS : MAX_ATTEMPTS)) {
            requeue(job);
            continue;
        }
        static const char lost[] = "FAILED the worker died twice while it ran this; its log says why";
        static const char given_up[] = "the worker died each time it ran this";
        km_stats.jobs_lost++;
        if (job->kind == KM_JOB_EVENT) { /* no client will be told */
            job_count(job, given_up, sizeof given_up - 1);
            RedisModule_Log(ctx, "warning", "keymiss: event %s given up: the worker died over it %d times", job->event, job->attempts);
        }
        job_refuse(job, lost);
    }
    km_tell(KM_ON_WORK, NULL, NULL);
}

/* ---- time ---- */

static const char noworker_text[] = "NOWORKER no worker is attached to this shard: start one (keymiss.worker), then ask again";

void km_jobs_refuse_all(mstime_t now) {
    for (km_job *job = held.head, *next; job; job = next) {
        next = job->next;
        if (now - job->created_ms < km_config.noworker_grace_ms) continue;
        km_stats.refused_noworker++;
        job_refuse(job, noworker_text);
    }
    for (km_job *job = questions.head, *next; job; job = next) {
        next = job->next;
        if (now - job->created_ms < km_config.noworker_grace_ms) continue;
        if (job->attempts && now - job->taken_ms < km_config.noworker_grace_ms) continue;
        km_stats.refused_noworker++;
        job_refuse(job, noworker_text);
    }
}

/* The clients whose time is over; the end of the others is noted in first_deadline_ms. */
static void time_out_askers(mstime_t now) {
    for (km_asker *asker = first_asker, *next; asker; asker = next) {
        next = asker->next;
        if (now < asker->deadline_ms) {
            if (first_deadline_ms == 0 || asker->deadline_ms < first_deadline_ms) first_deadline_ms = asker->deadline_ms;
            continue;
        }
        time_is_over(asker); /* ends each job of which it was the last waiter, unless it runs */
        asker_unblock(asker);
    }
}

static void tick(RedisModuleCtx *ctx, const void *data) {
    (void)ctx;
    mstime_t now = *(const mstime_t *)data;
    release_overdue(now);
    if (first_deadline_ms && now >= first_deadline_ms) {
        first_deadline_ms = 0;
        time_out_askers(now);
    }
    /* A running job that took its time twice is forgotten; who joined it meanwhile asks anew. */
    for (km_job *job = running.head, *next; job; job = next) {
        next = job->next;
        if (job->deadline_ms && now > job->deadline_ms + (job->deadline_ms - job->created_ms)) {
            for (km_waiter *w = job->waiters; w; w = w->next) km_stats.clients_timed_out++;
            job_refuse(job, timeout_text(job->kind));
        }
    }
}

km_jobs_now km_jobs_snapshot(void) {
    mstime_t oldest = 0;
    if (questions.head) oldest = RedisModule_Milliseconds() - questions.head->created_ms;
    return (km_jobs_now){questions.n + held.n, events.n + n_parked, n_events_running, running.n, (long long)km_map_size(askers), oldest};
}

int km_jobs_register(RedisModuleCtx *ctx) {
    uint64_t seed = km_seed();
    next_id = (uint64_t)RedisModule_Milliseconds() << 20; /* never an id of the process before */
    by_id = km_map_new(seed);
    flights = km_map_new(seed);
    queued_events = km_map_new(seed);
    running_events = km_map_new(seed);
    askers = km_map_new(seed);
    km_on(KM_ON_TICK, tick);
    return km_protocol_register(ctx);
}
