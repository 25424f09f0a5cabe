/* Jobs: the queue, single flight, blocked clients, and the worker protocol. Lifetimes: see module.c. */
#include "core.h"
#include "resp.h"

#define TICK_MS 100
#define MAX_PULL 1024
#define MAX_ATTEMPTS 2
#define MAX_EVENT_ATTEMPTS 8 /* nobody can ask again for an event that is given up */

/* ---- the answer that every client of a job gets: shared, counted ---- */
typedef struct {
    int refs;
    size_t len;
    char raw[]; /* one RESP2 value */
} answer;

static answer *answer_new(const char *raw, size_t len) {
    answer *a = km_alloc(sizeof *a + len);
    a->refs = 1;
    a->len = len;
    memcpy(a->raw, raw, len);
    return a;
}

/* "-<text>\r\n", line breaks in the text made spaces. */
static answer *answer_error(const char *prefix, const char *text, size_t len) {
    size_t prefix_len = strlen(prefix);
    if (len > 4096) len = 4096;
    answer *a = km_alloc(sizeof *a + prefix_len + len + 3);
    a->refs = 1;
    a->len = prefix_len + len + 3;
    a->raw[0] = '-';
    memcpy(a->raw + 1, prefix, prefix_len);
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        a->raw[1 + prefix_len + i] = c == '\r' || c == '\n' || c == '\0' ? ' ' : c;
    }
    memcpy(a->raw + 1 + prefix_len + len, "\r\n", 2);
    return a;
}

static void answer_release(answer *a) {
    if (--a->refs == 0) km_free(a);
}

static void reply_value(RedisModuleCtx *ctx, const answer *a, size_t *pos) {
    km_resp value;
    if (km_resp_next(a->raw, a->len, pos, &value) != 0) return; /* was checked when it came */
    char *text;
    switch (value.type) {
    case '+':
        text = km_memdup0(value.text, value.len);
        RedisModule_ReplyWithSimpleString(ctx, text);
        km_free(text);
        break;
    case '-':
        text = km_memdup0(value.text, value.len);
        RedisModule_ReplyWithError(ctx, text);
        km_free(text);
        break;
    case ':': RedisModule_ReplyWithLongLong(ctx, value.number); break;
    case '$': RedisModule_ReplyWithStringBuffer(ctx, value.text, value.len); break;
    case 'n': RedisModule_ReplyWithNull(ctx); break;
    case 'N': RedisModule_ReplyWithNullArray(ctx); break;
    case '*':
        RedisModule_ReplyWithArray(ctx, (long)value.number);
        for (long long i = 0; i < value.number; i++) reply_value(ctx, a, pos);
        break;
    }
}

/* ---- state ---- */
typedef struct {
    km_job *head, *tail;
    long long n;
} job_list;

typedef struct puller { /* a worker's connection that waits in KM.PULL */
    struct puller *next;
    RedisModuleBlockedClient *bc;
    unsigned long long client;
    int max;
    mstime_t deadline_ms;
} puller;

typedef struct { /* a worker's connection */
    unsigned long long client;
    char *name;
} worker;

static job_list questions, events, running; /* questions are taken before events */
static km_map *by_id, *flights, *queued_events, *running_events, *waiters, *workers;
static long long n_parked, n_events_running;
static puller *pullers;
static uint64_t next_id;
static long long n_waiting;
static mstime_t first_deadline_ms; /* no waiter's time ends before it; 0 when nobody waits */
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

/* Events of one registration and one key run one after the other, in the order in which they came: what is the same
 * here is not handed out twice at a time. */
static char *serial_name(const km_job *job, size_t *len) {
    size_t a = strlen(job->registration);
    *len = a + 1 + job->key_len;
    char *name = km_alloc(*len);
    memcpy(name, job->registration, a + 1);
    memcpy(name + a + 1, job->key, job->key_len);
    return name;
}

/* 1 if the event must wait for one that runs: it is parked there until that one ends. */
static int park_behind_running(km_job *job) {
    size_t len;
    char *name = serial_name(job, &len);
    km_job *first = km_map_get(running_events, name, len);
    if (first) {
        job->next = job->prev = NULL;
        if (first->parked_tail)
            first->parked_tail->next = job;
        else
            first->parked = job;
        first->parked_tail = job;
        n_parked++;
    } else {
        km_map_set(running_events, name, len, job);
        n_events_running++;
    }
    km_free(name);
    return first != NULL;
}

