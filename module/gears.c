/* RG.*: the commands people know. Scripts run on a worker; these only hand them over and show state. */
#include "command.h"
#include "jobs.h"

#define MAX_SESSION_ID 1024

static int error_about(RedisModuleCtx *ctx, const char *format, const char *a, const char *b) {
    RedisModuleString *text = RedisModule_CreateStringPrintf(ctx, format, a, b);
    RedisModule_ReplyWithError(ctx, RedisModule_StringPtrLen(text, NULL));
    RedisModule_FreeString(ctx, text);
    return REDISMODULE_OK;
}

static int is_session_id(RedisModuleString *arg) {
    size_t len;
    const char *id = RedisModule_StringPtrLen(arg, &len);
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";
    return len >= 1 && len <= MAX_SESSION_ID && strspn(id, letters) == len;
}

typedef struct {
    int unblocking, upgrade;
    RedisModuleString *id, *desc, *replaced; /* NULL: not given */
} script_options;

/* From argv[2] on, up to REQUIREMENTS: where those begin, or -1 after an error reply. */
static int read_options(RedisModuleCtx *ctx, RedisModuleString **argv, int argc, script_options *o) {
    const struct {
        const char *word;
        int *flag;
        RedisModuleString **value;
    } known[] = {{"unblocking", &o->unblocking, NULL}, {"upgrade", &o->upgrade, NULL}, {"id", NULL, &o->id},
                 {"description", NULL, &o->desc},      {"replace_with", NULL, &o->replaced}};
    for (int i = 2; i < argc; i++) {
        if (km_is_word(argv[i], "requirements")) return i + 1;
        if (km_is_word(argv[i], "force_reinstall_requirements")) {
            RedisModule_ReplyWithError(ctx, "ERR FORCE_REINSTALL_REQUIREMENTS is not supported: no server installs requirements; whoever runs "
                                            "the worker does");
            return -1;
        }
        size_t k = 0;
        while (k < sizeof known / sizeof *known && !km_is_word(argv[i], known[k].word)) k++;
        if (k == sizeof known / sizeof *known) {
            error_about(ctx, "ERR Unknown arguments were given: %.200s%s",
                        RedisModule_StringPtrLen(argv[i], NULL),
                        ": the syntax is RG.PYEXECUTE source [UNBLOCKING] [ID id] [DESCRIPTION text] [UPGRADE] [REPLACE_WITH id] "
                        "[REQUIREMENTS name [name ...]]");
            return -1;
        }
        if (known[k].flag) {
            *known[k].flag = 1;
            continue;
        }
        if (++i == argc) {
            error_about(ctx, "ERR %s is missing%s", k == 2 ? "ID" : k == 3 ? "DESCRIPTION" : "REPLACE_WITH", "");
            return -1;
        }
        *known[k].value = argv[i];
    }
    return argc;
}

/* Whether the options fit to the sessions there are; 0 after an error reply. */
static int check_session(RedisModuleCtx *ctx, const script_options *o) {
    if (o->id && !is_session_id(o->id)) {
        RedisModule_ReplyWithError(ctx, "ERR ID must be compose of: ['A'-'Z' | 'a'-'z' | '0' - '9' | '-' | '_']");
        return 0;
    }
    const char *id = o->id ? RedisModule_StringPtrLen(o->id, NULL) : NULL;
    int exists = id && km_session_is_used(id);
    if (o->replaced) {
        const char *replaced = RedisModule_StringPtrLen(o->replaced, NULL);
        const char *bad = !id      ? "ERR REPLACE_WITH needs an ID for the session that comes in the place of %s%s"
                          : exists ? "ERR Can not replace an existing session %s with %s"
                          : !km_session_is_used(replaced) ? "ERR Can not replace with %s, session does not exists.%s"
                                                          : NULL;
        if (bad) error_about(ctx, bad, exists ? id : replaced, exists ? replaced : "");
        return bad == NULL;
    }
    if (exists && !o->upgrade) {
        error_about(ctx, "ERR Session %s already exists%s", id, ": UPGRADE replaces it");
        return 0;
    }
    return 1;
}

