/* RG.*: the commands people know. Scripts run on a worker; these only hand them over and show state. */
#include "command.h"
#include "jobs.h"

/* Options of RedisGears' that nothing here stands behind: each is an error that says what does. */
static const struct {
    const char *word, *why;
} refused_options[] = {
    {"id", "ERR ID is not supported: there are no sessions. A script is known by its source, its registrations by GB(desc=...)"},
    {"description", "ERR DESCRIPTION is not supported: describe each registration by GB(desc=...)"},
    {"upgrade", "ERR UPGRADE is not supported: the same source, or the same desc, reader and prefix, replace a registration by themselves; "
                "RG.UNREGISTER what else is to go"},
    {"replace_with", "ERR REPLACE_WITH is not supported: RG.UNREGISTER what is to go (RG.DUMPREGISTRATIONS lists it)"},
    {"force_reinstall_requirements", "ERR FORCE_REINSTALL_REQUIREMENTS is not supported: no server installs requirements; whoever runs the "
                                     "worker does"},
};

/* RG.PYEXECUTE source [UNBLOCKING] [REQUIREMENTS name [name ...]] */
static int pyexecute_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc < 2) return RedisModule_WrongArity(ctx);
    int unblocking = 0, i = 2;
    for (; i < argc; i++) {
        if (km_is_word(argv[i], "unblocking")) {
            unblocking = 1;
            continue;
        }
        if (km_is_word(argv[i], "requirements")) {
            i++;
            break;
        }
        for (size_t k = 0; k < sizeof refused_options / sizeof *refused_options; k++)
            if (km_is_word(argv[i], refused_options[k].word)) return RedisModule_ReplyWithError(ctx, refused_options[k].why);
        return RedisModule_ReplyWithError(ctx, "ERR Unknown arguments were given: the syntax is RG.PYEXECUTE source [UNBLOCKING] "
                                               "[REQUIREMENTS name [name ...]]");
    }
    size_t len;
    RedisModule_StringPtrLen(argv[1], &len);
    if (len > KM_MAX_SCRIPT_BYTES) return RedisModule_ReplyWithError(ctx, "ERR the script is larger than 64 MiB");
    int n_requirements = argc - i;
    int n = 2 + n_requirements;
    RedisModuleString **payload = km_alloc(sizeof *payload * (size_t)n);
    payload[0] = argv[1];
    payload[1] = RedisModule_CreateString(ctx, unblocking ? "1" : "0", 1);
    for (int k = 0; k < n_requirements; k++) payload[2 + k] = argv[i + k];
    km_jobs_submit(ctx, KM_JOB_SCRIPT, payload, n, km_config.script_timeout_ms,
                   "ERR RG.PYEXECUTE cannot wait inside MULTI, a script or a module's call");
    RedisModule_FreeString(ctx, payload[1]);
    km_free(payload);
    return REDISMODULE_OK;
}

/* RG.UNREGISTER id: on every shard, so a worker does it. KM.UNREGISTER does it on this one alone. */
static int unregister_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc != 2) return RedisModule_WrongArity(ctx);
    if (!km_registry_by_id(RedisModule_StringPtrLen(argv[1], NULL)))
        return RedisModule_ReplyWithError(ctx, "ERR unknown registration: RG.DUMPREGISTRATIONS lists the ids");
    return km_jobs_submit(ctx, KM_JOB_UNREGISTER, argv + 1, 1, km_config.script_timeout_ms,
                          "ERR RG.UNREGISTER cannot wait inside MULTI, a script or a module's call");
}

static void reply_field(RedisModuleCtx *ctx, const char *name, const char *value) {
    if (value && value[0]) {
        km_reply_text(ctx, name, value);
    } else {
        RedisModule_ReplyWithCString(ctx, name);
        RedisModule_ReplyWithNull(ctx);
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
        RedisModule_ReplyWithArray(ctx, 20);
        reply_field(ctx, "mode", reg->mode);
        km_reply_number(ctx, "numTriggered", reg->triggered);
        km_reply_number(ctx, "numSuccess", reg->done);
        km_reply_number(ctx, "numFailures", reg->failed);
        km_reply_number(ctx, "numAborted", reg->aborted);
        km_reply_number(ctx, "lastRunDurationMS", reg->last_us / 1000);
        km_reply_number(ctx, "totalRunDurationMS", reg->total_us / 1000);
        long long ended = reg->done + reg->failed;
        km_reply_number(ctx, "avgRunDurationMS", ended ? reg->total_us / ended / 1000 : 0);
        reply_field(ctx, "lastError", reg->last_error);
        RedisModule_ReplyWithCString(ctx, "args");
        RedisModule_ReplyWithArray(ctx, 8);
        RedisModuleString *pattern = RedisModule_CreateStringPrintf(ctx, "%s*", reg->prefix);
        RedisModule_ReplyWithCString(ctx, "regex");
        RedisModule_ReplyWithString(ctx, pattern);
        RedisModule_FreeString(ctx, pattern);
        reply_field(ctx, "eventTypes", reg->events);
        reply_field(ctx, "keyTypes", reg->keytypes);
        reply_field(ctx, "hookCommands", reg->commands);
        reply_field(ctx, "PD", reg->script);
        reply_field(ctx, "ExecutionThreadPool", "DefaultPool");
    }
    return REDISMODULE_OK;
}

static const km_command commands[] = {
    {"rg.pyexecute", pyexecute_command, "write deny-oom admin", -2, NULL,
     KM_ARGS(KM_TEXT("source"), KM_WORD("unblocking", "UNBLOCKING", .flags = KM_OPTIONAL),
             KM_TEXT("name", .token = "REQUIREMENTS", .flags = KM_OPTIONAL | KM_MANY)),
     "Runs a Python script on a worker, which may register functions on every shard.", "O(N), with N bytes of source, and the script's time",
     "nondeterministic_output"},
    {"rg.unregister", unregister_command, "write admin", 2, NULL, KM_ARGS(KM_TEXT("id")),
     "Removes a registration on every shard.", "O(N), with N registrations", NULL},
    {"rg.dumpregistrations", dumpregistrations_command, "readonly", 1, NULL, NULL,
     "Lists this shard's registrations, and how often they have run.", "O(N), with N registrations", "nondeterministic_output"},
};

int km_gears_register(RedisModuleCtx *ctx) { return KM_REGISTER(ctx, commands); }