/* The event runs no more: those parked behind it go back to the head of the queue, the oldest first. */
static void unpark(km_job *job) {
    size_t len;
    char *name = serial_name(job, &len);
    km_map_del(running_events, name, len);
    km_free(name);
    n_events_running--;
    km_job *newest_first = NULL;
    while (job->parked) {
        km_job *next = job->parked->next;
        job->parked->next = newest_first;
        newest_first = job->parked;
        job->parked = next;
    }
    job->parked_tail = NULL;
    while (newest_first) {
        km_job *next = newest_first->next;
        list_push(&events, newest_first, 1);
        n_parked--;
        newest_first = next;
    }
}

/* Takes the job out of every table and frees it. Its waiters must be gone. */
static void job_end(km_job *job) {
    list_remove(list_of(job), job);
    if (job->kind == KM_JOB_EVENT && job->running) unpark(job);
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

/* Answers every client of the job and ends it. Takes over the answer. */
static void job_answer(km_job *job, answer *a) {
    while (job->waiters) {
        km_waiter *w = job->waiters;
        job->waiters = w->next;
        km_map_del(waiters, &w->bc, sizeof w->bc);
        n_waiting--;
        a->refs++;
        RedisModule_UnblockClient(w->bc, a);
        km_free(w);
    }
    answer_release(a);
    job_end(job);
}

static void job_refuse(km_job *job, const char *error) {
    job_answer(job, answer_error(error, "", 0));
}

/* ---- blocked clients: reply, timeout, disconnect, free ---- */

static int client_reply(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    (void)argv;
    (void)argc;
    answer *a = RedisModule_GetBlockedClientPrivateData(ctx);
    size_t pos = 0;
    if (a) reply_value(ctx, a, &pos);
    return REDISMODULE_OK;
}

static void client_free(RedisModuleCtx *ctx, void *privdata) {
    (void)ctx;
    if (privdata) answer_release(privdata);
}

/* Takes a client that leaves out of its job; a job that nobody waits for any more is not started. */
static void client_leaves(RedisModuleBlockedClient *bc) {
    km_waiter *w = km_map_del(waiters, &bc, sizeof bc);
    if (!w) return;
    km_job *job = w->job;
    for (km_waiter **link = &job->waiters; *link; link = &(*link)->next) {
        if (*link != w) continue;
        *link = w->next;
        break;
    }
    n_waiting--;
    km_free(w);
    if (job->waiters || job->running) return;
    km_stats.jobs_abandoned++;
    km_registration *reg = job->registration ? km_registry_by_id(job->registration) : NULL;
    if (reg) reg->aborted++;
    job_end(job);
}

/* CLIENT UNBLOCK. Time limits are kept by tick(), not by the server: 7.0 leaves a client without any reply
 * when its time ends in the same turn of the loop in which it was unblocked. */
static int client_timeout(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    (void)argv;
    (void)argc;
    RedisModuleBlockedClient *bc = RedisModule_GetBlockedClientHandle(ctx);
    km_stats.clients_timed_out++;
    client_leaves(bc);
    RedisModule_UnblockClient(bc, NULL); /* the server frees the handle only then */
    return RedisModule_ReplyWithError(ctx, timeout_text);
}

static void client_disconnected(RedisModuleCtx *ctx, RedisModuleBlockedClient *bc) {
    (void)ctx;
    if (!km_map_get(waiters, &bc, sizeof bc)) return; /* answered already, only not yet delivered */
    km_stats.clients_disconnected++;
    client_leaves(bc);
    RedisModule_UnblockClient(bc, NULL);
}

static void wake_puller(void) {
    if (!pullers || (questions.n == 0 && events.n == 0)) return;
    puller *p = pullers;
    pullers = p->next;
    /* The jobs are taken when its reply is made, so that all that this turn of the server's loop
     * brings go together. */
    RedisModule_UnblockClient(p->bc, p);
}

static void block_on(RedisModuleCtx *ctx, km_job *job, long long timeout_ms) {
    km_waiter *w = km_calloc(1, sizeof *w);
    w->job = job;
    w->next = job->waiters;
    job->waiters = w;
    n_waiting++;
    w->deadline_ms = RedisModule_Milliseconds() + timeout_ms;
    if (first_deadline_ms == 0 || w->deadline_ms < first_deadline_ms) first_deadline_ms = w->deadline_ms;
    w->bc = RedisModule_BlockClient(ctx, client_reply, client_timeout, client_free, 0);
    RedisModule_SetDisconnectCallback(w->bc, client_disconnected);
    km_map_set(waiters, &w->bc, sizeof w->bc, w);
}

static void enqueue(km_job *job) {
    km_map_set(by_id, &job->id, sizeof job->id, job);
    list_push(list_of(job), job, 0);
    wake_puller();
}

static int reply_busy(RedisModuleCtx *ctx) {
    km_stats.refused_busy++;
    return RedisModule_ReplyWithError(ctx, "BUSY the job queue is full: try again later, or raise keymiss.queue-limit");
}

int km_jobs_join_miss(RedisModuleCtx *ctx, km_registration *reg, const char *key, size_t len) {
    km_job *job = km_map_get(flights, key, len);
    if (job) {
        km_stats.clients_coalesced++;
        block_on(ctx, job, km_config.miss_timeout_ms);
        return REDISMODULE_OK;
    }
    if (questions.n >= km_config.queue_limit) return reply_busy(ctx);
    job = job_new(KM_JOB_MISS, km_config.miss_timeout_ms);
    job->registration = km_memdup0(reg->id, strlen(reg->id));
    job->event = km_memdup0("keymiss", 7);
    job->key = km_memdup0(key, len);
    job->key_len = len;
    reg->triggered++;
    km_stats.flights_opened++;
    km_map_set(flights, key, len, job);
    block_on(ctx, job, km_config.miss_timeout_ms);
    enqueue(job);
    return REDISMODULE_OK;
}

int km_jobs_add_event(RedisModuleCtx *ctx, km_registration *reg, const char *event, const char *key, size_t len) {
    km_job *job = job_new(KM_JOB_EVENT, 0);
    job->registration = km_memdup0(reg->id, strlen(reg->id));
    job->event = km_memdup0(event, strlen(event));
    job->key = km_memdup0(key, len);
    job->key_len = len;
    size_t name_len;
    char *name = event_name(job, &name_len);
    int known = km_map_get(queued_events, name, name_len) != NULL;
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
    km_map_set(queued_events, name, name_len, job);
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

int km_jobs_submit(RedisModuleCtx *ctx, km_job_kind kind, RedisModuleString **payload, int n, long long timeout_ms) {
    if (questions.n >= km_config.queue_limit) return reply_busy(ctx);
    km_job *job = job_with_payload(kind, payload, n, timeout_ms);
    block_on(ctx, job, timeout_ms);
    enqueue(job);
    return REDISMODULE_OK;
}

uint64_t km_jobs_submit_detached(km_job_kind kind, RedisModuleString **payload, int n, long long timeout_ms) {
    if (questions.n >= km_config.queue_limit) {
        km_stats.refused_busy++;
        return 0;
    }
    km_job *job = job_with_payload(kind, payload, n, timeout_ms);
    uint64_t id = job->id;
    enqueue(job);
    return id;
}

int km_submit_model_job(RedisModuleCtx *ctx, RedisModuleString **payload, int n_payload, long long timeout_ms) {
    if (km_cannot_block(ctx))
        return RedisModule_ReplyWithError(ctx, "ERR AI.MODELEXECUTE cannot wait inside MULTI, a script or a module's call");
    return km_jobs_submit(ctx, KM_JOB_MODEL, payload, n_payload, timeout_ms > 0 ? timeout_ms : km_config.model_timeout_ms);
}

/* ---- the worker protocol ---- */

static void reply_job(RedisModuleCtx *ctx, km_job *job) {
    long long remaining = job->deadline_ms ? job->deadline_ms - RedisModule_Milliseconds() : 0;
    RedisModule_ReplyWithArray(ctx, 9);
    RedisModule_ReplyWithLongLong(ctx, (long long)job->id);
    RedisModule_ReplyWithCString(ctx, kind_names[job->kind]);
    RedisModule_ReplyWithCString(ctx, job->registration ? job->registration : "");
    RedisModule_ReplyWithCString(ctx, job->event ? job->event : "");
    RedisModule_ReplyWithStringBuffer(ctx, job->key ? job->key : "", job->key_len);
    RedisModule_ReplyWithLongLong(ctx, job->attempts);
    RedisModule_ReplyWithLongLong(ctx, remaining > 0 ? remaining : 0);
    RedisModule_ReplyWithLongLong(ctx, km_config.cache);
    RedisModule_ReplyWithArray(ctx, job->n_payload);
    for (int i = 0; i < job->n_payload; i++) RedisModule_ReplyWithString(ctx, job->payload[i]);
}

/* Hands up to max jobs to the connection, questions first; null when there are none. */
static void reply_jobs(RedisModuleCtx *ctx, unsigned long long client, int max) {
    km_job *taken[MAX_PULL];
    int n = 0;
    while (n < max && (questions.n || events.n)) {
        km_job *job = questions.head ? questions.head : events.head;
        list_remove(list_of(job), job);
        if (job->kind == KM_JOB_EVENT) {
            if (park_behind_running(job)) continue;
            unindex_event(job);
        }
        taken[n++] = job;
    }
    if (n == 0) {
        RedisModule_ReplyWithNullArray(ctx);
        return;
    }
    RedisModule_ReplyWithArray(ctx, n);
    for (int i = 0; i < n; i++) {
        km_job *job = taken[i];
        job->running = 1;
        job->attempts++;
        job->owner = client;
        job->taken_ms = RedisModule_Milliseconds();
        list_push(&running, job, 0);
        reply_job(ctx, job);
    }
    wake_puller();
}

static int puller_reply(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    (void)argv;
    (void)argc;
    puller *p = RedisModule_GetBlockedClientPrivateData(ctx);
    reply_jobs(ctx, p->client, p->max);
    return REDISMODULE_OK;
}

static void puller_free(RedisModuleCtx *ctx, void *privdata) {
    (void)ctx;
    km_free(privdata);
}

/* Takes a waiting puller out of the list; NULL if it was woken already. */
static puller *puller_remove(RedisModuleBlockedClient *bc) {
    for (puller **link = &pullers; *link; link = &(*link)->next) {
        puller *p = *link;
        if (p->bc != bc) continue;
        *link = p->next;
        return p;
    }
    return NULL;
}

static int puller_timeout(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    (void)argv;
    (void)argc;
    RedisModuleBlockedClient *bc = RedisModule_GetBlockedClientHandle(ctx); /* CLIENT UNBLOCK */
    RedisModule_UnblockClient(bc, puller_remove(bc));
    return RedisModule_ReplyWithNullArray(ctx);
}

static void puller_disconnected(RedisModuleCtx *ctx, RedisModuleBlockedClient *bc) {
    (void)ctx;
    puller *p = puller_remove(bc);
    if (p) RedisModule_UnblockClient(bc, p);
}

/* KM.PULL name max block_ms */
static int pull_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc != 4) return RedisModule_WrongArity(ctx);
    long long max, block_ms;
    if (RedisModule_StringToLongLong(argv[2], &max) != REDISMODULE_OK || max < 1 || max > MAX_PULL)
        return RedisModule_ReplyWithError(ctx, "ERR max must be a whole number from 1 to 1024");
    if (RedisModule_StringToLongLong(argv[3], &block_ms) != REDISMODULE_OK || block_ms < 0 || block_ms > 60000)
        return RedisModule_ReplyWithError(ctx, "ERR block_ms must be a whole number from 0 to 60000");
    unsigned long long client = RedisModule_GetClientId(ctx);
    if (!km_cannot_block(ctx) && !km_map_get(workers, &client, sizeof client)) {
        size_t len;
        const char *name = RedisModule_StringPtrLen(argv[1], &len);
        worker *w = km_calloc(1, sizeof *w);
        w->client = client;
        w->name = km_memdup0(name, len > 128 ? 128 : len);
        km_map_set(workers, &client, sizeof client, w);
        RedisModule_Log(ctx, "notice", "keymiss: worker %s attached", w->name);
    }
    if (questions.n || events.n || block_ms == 0 || km_cannot_block(ctx)) {
        if (km_cannot_block(ctx)) return RedisModule_ReplyWithNullArray(ctx);
        reply_jobs(ctx, client, (int)max);
        return REDISMODULE_OK;
    }
    puller *p = km_calloc(1, sizeof *p);
    p->client = client;
    p->max = (int)max;
    p->deadline_ms = RedisModule_Milliseconds() + block_ms;
    p->bc = RedisModule_BlockClient(ctx, puller_reply, puller_timeout, puller_free, 0);
    RedisModule_SetDisconnectCallback(p->bc, puller_disconnected);
    p->next = pullers;
    pullers = p;
    return REDISMODULE_OK;
}