/* RG.PYEXECUTE source [UNBLOCKING] [ID id] [DESCRIPTION text] [UPGRADE] [REPLACE_WITH id] [REQUIREMENTS name [name ...]] */
static int pyexecute_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc < 2) return RedisModule_WrongArity(ctx);
    size_t len;
    RedisModule_StringPtrLen(argv[1], &len);
    if (len > KM_MAX_SCRIPT_BYTES) return RedisModule_ReplyWithError(ctx, "ERR the script is larger than 64 MiB");
    script_options o = {0};
    int first = read_options(ctx, argv, argc, &o);
    if (first < 0 || !check_session(ctx, &o)) return REDISMODULE_OK;
    int n = 5 + argc - first;
    RedisModuleString **payload = km_alloc(sizeof *payload * (size_t)n);
    RedisModuleString *none = RedisModule_CreateString(ctx, "", 0), *yes = RedisModule_CreateString(ctx, "1", 1);
    payload[0] = argv[1];
    payload[1] = o.unblocking ? yes : none;
    payload[2] = o.id ? o.id : none;
    payload[3] = o.desc ? o.desc : none;
    payload[4] = o.replaced ? o.replaced : none;
    for (int k = first; k < argc; k++) payload[5 + k - first] = argv[k];
    km_jobs_submit(ctx, &(km_request){.kind = KM_JOB_SCRIPT, .payload = payload, .n = n, .timeout_ms = km_config.script_timeout_ms,
                                      .cannot_wait = "ERR RG.PYEXECUTE cannot wait inside MULTI, a script or a module's call (blocking is not allowed)"});
    RedisModule_FreeString(ctx, none);
    RedisModule_FreeString(ctx, yes);
    km_free(payload);
    return REDISMODULE_OK;
}

/* RG.UNREGISTER id [ABORTPENDING]: on every shard, so a worker does it. KM.UNREGISTER does it on this one alone. */
static int unregister_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc != 2 && argc != 3) return RedisModule_WrongArity(ctx);
    if (argc == 3 && !km_is_word(argv[2], "abortpending"))
        return RedisModule_ReplyWithError(ctx, "ERR unknown option: the syntax is RG.UNREGISTER id [ABORTPENDING]");
    if (!km_registry_by_id(RedisModule_StringPtrLen(argv[1], NULL)))
        return RedisModule_ReplyWithError(ctx, "ERR unknown registration: RG.DUMPREGISTRATIONS lists the ids");
    return km_jobs_submit(ctx, &(km_request){.kind = KM_JOB_UNREGISTER, .payload = argv + 1, .n = argc - 1, .timeout_ms = km_config.script_timeout_ms,
                                             .cannot_wait = "ERR RG.UNREGISTER cannot wait inside MULTI, a script or a module's call"});
}

/* What every shard is to do: a worker sees to it. */
static int on_every_shard(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    return km_jobs_submit(ctx, &(km_request){.kind = KM_JOB_GEARS, .payload = argv, .n = argc, .timeout_ms = km_config.script_timeout_ms,
                                             .cannot_wait = "ERR what a worker does on every shard cannot be waited for inside MULTI, a script or a module's call"});
}

/* RG.PAUSEREGISTRATIONS id [id ...], RG.UNPAUSEREGISTRATIONS id [id ...]: of StreamReaders */
static int pause_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc < 2) return RedisModule_WrongArity(ctx);
    int pause = km_is_word(argv[0], "rg.pauseregistrations");
    for (int i = 1; i < argc; i++) {
        const char *id = RedisModule_StringPtrLen(argv[i], NULL);
        const km_registration *reg = km_registry_by_id(id);
        if (!reg) return error_about(ctx, "ERR Execution %.200s does not exists on %s", id, km_shard_id());
        if (!reg->is_stream) return error_about(ctx, "ERR Reader %s does not support %s", reg->reader, pause ? "pause" : "unpause");
    }
    return on_every_shard(ctx, argv, argc);
}

/* RG.CLEARREGISTRATIONSSTATS, RG.PYSTATS */
static int whole_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc != 1) return RedisModule_WrongArity(ctx);
    return on_every_shard(ctx, argv, argc);
}

/* KM.CLEARSTATS: of this shard's registrations */
static int clearstats_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    (void)argv;
    if (argc != 1) return RedisModule_WrongArity(ctx);
    for (km_registration *reg = km_registry_first(); reg; reg = reg->next) {
        reg->triggered = reg->done = reg->failed = reg->aborted = 0;
        reg->total_us = reg->last_us = reg->last_lag_us = reg->total_lag_us = 0;
        km_free(reg->last_error);
        reg->last_error = NULL;
    }
    return RedisModule_ReplyWithSimpleString(ctx, "OK");
}

