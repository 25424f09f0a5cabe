/* Jobs: the queue, single flight, blocked clients. How workers take them: protocol.c. Lifetimes: see module.c. */
#include <stdio.h>

#include "jobs.h"

#include "command.h"
#include "events.h"

#define MAX_ATTEMPTS 2
#define MAX_OPEN_RUNS 16 /* of different registrations, in one KM.PULL */
#define MAX_EVENT_ATTEMPTS 8 /* nobody can ask again for an event that is given up */

/* ---- state ---- */
typedef struct {
    km_job *head, *tail;
    long long n;
} job_list;

static job_list questions, events, running; /* questions are taken before events */
static km_map *by_id, *flights, *queued_events, *running_events;
static km_map *askers;         /* those that are blocked, by their handles; */
static km_asker *first_asker;  /* and all of them, the newest first */
static long long n_parked, n_events_running;
static uint64_t next_id;
static mstime_t first_deadline_ms; /* no asker's time ends before it; 0 when nobody waits */
static const char timeout_text[] =
    "TIMEOUT no answer came in time: the worker may be busy (INFO keymiss), or raise keymiss.miss-timeout-ms";

static const char *const kind_names[] = {"miss", "event", "script", "unregister", "model"};

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
    return job->running ? &running : job->kind == KM_JOB_EVENT ? &events : &questions;
}

/* ---- a job's life ---- */