/* The running job an argument names. Returns 0 and the job (NULL if it ended), or -1 after an error reply. */
static int running_job(RedisModuleCtx *ctx, RedisModuleString *arg, km_job **job) {
    long long number;
    if (RedisModule_StringToLongLong(arg, &number) != REDISMODULE_OK || number < 0) {
        RedisModule_ReplyWithError(ctx, "ERR a job's id is a whole number");
        return -1;
    }
    uint64_t id = (uint64_t)number;
    *job = km_map_get(by_id, &id, sizeof id);
    if (*job && !(*job)->running) *job = NULL;
    return 0;
}

static int reply_late(RedisModuleCtx *ctx) {
    km_stats.jobs_late++;
    return RedisModule_ReplyWithLongLong(ctx, 0);
}

/* KM.DONE id raw-resp2 */
static int done_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc != 3) return RedisModule_WrongArity(ctx);
    km_job *job;
    size_t len;
    const char *raw = RedisModule_StringPtrLen(argv[2], &len);
    if (km_resp_check(raw, len) != 0) return RedisModule_ReplyWithError(ctx, "ERR the answer is not one complete RESP2 value");
    if (running_job(ctx, argv[1], &job) != 0) return REDISMODULE_OK;
    if (!job) return reply_late(ctx);
    km_stats.jobs_done++;
    job_count(job, 0, "", 0);
    job_answer(job, answer_new(raw, len));
    wake_puller(); /* for what was parked behind it */
    return RedisModule_ReplyWithLongLong(ctx, 1);
}