/* RG.REFRESHCLUSTER: a shard keeps nothing of the others, and a worker looks every second */
static int refreshcluster_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    (void)argv;
    if (argc != 1) return RedisModule_WrongArity(ctx);
    return RedisModule_ReplyWithSimpleString(ctx, "OK");
}

static void reply_element(RedisModuleCtx *ctx, const char *name, RedisModuleCallReply *value) {
    size_t len = 0;
    RedisModule_ReplyWithCString(ctx, name);
    const char *text = value ? RedisModule_CallReplyStringPtr(value, &len) : NULL;
    RedisModule_ReplyWithStringBuffer(ctx, text ? text : "", len);
}

/* RG.INFOCLUSTER: the masters that serve slots, each with the lowest range of those */
static int infocluster_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    (void)argv;
    if (argc != 1) return RedisModule_WrongArity(ctx);
    if (!(RedisModule_GetContextFlags(ctx) & REDISMODULE_CTX_FLAGS_CLUSTER)) return RedisModule_ReplyWithCString(ctx, "no cluster mode");
    RedisModuleCallReply *slots = RedisModule_Call(ctx, "CLUSTER", "c", "SLOTS");
    if (!slots) return RedisModule_ReplyWithError(ctx, "ERR the cluster's slots could not be read");
    RedisModule_ReplyWithArray(ctx, 5);
    km_reply_text(ctx, "MyId", km_shard_id());
    km_reply_text(ctx, "MyRunId", km_shard_id());
    size_t n = RedisModule_CallReplyLength(slots);
    long shards = 0;
    RedisModule_ReplyWithArray(ctx, REDISMODULE_POSTPONED_LEN);
    for (size_t i = 0; i < n; i++) {
        RedisModuleCallReply *range = RedisModule_CallReplyArrayElement(slots, i), *node = RedisModule_CallReplyArrayElement(range, 2);
        size_t len, other_len;
        const char *id = RedisModule_CallReplyStringPtr(RedisModule_CallReplyArrayElement(node, 2), &len);
        int known = 0;
        for (size_t k = 0; k < i && !known; k++) {
            RedisModuleCallReply *other = RedisModule_CallReplyArrayElement(RedisModule_CallReplyArrayElement(slots, k), 2);
            const char *other_id = RedisModule_CallReplyStringPtr(RedisModule_CallReplyArrayElement(other, 2), &other_len);
            known = other_len == len && memcmp(other_id, id, len) == 0;
        }
        if (known) continue;
        shards++;
        RedisModule_ReplyWithArray(ctx, 16);
        reply_element(ctx, "id", RedisModule_CallReplyArrayElement(node, 2));
        reply_element(ctx, "ip", RedisModule_CallReplyArrayElement(node, 0));
        km_reply_number(ctx, "port", RedisModule_CallReplyInteger(RedisModule_CallReplyArrayElement(node, 1)));
        km_reply_text(ctx, "unixSocket", "None");
        reply_element(ctx, "runid", RedisModule_CallReplyArrayElement(node, 2)); /* shards do not talk to each other: none is told */
        km_reply_number(ctx, "minHslot", RedisModule_CallReplyInteger(RedisModule_CallReplyArrayElement(range, 0)));
        km_reply_number(ctx, "maxHslot", RedisModule_CallReplyInteger(RedisModule_CallReplyArrayElement(range, 1)));
        km_reply_number(ctx, "pendingMessages", 0);
    }
    RedisModule_ReplySetArrayLength(ctx, shards);
    RedisModule_FreeCallReply(slots);
    return REDISMODULE_OK;
}

static void reply_field(RedisModuleCtx *ctx, const char *name, const char *value) {
    if (value && value[0]) {
        km_reply_text(ctx, name, value);
    } else {
        RedisModule_ReplyWithCString(ctx, name);
        RedisModule_ReplyWithNull(ctx);
    }
}