static km_job *job_new(km_job_kind kind, long long timeout_ms) {
    km_job *job = km_calloc(1, sizeof *job);
    job->id = next_id++;
    job->kind = kind;
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
 * what is the same here is not handed out twice at a time. */
static char *serial_name(const km_job *job, size_t *len) {
    size_t a = strlen(job->registration), key_len = job->by_key ? job->key_len : 0;
    *len = a + 1 + key_len;
    char *name = km_alloc(*len);
    memcpy(name, job->registration, a + 1);
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

/* Takes the job out of every table and frees it. Its waiters must be gone. */
static void job_end(km_job *job) {
    list_remove(list_of(job), job);
    if (job->kind == KM_JOB_EVENT && job->running) runs_no_more(job);
    if (job->kind == KM_JOB_EVENT) unpark(job);
    km_map_del(by_id, &job->id, sizeof job->id);
    if (job->kind == KM_JOB_MISS) km_map_del(flights, job->key, job->key_len);
    if (job->kind == KM_JOB_EVENT && !job->running) unindex_event(job);
    for (int i = 0; i < job->n_payload; i++) RedisModule_FreeString(NULL, job->payload[i]);
    km_free(job->payload);
    km_free(job->registration);
    km_free(job->event);
    km_free(job->key);
    km_free(job);
}

static void job_count(km_job *job, int failed, const char *error, size_t len) {
    km_registration *reg = job->registration ? km_registry_by_id(job->registration) : NULL;
    if (!reg) return;
    reg->last_us = (RedisModule_Milliseconds() - job->taken_ms) * 1000;
    reg->total_us += reg->last_us;
    if (!failed) {
        reg->done++;
        return;
    }
    reg->failed++;
    km_free(reg->last_error);
    reg->last_error = km_memdup0(error, len > 1024 ? 1024 : len);
}

static void asker_unblock(km_asker *asker);

/* Answers all that wait for the job and ends it. Takes over the answer. */
static void job_answer(km_job *job, km_answer *a) {
    while (job->waiters) {
        km_waiter *w = job->waiters;
        job->waiters = w->next;
        w->job = NULL;
        w->answer = km_answer_share(a);
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

static void asker_reply(RedisModuleCtx *ctx, const km_asker *asker) {
    if (asker->form == KM_ONE) {
        reply_value(ctx, &asker->waiters[0]);
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
    (void)argv;
    (void)argc;
    asker_reply(ctx, RedisModule_GetBlockedClientPrivateData(ctx));
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
        waiter_leaves(w);
        w->answer = km_answer_error(timeout_text, "", 0);
    }
}

static void time_is_over(km_asker *asker) {
    km_stats.clients_timed_out++;
    asker_leaves(asker);
}

/* CLIENT UNBLOCK. Time limits are kept by tick(), not by the server: 7.0 leaves a client without any reply
 * when its time ends in the same turn of the loop in which it was unblocked. */
static int client_timeout(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    (void)argv;
    (void)argc;
    RedisModuleBlockedClient *bc = RedisModule_GetBlockedClientHandle(ctx);
    km_asker *asker = km_map_get(askers, &bc, sizeof bc);
    if (!asker) return RedisModule_ReplyWithError(ctx, timeout_text);
    time_is_over(asker);
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

static void enqueue(km_job *job) {
    km_map_set(by_id, &job->id, sizeof job->id, job);
    list_push(list_of(job), job, 0);
    km_tell(KM_ON_WORK, NULL, NULL);
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

int km_jobs_add_event(RedisModuleCtx *ctx, km_registration *reg, const char *event, const char *key, size_t len, int once) {
    km_job *job = job_new(KM_JOB_EVENT, 0);
    job->registration = km_memdup0(reg->id, strlen(reg->id));
    job->event = km_memdup0(event, strlen(event));
    job->key = km_memdup0(key, len);
    job->key_len = len;
    job->by_key = reg->coalesce;
    once |= reg->coalesce;
    size_t name_len;
    char *name = event_name(job, &name_len);
    int known = once && km_map_get(queued_events, name, name_len) != NULL;
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
    reg->triggered++;
    km_stats.events_triggered++;
    enqueue(job);
    return 1;
}

static km_job *job_with_payload(km_job_kind kind, RedisModuleString **payload, int n, long long timeout_ms) {
    km_job *job = job_new(kind, timeout_ms);
    job->payload = km_alloc(sizeof *job->payload * (size_t)n);
    job->n_payload = n;
    for (int i = 0; i < n; i++) {
        size_t len;
        const char *bytes = RedisModule_StringPtrLen(payload[i], &len);
        job->payload[i] = RedisModule_CreateString(NULL, bytes, len);
    }
    return job;
}

int km_jobs_submit(RedisModuleCtx *ctx, km_job_kind kind, RedisModuleString **payload, int n, long long timeout_ms, const char *cannot_wait) {
    if (km_cannot_block(ctx)) return RedisModule_ReplyWithError(ctx, cannot_wait);
    if (questions.n >= km_config.queue_limit) return reply_busy(ctx);
    km_job *job = job_with_payload(kind, payload, n, timeout_ms);
    km_asker *asker = km_asker_new(1, KM_ONE, NULL);
    wait_for(asker, 0, job);
    enqueue(job);
    return km_asker_wait(ctx, asker, timeout_ms);
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
int km_job_wanted(const km_job *job) { return job->kind != KM_JOB_MISS || job->waiters; }

static void job_taken(km_job *job, unsigned long long client) {
    job->running = 1;
    job->attempts++;
    job->owner = client;
    job->taken_ms = RedisModule_Milliseconds();
    list_push(&running, job, 0);
}

typedef struct { /* a run that takes more misses */
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
        if (run && run->room) {
            run->room--;
            room--;
        } else if (n_runs < max) {
            n_runs++;
            if (run) room += run->room = job->batch - 1;
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

km_job *km_job_running(uint64_t id) {
    km_job *job = km_map_get(by_id, &id, sizeof id);
    return job && job->running ? job : NULL;
}

void km_job_done(km_job *job, const char *raw, size_t len) {
    km_stats.jobs_done++;
    job_count(job, 0, "", 0);
    job_answer(job, km_answer_new(raw, len));
    km_tell(KM_ON_WORK, NULL, NULL); /* what was parked behind it */
}

void km_job_failed(km_job *job, const char *text, size_t len) {
    km_stats.jobs_failed++;
    job_count(job, 1, text, len);
    job_answer(job, km_answer_error("FAILED ", text, len));
    km_tell(KM_ON_WORK, NULL, NULL);
}

/* Back to the head of its queue; a job that nobody waits for ends instead. */
static void requeue(km_job *job) {
    km_stats.jobs_requeued++;
    list_remove(&running, job);
    if (job->kind == KM_JOB_EVENT) runs_no_more(job);
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

void km_jobs_worker_gone(RedisModuleCtx *ctx, unsigned long long client) {
    for (km_job *job = running.tail, *prev; job; job = prev) {
        prev = job->prev;
        if (job->owner != client) continue;
        if (job->attempts < (job->kind == KM_JOB_EVENT ? MAX_EVENT_ATTEMPTS : MAX_ATTEMPTS)) {
            requeue(job);
            continue;
        }
        static const char lost[] = "FAILED the worker died twice while it ran this; its log says why";
        static const char given_up[] = "the worker died each time it ran this";
        km_stats.jobs_lost++;
        if (job->kind == KM_JOB_EVENT) { /* no client will be told */
            job_count(job, 1, given_up, sizeof given_up - 1);
            RedisModule_Log(ctx, "warning", "keymiss: event %s given up: the worker died over it %d times", job->event, job->attempts);
        }
        job_refuse(job, lost);
    }
    km_tell(KM_ON_WORK, NULL, NULL);
}

/* ---- time ---- */

void km_jobs_refuse_all(mstime_t now) {
    for (km_job *job = questions.head, *next; job; job = next) {
        next = job->next;
        if (now - job->created_ms < km_config.noworker_grace_ms) continue;
        if (job->attempts && now - job->taken_ms < km_config.noworker_grace_ms) continue;
        km_stats.refused_noworker++;
        job_refuse(job, "NOWORKER no worker is attached to this shard: start one (keymiss.worker), then ask again");
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
    if (first_deadline_ms && now >= first_deadline_ms) {
        first_deadline_ms = 0;
        time_out_askers(now);
    }
    /* A running job that took its time twice is forgotten; who joined it meanwhile asks anew. */
    for (km_job *job = running.head, *next; job; job = next) {
        next = job->next;
        if (job->deadline_ms && now > job->deadline_ms + (job->deadline_ms - job->created_ms)) {
            for (km_waiter *w = job->waiters; w; w = w->next) km_stats.clients_timed_out++;
            job_refuse(job, timeout_text);
        }
    }
}

km_jobs_now km_jobs_snapshot(void) {
    mstime_t oldest = 0;
    if (questions.head) oldest = RedisModule_Milliseconds() - questions.head->created_ms;
    return (km_jobs_now){questions.n, events.n + n_parked, n_events_running, running.n, (long long)km_map_size(askers), oldest};
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