/* KM.FAIL id text */
static int fail_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc != 3) return RedisModule_WrongArity(ctx);
    km_job *job;
    if (running_job(ctx, argv[1], &job) != 0) return REDISMODULE_OK;
    if (!job) return reply_late(ctx);
    size_t len;
    const char *text = RedisModule_StringPtrLen(argv[2], &len);
    km_stats.jobs_failed++;
    job_count(job, 1, text, len);
    job_answer(job, answer_error("FAILED ", text, len));
    wake_puller();
    return RedisModule_ReplyWithLongLong(ctx, 1);
}

/* Back to the head of its queue; a job that nobody waits for ends instead. */
static void requeue(km_job *job) {
    km_stats.jobs_requeued++;
    list_remove(&running, job);
    if (job->kind == KM_JOB_EVENT) unpark(job);
    job->running = 0;
    job->owner = 0;
    list_push(list_of(job), job, 1);
    if (job->kind == KM_JOB_MISS && !job->waiters) {
        km_stats.jobs_abandoned++;
        job_end(job);
    }
}

/* KM.GIVEBACK id [id ...] */
static int giveback_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc < 2) return RedisModule_WrongArity(ctx);
    long long n = 0;
    for (int i = 1; i < argc; i++) {
        km_job *job;
        if (running_job(ctx, argv[i], &job) != 0) return REDISMODULE_OK;
        if (!job) continue;
        job->attempts--; /* it was not tried */
        requeue(job);
        n++;
    }
    wake_puller();
    return RedisModule_ReplyWithLongLong(ctx, n);
}