/* A comma separated list; null: any. */
static void reply_list(RedisModuleCtx *ctx, const char *name, const char *list) {
    RedisModule_ReplyWithCString(ctx, name);
    if (!list[0]) {
        RedisModule_ReplyWithNull(ctx);
        return;
    }
    long n = 0;
    RedisModule_ReplyWithArray(ctx, REDISMODULE_POSTPONED_LEN);
    for (const char *item = list; item; n++) {
        const char *comma = strchr(item, ',');
        RedisModule_ReplyWithStringBuffer(ctx, item, comma ? (size_t)(comma - item) : strlen(item));
        item = comma ? comma + 1 : NULL;
    }
    RedisModule_ReplySetArrayLength(ctx, n);
}

static void reply_prefix(RedisModuleCtx *ctx, const char *name, const km_registration *reg) {
    RedisModuleString *pattern = RedisModule_CreateStringPrintf(ctx, "%s*", reg->prefix);
    RedisModule_ReplyWithCString(ctx, name);
    RedisModule_ReplyWithString(ctx, pattern);
    RedisModule_FreeString(ctx, pattern);
}

static void reply_mean(RedisModuleCtx *ctx, const char *name, long long total_us, long long n) {
    RedisModule_ReplyWithCString(ctx, name);
    RedisModule_ReplyWithDouble(ctx, n ? (double)total_us / (double)n / 1000 : 0);
}

static void reply_keys_args(RedisModuleCtx *ctx, const km_registration *reg) {
    RedisModule_ReplyWithArray(ctx, 8);
    reply_prefix(ctx, "regex", reg);
    reply_list(ctx, "eventTypes", reg->events);
    reply_list(ctx, "keyTypes", reg->keytypes);
    reply_list(ctx, "hookCommands", reg->commands);
}

static void reply_command_args(RedisModuleCtx *ctx, const km_registration *reg) {
    if (!reg->is_hook) {
        RedisModule_ReplyWithArray(ctx, 4);
        km_reply_text(ctx, "trigger", reg->trigger);
        km_reply_number(ctx, "inorder", 0);
        return;
    }
    RedisModule_ReplyWithArray(ctx, 4);
    km_reply_text(ctx, "hook", reg->commands);
    reply_prefix(ctx, "keyprefix", reg);
}

static void reply_stream_args(RedisModuleCtx *ctx, const km_registration *reg) {
    static const char *const policies[] = {"continue", "abort", "retry"};
    long long policy = km_registration_arg(reg, "stopsOnFailure", 0) ? 1 : km_registration_arg(reg, "retries", 0) ? 2 : 0;
    RedisModule_ReplyWithArray(ctx, 12);
    km_reply_number(ctx, "batchSize", km_registration_arg(reg, "batchSize", 1));
    km_reply_number(ctx, "durationMS", km_registration_arg(reg, "durationMS", 0));
    reply_prefix(ctx, "stream", reg);
    km_reply_number(ctx, "trimStream", km_registration_arg(reg, "trimStream", 1));
    km_reply_text(ctx, "onFailedPolicy", policies[policy]);
    km_reply_number(ctx, "retryInterval", km_registration_arg(reg, "retryInterval", 1));
}

static const char *stream_status(const km_registration *reg) {
    if (reg->stopped) return "ABORTED";
    if (reg->paused) return "PAUSED";
    return reg->failing && km_registration_arg(reg, "retries", 0) ? "WAITING_FOR_RETRY_ON_FAILURE" : "OK";
}

static void reply_data(RedisModuleCtx *ctx, const km_registration *reg) {
    RedisModule_ReplyWithArray(ctx, reg->is_stream ? 26 : 20);
    reply_field(ctx, "mode", reg->mode);
    km_reply_number(ctx, "numTriggered", reg->triggered);
    km_reply_number(ctx, "numSuccess", reg->done);
    km_reply_number(ctx, "numFailures", reg->failed);
    km_reply_number(ctx, "numAborted", reg->aborted);
    km_reply_number(ctx, "lastRunDurationMS", reg->last_us / 1000);
    km_reply_number(ctx, "totalRunDurationMS", reg->total_us / 1000);
    long long ended = reg->done + reg->failed;
    reply_mean(ctx, "avgRunDurationMS", reg->total_us, ended);
    if (reg->is_stream) {
        km_reply_number(ctx, "lastEstimatedLagMS", reg->last_lag_us / 1000);
        reply_mean(ctx, "avgEstimatedLagMS", reg->total_lag_us, ended);
    }
    reply_field(ctx, "lastError", reg->last_error);
    RedisModule_ReplyWithCString(ctx, "args");
    if (reg->is_command) {
        reply_command_args(ctx, reg);
    } else if (reg->is_stream) {
        reply_stream_args(ctx, reg);
        km_reply_text(ctx, "status", stream_status(reg));
    } else {
        reply_keys_args(ctx, reg);
    }
}