/* KM.ALIVE id */
static int alive_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc != 2) return RedisModule_WrongArity(ctx);
    km_job *job;
    if (running_job(ctx, argv[1], &job) != 0) return REDISMODULE_OK;
    return RedisModule_ReplyWithLongLong(ctx, job && (job->kind != KM_JOB_MISS || job->waiters));
}

/* A worker's connection closed: its jobs go back once, then fail. */
static void client_changed(RedisModuleCtx *ctx, RedisModuleEvent event, uint64_t subevent, void *data) {
    (void)event;
    if (subevent != REDISMODULE_SUBEVENT_CLIENT_CHANGE_DISCONNECTED || km_map_size(workers) == 0) return;
    unsigned long long client = ((RedisModuleClientInfo *)data)->id;
    worker *w = km_map_del(workers, &client, sizeof client);
    if (!w) return;
    RedisModule_Log(ctx, "notice", "keymiss: worker %s detached", w->name);
    km_free(w->name);
    km_free(w);
    for (puller **link = &pullers; *link;) { /* else the jobs that go back now could be handed to it */
        puller *p = *link;
        if (p->client == client) {
            *link = p->next;
            RedisModule_UnblockClient(p->bc, p);
        } else {
            link = &p->next;
        }
    }
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
    wake_puller();
}