/* RG.DUMPREGISTRATIONS */
static int dumpregistrations_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    (void)argv;
    if (argc != 1) return RedisModule_WrongArity(ctx);
    RedisModule_ReplyWithArray(ctx, km_registry_count());
    for (km_registration *reg = km_registry_first(); reg; reg = reg->next) {
        RedisModule_ReplyWithArray(ctx, 12); /* 6 names, 6 values */
        reply_field(ctx, "id", reg->id);
        reply_field(ctx, "reader", reg->reader);
        reply_field(ctx, "desc", reg->desc);
        RedisModule_ReplyWithCString(ctx, "RegistrationData");
        reply_data(ctx, reg);
        reply_field(ctx, "PD", reg->script);
        reply_field(ctx, "ExecutionThreadPool", "DefaultPool");
    }
    return REDISMODULE_OK;
}

static const km_command commands[] = {
    {"rg.pyexecute", pyexecute_command, "write deny-oom admin", -2, NULL,
     KM_ARGS(KM_TEXT("source"), KM_WORD("unblocking", "UNBLOCKING", .flags = KM_OPTIONAL), KM_TEXT("session", .token = "ID", .flags = KM_OPTIONAL),
             KM_TEXT("text", .token = "DESCRIPTION", .flags = KM_OPTIONAL), KM_WORD("upgrade", "UPGRADE", .flags = KM_OPTIONAL),
             KM_TEXT("replaced", .token = "REPLACE_WITH", .flags = KM_OPTIONAL),
             KM_TEXT("name", .token = "REQUIREMENTS", .flags = KM_OPTIONAL | KM_MANY)),
     "Runs a Python script on a worker, which may register functions on every shard.", "O(N), with N bytes of source, and the script's time",
     "nondeterministic_output"},
    {"rg.unregister", unregister_command, "write admin", -2, NULL,
     KM_ARGS(KM_TEXT("id"), KM_WORD("abortpending", "ABORTPENDING", .flags = KM_OPTIONAL)),
     "Removes a registration on every shard.", "O(N), with N registrations", NULL},
    {"rg.pauseregistrations", pause_command, "write admin", -2, NULL, KM_ARGS(KM_TEXT("id", .flags = KM_MANY)),
     "Pauses StreamReaders on every shard, when they have done the batch they are at.", "O(N), with N registrations", NULL},
    {"rg.unpauseregistrations", pause_command, "write admin", -2, NULL, KM_ARGS(KM_TEXT("id", .flags = KM_MANY)),
     "Ends the pause of StreamReaders on every shard.", "O(N), with N registrations", NULL},
    {"rg.clearregistrationsstats", whole_command, "admin", 1, NULL, NULL, "Sets the figures of all registrations to 0, on every shard.",
     "O(N), with N registrations", NULL},
    {"km.clearstats", clearstats_command, "admin", 1, NULL, NULL, "Sets the figures of registrations to 0, on this shard alone.",
     "O(N), with N registrations", NULL},
    {"rg.pystats", whole_command, "readonly", 1, NULL, NULL, "Says how much memory the worker has.", "O(1)", "nondeterministic_output"},
    {"rg.infocluster", infocluster_command, "readonly", 1, NULL, NULL, "Lists the cluster's masters.", "O(N*N), with N ranges of slots",
     "nondeterministic_output"},
    {"rg.refreshcluster", refreshcluster_command, "readonly fast", 1, NULL, NULL, "Does nothing: nothing of the cluster is kept.", "O(1)", NULL},
    {"rg.dumpregistrations", dumpregistrations_command, "readonly", 1, NULL, NULL,
     "Lists this shard's registrations, and how often they have run.", "O(N), with N registrations", "nondeterministic_output"},
};

int km_gears_register(RedisModuleCtx *ctx) { return KM_REGISTER(ctx, commands); }