/* ---- time ---- */

static void refuse_without_worker(mstime_t now) {
    for (km_job *job = questions.head, *next; job; job = next) {
        next = job->next;
        if (now - job->created_ms < km_config.noworker_grace_ms) continue;
        if (job->attempts && now - job->taken_ms < km_config.noworker_grace_ms) continue;
        km_stats.refused_noworker++;
        job_refuse(job, "NOWORKER no worker is attached to this shard: start one (keymiss.worker), then ask again");
    }
}

/* The clients whose time is over; the end of the others is noted in first_deadline_ms. */
static void time_out_waiters(job_list *list, mstime_t now) {
    for (km_job *job = list->head, *next_job; job; job = next_job) {
        next_job = job->next;
        for (km_waiter *w = job->waiters, *next; w; w = next) {
            next = w->next;
            if (now < w->deadline_ms) {
                if (first_deadline_ms == 0 || w->deadline_ms < first_deadline_ms) first_deadline_ms = w->deadline_ms;
                continue;
            }
            RedisModuleBlockedClient *bc = w->bc;
            km_stats.clients_timed_out++;
            client_leaves(bc); /* ends the job with its last waiter, unless it runs */
            RedisModule_UnblockClient(bc, answer_error(timeout_text, "", 0));
        }
    }
}

static void time_out_pullers(mstime_t now) {
    for (puller **link = &pullers; *link;) {
        puller *p = *link;
        if (now < p->deadline_ms) {
            link = &p->next;
            continue;
        }
        *link = p->next;
        RedisModule_UnblockClient(p->bc, p); /* replies with null, or with what has just come */
    }
}

static void tick(RedisModuleCtx *ctx, void *data) {
    (void)data;
    mstime_t now = RedisModule_Milliseconds();
    if (km_map_size(workers) == 0) refuse_without_worker(now);
    if (first_deadline_ms && now >= first_deadline_ms) {
        first_deadline_ms = 0;
        time_out_waiters(&questions, now);
        time_out_waiters(&running, now);
    }
    time_out_pullers(now);
    /* A running job that took its time twice is forgotten; who joined it meanwhile asks anew. */
    for (km_job *job = running.head, *next; job; job = next) {
        next = job->next;
        if (job->deadline_ms && now > job->deadline_ms + (job->deadline_ms - job->created_ms)) {
            for (km_waiter *w = job->waiters; w; w = w->next) km_stats.clients_timed_out++;
            job_refuse(job, timeout_text);
        }
    }
    RedisModule_CreateTimer(ctx, TICK_MS, tick, NULL);
}

km_jobs_now km_jobs_snapshot(void) {
    mstime_t oldest = 0;
    if (questions.head) oldest = RedisModule_Milliseconds() - questions.head->created_ms;
    return (km_jobs_now){(long long)km_map_size(workers), questions.n, events.n + n_parked, n_events_running,
                         running.n, n_waiting, oldest};
}

int km_jobs_register(RedisModuleCtx *ctx) {
    uint64_t seed;
    RedisModule_GetRandomBytes((unsigned char *)&seed, sizeof seed);
    next_id = (uint64_t)RedisModule_Milliseconds() << 20; /* never an id of the process before */
    by_id = km_map_new(seed);
    flights = km_map_new(seed);
    queued_events = km_map_new(seed);
    running_events = km_map_new(seed);
    waiters = km_map_new(seed);
    workers = km_map_new(seed);
    static const km_command commands[] = {
        {"km.pull", pull_command, "deny-script admin", 0, 0, 0},
        {"km.done", done_command, "admin fast", 0, 0, 0},
        {"km.fail", fail_command, "admin fast", 0, 0, 0},
        {"km.giveback", giveback_command, "admin", 0, 0, 0},
        {"km.alive", alive_command, "admin fast", 0, 0, 0},
    };
    if (km_commands_register(ctx, commands, 5) != REDISMODULE_OK) return REDISMODULE_ERR;
    RedisModuleEvent event = {REDISMODULE_EVENT_CLIENT_CHANGE, 1};
    if (RedisModule_SubscribeToServerEvent(ctx, event, client_changed) != REDISMODULE_OK) return REDISMODULE_ERR;
    RedisModule_CreateTimer(ctx, TICK_MS, tick, NULL);
    return REDISMODULE_OK;
}
