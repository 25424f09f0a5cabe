/* Scripts and registrations: kept in memory, in the RDB's auxiliary part, and in the replication stream. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "command.h"
#include "datatype.h"
#include "events.h"
#include "executions.h"
#include "registry.h"

#define RDB_VERSION 4 /* 1 had no batch; up to 2 all events coalesced; up to 3 there were no sessions */
#define MAX_REGISTRATIONS 10000
#define MAX_UNUSED_SCRIPTS 16
#define MAX_FIELD_BYTES (64 * 1024)
#define MAX_BATCH 1000

typedef struct script {
    struct script *next;
    char *sha1;
    char *source;
    size_t source_len;
} script;

static script *scripts;
static int n_scripts;
static km_registration *registrations; /* newest first */
static int n_registrations;
static km_registration *misses; /* those of them that answer misses: longest prefix first, then newest */
int km_miss_count, km_mget_count, km_event_count, km_hook_count, km_time_count;
static long long next_number;

int km_registry_count(void) { return n_registrations; }
int km_registry_scripts(void) { return n_scripts; }
km_registration *km_registry_first(void) { return registrations; }

km_registration *km_registry_by_id(const char *id) {
    for (km_registration *reg = registrations; reg; reg = reg->next)
        if (strcmp(reg->id, id) == 0) return reg;
    return NULL;
}

int km_list_has(const char *list, const char *word) {
    if (!list[0]) return 1;
    size_t len = strlen(word);
    for (const char *item = list; item;) {
        const char *comma = strchr(item, ',');
        size_t item_len = comma ? (size_t)(comma - item) : strlen(item);
        if (item_len == len && strncasecmp(item, word, len) == 0) return 1;
        item = comma ? comma + 1 : NULL;
    }
    return 0;
}

km_registration *km_registry_for_miss(const char *key, size_t len) {
    for (km_registration *reg = misses; reg; reg = reg->next_miss)
        if (reg->prefix_len <= len && memcmp(reg->prefix, key, reg->prefix_len) == 0) return reg;
    return NULL;
}

km_registration *km_registry_for_trigger(const char *name) {
    for (km_registration *reg = registrations; reg; reg = reg->next)
        if (reg->is_command && reg->trigger[0] && strcmp(reg->trigger, name) == 0) return reg;
    return NULL;
}

long long km_registration_arg(const km_registration *reg, const char *name, long long fallback) {
    size_t len = strlen(name);
    for (const char *line = reg->args; line && *line;) {
        if (strncmp(line, name, len) == 0 && line[len] == '=') return strtoll(line + len + 1, NULL, 10);
        line = strchr(line, '\n');
        if (line) line++;
    }
    return fallback;
}

/* ---- ids ---- */

const char *km_shard_id(void) {
    static char id[41];
    const char *node = RedisModule_GetMyClusterID();
    if (!node) return "0000000000000000000000000000000000000000";
    memcpy(id, node, 40);
    return id;
}

long long km_next_number(void) { return next_number++; }

void km_id_of(long long number, char id[KM_ID_LEN + 1]) { snprintf(id, KM_ID_LEN + 1, "%s-%lld", km_shard_id(), number); }

static long long number_in(const char *id) {
    size_t len = strlen(id);
    if (len < 42 || len > 40 + 1 + 18 || id[40] != '-' || strspn(id + 41, "0123456789") != len - 41) return -1;
    return strtoll(id + 41, NULL, 10);
}

long long km_number_of(const char *id) { return strncmp(id, km_shard_id(), 40) == 0 ? number_in(id) : -1; }

static void registration_free(km_registration *reg) {
    km_executions_drop_of(reg);
    for (km_registration **link = &misses; reg->is_miss && *link; link = &(*link)->next_miss) {
        if (*link != reg) continue;
        *link = reg->next_miss;
        break;
    }
    km_free(reg->id);
    km_free(reg->script);
    km_free(reg->reader);
    km_free(reg->desc);
    km_free(reg->mode);
    km_free(reg->prefix);
    km_free(reg->events);
    km_free(reg->keytypes);
    km_free(reg->commands);
    km_free(reg->session);
    km_free(reg->upload);
    km_free(reg->trigger);
    km_free(reg->args);
    km_free(reg->last_error);
    km_free(reg);
}

static void recount(void) {
    n_registrations = km_miss_count = km_mget_count = km_event_count = km_hook_count = km_time_count = 0;
    for (km_registration *reg = registrations; reg; reg = reg->next) {
        n_registrations++;
        km_mget_count += reg->is_mget;
        km_miss_count += reg->is_miss;
        km_hook_count += reg->is_hook || reg->is_hooking;
        km_time_count += reg->period_ms > 0;
        km_event_count += !reg->is_miss && !reg->is_command && !reg->period_ms;
    }
    km_sessions_drop_unused();
    if (n_registrations) km_events_watch_keys();
    km_tell(KM_ON_REGISTRATIONS, NULL, NULL);
}

/* The same registration, made again: without a session of their own, the same call of the same script, or the same described
 * one. A session's are replaced as a whole, by whoever uploads it. */
static int is_same(const km_registration *a, const km_registration *b) {
    if (strcmp(a->id, b->id) == 0) return 1;
    if (strcmp(a->session, a->script) != 0 || strcmp(b->session, b->script) != 0) return 0;
    if (a->ordinal == b->ordinal && strcmp(a->script, b->script) == 0) return 1;
    return a->desc[0] && strcmp(a->desc, b->desc) == 0 && strcmp(a->reader, b->reader) == 0 &&
           strcmp(a->prefix, b->prefix) == 0;
}

static void add_registration(km_registration *reg) {
    size_t len = strlen(reg->prefix);
    if (len && reg->prefix[len - 1] == '*') reg->prefix[--len] = '\0';
    reg->prefix_len = len;
    for (km_registration **link = &registrations; *link;) {
        km_registration *old = *link;
        if (is_same(old, reg)) {
            *link = old->next;
            registration_free(old);
        } else {
            link = &old->next;
        }
    }
    reg->is_command = strcmp(reg->reader, "CommandReader") == 0;
    reg->is_stream = strcmp(reg->reader, "StreamReader") == 0;
    reg->is_miss = !reg->is_command && reg->events[0] && km_list_has(reg->events, "keymiss");
    reg->is_hook = reg->is_command && reg->commands[0];
    reg->is_hooking = !reg->is_command && !reg->is_miss && reg->commands[0];
    reg->period_ms = strcmp(reg->reader, "TimeEvent") == 0 ? km_registration_arg(reg, "periodMS", 0) : 0;
    reg->next_ms = RedisModule_Milliseconds() + reg->period_ms;
    if (number_in(reg->id) >= next_number) next_number = number_in(reg->id) + 1;
    reg->is_mget = reg->is_miss && reg->commands[0] && km_list_has(reg->commands, "mget");
    reg->next = registrations;
    registrations = reg;
    if (reg->is_miss) {
        km_registration **link = &misses;
        while (*link && (*link)->prefix_len > reg->prefix_len) link = &(*link)->next_miss;
        reg->next_miss = *link;
        *link = reg;
    }
    recount();
}

static script *find_script(const char *sha1) {
    for (script *s = scripts; s; s = s->next)
        if (strcmp(s->sha1, sha1) == 0) return s;
    return NULL;
}

static int script_used(const char *sha1) {
    for (km_registration *reg = registrations; reg; reg = reg->next)
        if (strcmp(reg->script, sha1) == 0) return 1;
    return 0;
}

static void script_free(script *s) {
    km_free(s->sha1);
    km_free(s->source);
    km_free(s);
}

/* Scripts that no registration needs go, except the newest few: they may wait for their KM.REGISTER. */
static void drop_unused_scripts(int keep) {
    for (script **link = &scripts; *link;) {
        script *s = *link;
        if (script_used(s->sha1) || keep-- > 0) {
            link = &s->next;
        } else {
            *link = s->next;
            script_free(s);
            n_scripts--;
        }
    }
}

static void drop_script_if_unused(const char *sha1) {
    for (script **link = &scripts; *link; link = &(*link)->next) {
        script *s = *link;
        if (strcmp(s->sha1, sha1) != 0) continue;
        if (script_used(sha1)) return;
        *link = s->next;
        script_free(s);
        n_scripts--;
        return;
    }
}

/* To the front of the list, also if it is there already: the order is the same on a replica. */
static void add_script(const char *sha1, const char *source, size_t len) {
    for (script **link = &scripts; *link; link = &(*link)->next) {
        script *s = *link;
        if (strcmp(s->sha1, sha1) != 0) continue;
        *link = s->next;
        s->next = scripts;
        scripts = s;
        return;
    }
    script *s = km_calloc(1, sizeof *s);
    s->sha1 = km_memdup0(sha1, strlen(sha1));
    s->source = km_memdup0(source, len);
    s->source_len = len;
    s->next = scripts;
    scripts = s;
    n_scripts++;
}

static void clear_all(void) {
    while (registrations) {
        km_registration *next = registrations->next;
        registration_free(registrations);
        registrations = next;
    }
    drop_unused_scripts(0);
    recount();
}

static int is_sha1(RedisModuleString *arg) {
    size_t len;
    const char *s = RedisModule_StringPtrLen(arg, &len);
    return len == 40 && strspn(s, "0123456789abcdef") == 40;
}

/* KM.SCRIPT SET sha1 source | GET sha1 | LIST */
static int script_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc < 2) return RedisModule_WrongArity(ctx);
    const char *verb = RedisModule_StringPtrLen(argv[1], NULL);
    if (strcasecmp(verb, "list") == 0 && argc == 2) {
        RedisModule_ReplyWithArray(ctx, n_scripts);
        for (script *s = scripts; s; s = s->next) RedisModule_ReplyWithCString(ctx, s->sha1);
        return REDISMODULE_OK;
    }
    int is_set = strcasecmp(verb, "set") == 0;
    if (!is_set && strcasecmp(verb, "get") != 0)
        return RedisModule_ReplyWithError(ctx, "ERR the syntax is KM.SCRIPT SET sha1 source | GET sha1 | LIST");
    if (argc != (is_set ? 4 : 3)) return RedisModule_WrongArity(ctx);
    if (!is_sha1(argv[2])) return RedisModule_ReplyWithError(ctx, "ERR the sha1 must be 40 lower-case hex digits");
    const char *sha1 = RedisModule_StringPtrLen(argv[2], NULL);
    if (!is_set) {
        script *s = find_script(sha1);
        return s ? RedisModule_ReplyWithStringBuffer(ctx, s->source, s->source_len) : RedisModule_ReplyWithNull(ctx);
    }
    size_t len;
    const char *source = RedisModule_StringPtrLen(argv[3], &len);
    if (len > KM_MAX_SCRIPT_BYTES) return RedisModule_ReplyWithError(ctx, "ERR the script is larger than 64 MiB");
    add_script(sha1, source, len);
    drop_unused_scripts(MAX_UNUSED_SCRIPTS);
    RedisModule_ReplicateVerbatim(ctx);
    return RedisModule_ReplyWithSimpleString(ctx, "OK");
}

/* KM.IDS count: ids that no registration and no execution of this shard has had */
static int ids_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc != 2) return RedisModule_WrongArity(ctx);
    long long count;
    if (km_read_number(argv[1], 1, MAX_REGISTRATIONS, &count) != 0)
        return RedisModule_ReplyWithError(ctx, "ERR count must be a whole number from 1 to 10000");
    RedisModule_ReplyWithArray(ctx, (long)count);
    while (count--) {
        char id[KM_ID_LEN + 1];
        km_id_of(km_next_number(), id);
        RedisModule_ReplyWithCString(ctx, id);
    }
    return REDISMODULE_OK;
}

/* KM.PAUSE id | KM.UNPAUSE id: a StreamReader, on this shard alone */
static int pause_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc != 2) return RedisModule_WrongArity(ctx);
    int pause = km_is_word(argv[0], "km.pause");
    const char *id = RedisModule_StringPtrLen(argv[1], NULL);
    km_registration *reg = km_registry_by_id(id);
    RedisModuleString *text = NULL;
    if (!reg)
        text = RedisModule_CreateStringPrintf(ctx, "ERR Execution %.200s does not exists on %s", id, km_shard_id());
    else if (!reg->is_stream)
        text = RedisModule_CreateStringPrintf(ctx, "ERR Reader %s does not support %s", reg->reader, pause ? "pause" : "unpause");
    if (text) {
        RedisModule_ReplyWithError(ctx, RedisModule_StringPtrLen(text, NULL));
        RedisModule_FreeString(ctx, text);
        return REDISMODULE_OK;
    }
    reg->paused = pause;
    reg->stopped = 0;
    RedisModule_ReplicateVerbatim(ctx);
    return RedisModule_ReplyWithSimpleString(ctx, "OK");
}

/* KM.REGISTER id sha1 ordinal reader desc mode prefix events keytypes commands [batch] [coalesce] [session upload trigger args] */
static int register_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc < 11 || (argc > 13 && argc != 17)) return RedisModule_WrongArity(ctx);
    for (int i = 1; i < argc; i++) {
        size_t len;
        const char *s = RedisModule_StringPtrLen(argv[i], &len);
        if (len > MAX_FIELD_BYTES || strlen(s) != len)
            return RedisModule_ReplyWithError(ctx, "ERR a field of a registration is at most 64 KiB and holds no NUL");
    }
    long long ordinal;
    if (!is_sha1(argv[2]) || !find_script(RedisModule_StringPtrLen(argv[2], NULL)))
        return RedisModule_ReplyWithError(ctx, "ERR unknown script: store it first with KM.SCRIPT SET");
    if (km_read_number(argv[3], 0, LLONG_MAX, &ordinal) != 0)
        return RedisModule_ReplyWithError(ctx, "ERR the ordinal must be a whole number, 0 or more");
    long long batch = 1, coalesce = 0;
    if (argc >= 12 && km_read_number(argv[11], 1, MAX_BATCH, &batch) != 0)
        return RedisModule_ReplyWithError(ctx, "ERR the batch must be a whole number from 1 to 1000");
    if (argc >= 13 && km_read_number(argv[12], 0, 1, &coalesce) != 0)
        return RedisModule_ReplyWithError(ctx, "ERR coalesce must be 0 or 1");
    const char *id = RedisModule_StringPtrLen(argv[1], NULL);
    if (!id[0]) return RedisModule_ReplyWithError(ctx, "ERR the id must not be empty");
    if (n_registrations >= MAX_REGISTRATIONS && !km_registry_by_id(id))
        return RedisModule_ReplyWithError(ctx, "ERR there are 10000 registrations already");
    km_registration *reg = km_calloc(1, sizeof *reg);
    char **fields[] = {&reg->id, &reg->script, NULL, &reg->reader, &reg->desc,
                       &reg->mode, &reg->prefix, &reg->events, &reg->keytypes, &reg->commands};
    for (int i = 0; i < 10; i++) {
        if (!fields[i]) continue;
        size_t len;
        const char *s = RedisModule_StringPtrLen(argv[1 + i], &len);
        *fields[i] = km_memdup0(s, len);
    }
    char **more[] = {&reg->session, &reg->upload, &reg->trigger, &reg->args};
    for (int i = 0; i < 4; i++) {
        size_t len = 0;
        const char *s = argc == 17 ? RedisModule_StringPtrLen(argv[13 + i], &len) : i < 2 ? reg->script : "";
        *more[i] = km_memdup0(s, strlen(s));
    }
    reg->ordinal = ordinal;
    reg->batch = batch;
    reg->coalesce = (int)coalesce;
    add_registration(reg);
    RedisModule_ReplicateVerbatim(ctx);
    return RedisModule_ReplyWithSimpleString(ctx, "OK");
}

/* KM.UNREGISTER id */
static int unregister_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc != 2) return RedisModule_WrongArity(ctx);
    const char *id = RedisModule_StringPtrLen(argv[1], NULL);
    for (km_registration **link = &registrations; *link; link = &(*link)->next) {
        km_registration *reg = *link;
        if (strcmp(reg->id, id) != 0) continue;
        *link = reg->next;
        char *sha1 = km_memdup0(reg->script, strlen(reg->script));
        registration_free(reg);
        drop_script_if_unused(sha1);
        km_free(sha1);
        recount();
        RedisModule_ReplicateVerbatim(ctx);
        return RedisModule_ReplyWithSimpleString(ctx, "OK");
    }
    return RedisModule_ReplyWithError(ctx, "ERR unknown registration");
}

/* KM.REGISTRATIONS */
static int registrations_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    (void)argv;
    if (argc != 1) return RedisModule_WrongArity(ctx);
    RedisModule_ReplyWithArray(ctx, n_registrations);
    for (km_registration *reg = registrations; reg; reg = reg->next) {
        RedisModule_ReplyWithArray(ctx, 16);
        RedisModule_ReplyWithCString(ctx, reg->id);
        RedisModule_ReplyWithCString(ctx, reg->script);
        RedisModule_ReplyWithLongLong(ctx, reg->ordinal);
        RedisModule_ReplyWithCString(ctx, reg->reader);
        RedisModule_ReplyWithCString(ctx, reg->desc);
        RedisModule_ReplyWithCString(ctx, reg->mode);
        RedisModule_ReplyWithCString(ctx, reg->prefix);
        RedisModule_ReplyWithCString(ctx, reg->events);
        RedisModule_ReplyWithCString(ctx, reg->keytypes);
        RedisModule_ReplyWithCString(ctx, reg->commands);
        RedisModule_ReplyWithLongLong(ctx, reg->batch);
        RedisModule_ReplyWithLongLong(ctx, reg->coalesce);
        RedisModule_ReplyWithCString(ctx, reg->session);
        RedisModule_ReplyWithCString(ctx, reg->upload);
        RedisModule_ReplyWithCString(ctx, reg->trigger);
        RedisModule_ReplyWithCString(ctx, reg->args);
    }
    return REDISMODULE_OK;
}

/* ---- RDB: an auxiliary part, so that registrations take no key and no slot ---- */

static void aux_save(RedisModuleIO *rdb, int when) {
    (void)when;
    RedisModule_SaveUnsigned(rdb, (uint64_t)n_scripts);
    for (script *s = scripts; s; s = s->next) {
        km_rdb_save_text(rdb, s->sha1);
        RedisModule_SaveStringBuffer(rdb, s->source, s->source_len);
    }
    RedisModule_SaveUnsigned(rdb, (uint64_t)n_registrations);
    for (km_registration *reg = registrations; reg; reg = reg->next) {
        const char *fields[] = {reg->id, reg->script, reg->reader, reg->desc, reg->mode, reg->prefix, reg->events,
                                reg->keytypes, reg->commands, reg->session, reg->upload, reg->trigger, reg->args};
        RedisModule_SaveUnsigned(rdb, (uint64_t)reg->paused);
        RedisModule_SaveUnsigned(rdb, (uint64_t)reg->ordinal);
        RedisModule_SaveUnsigned(rdb, (uint64_t)reg->batch);
        RedisModule_SaveUnsigned(rdb, (uint64_t)reg->coalesce);
        for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) km_rdb_save_text(rdb, fields[i]);
    }
    RedisModule_SaveUnsigned(rdb, (uint64_t)next_number);
    km_sessions_save(rdb);
}

/* The next script of the RDB; its source may hold any bytes. Returns 0, or -1 when it is not one. */
static int load_script(RedisModuleIO *rdb) {
    char *sha1 = km_rdb_load_text(rdb, 40);
    size_t len = 0;
    char *source = sha1 ? RedisModule_LoadStringBuffer(rdb, &len) : NULL;
    int ok = source && !RedisModule_IsIOError(rdb) && len <= KM_MAX_SCRIPT_BYTES;
    if (ok) add_script(sha1, source, len);
    km_free(source);
    km_free(sha1);
    return ok ? 0 : -1;
}

static int load_failed(RedisModuleIO *rdb, const char *what) {
    RedisModule_LogIOError(rdb, "warning", "keymiss: the RDB's registrations are damaged: %s", what);
    return REDISMODULE_ERR;
}

static int aux_load(RedisModuleIO *rdb, int encver, int when) {
    (void)when;
    if (encver < 1 || encver > RDB_VERSION) return load_failed(rdb, "a version this module does not know");
    clear_all();
    uint64_t n = RedisModule_LoadUnsigned(rdb);
    if (RedisModule_IsIOError(rdb) || n > MAX_REGISTRATIONS + MAX_UNUSED_SCRIPTS) return load_failed(rdb, "the number of scripts");
    for (uint64_t i = 0; i < n; i++)
        if (load_script(rdb) != 0) return load_failed(rdb, "a script");
    script *in_order = NULL; /* each went to the front: turned round, it is the saved order */
    while (scripts) {
        script *next = scripts->next;
        scripts->next = in_order;
        in_order = scripts;
        scripts = next;
    }
    scripts = in_order;
    n = RedisModule_LoadUnsigned(rdb);
    if (RedisModule_IsIOError(rdb) || n > MAX_REGISTRATIONS) return load_failed(rdb, "the number of registrations");
    km_registration *newest = NULL, **tail = &newest; /* saved newest first */
    int bad = 0;
    for (uint64_t i = 0; i < n && !bad; i++) {
        km_registration *reg = km_calloc(1, sizeof *reg);
        uint64_t paused = encver <= 3 ? 0 : RedisModule_LoadUnsigned(rdb);
        reg->paused = paused == 1;
        reg->ordinal = (long long)RedisModule_LoadUnsigned(rdb);
        uint64_t batch = encver == 1 ? 1 : RedisModule_LoadUnsigned(rdb);
        uint64_t coalesce = encver <= 2 ? 1 : RedisModule_LoadUnsigned(rdb);
        bad = batch < 1 || batch > MAX_BATCH || coalesce > 1 || paused > 1;
        reg->batch = (long long)batch;
        reg->coalesce = (int)coalesce;
        char **fields[] = {&reg->id, &reg->script, &reg->reader, &reg->desc, &reg->mode, &reg->prefix, &reg->events,
                           &reg->keytypes, &reg->commands, &reg->session, &reg->upload, &reg->trigger, &reg->args};
        size_t n_fields = encver <= 3 ? 9 : sizeof fields / sizeof *fields;
        for (size_t k = 0; k < n_fields && !bad; k++) {
            *fields[k] = km_rdb_load_text(rdb, MAX_FIELD_BYTES);
            bad = *fields[k] == NULL;
        }
        for (size_t k = n_fields; k < sizeof fields / sizeof *fields && !bad; k++) /* its session and upload are the script's */
            *fields[k] = km_memdup0(k < 11 ? reg->script : "", k < 11 ? strlen(reg->script) : 0);
        if (bad) {
            registration_free(reg);
        } else {
            *tail = reg;
            tail = &reg->next;
        }
    }
    /* Added oldest first, so that the order is the saved one. */
    km_registration *oldest = NULL;
    while (newest) {
        km_registration *next = newest->next;
        newest->next = oldest;
        oldest = newest;
        newest = next;
    }
    while (oldest) {
        km_registration *next = oldest->next;
        if (bad)
            registration_free(oldest);
        else
            add_registration(oldest);
        oldest = next;
    }
    if (bad) return load_failed(rdb, "a registration");
    if (encver <= 3) return REDISMODULE_OK;
    uint64_t number = RedisModule_LoadUnsigned(rdb);
    if (RedisModule_IsIOError(rdb) || number > LLONG_MAX / 2) return load_failed(rdb, "the number of the next id");
    if ((long long)number > next_number) next_number = (long long)number;
    return km_sessions_load(rdb) == 0 ? REDISMODULE_OK : load_failed(rdb, "a session");
}

static const km_command commands[] = {
    {"km.script", script_command, "write deny-oom admin", -2, NULL,
     KM_ARGS(KM_ONE_OF("what", .subargs = KM_ARGS(KM_BLOCK("set", .token = "SET", .subargs = KM_ARGS(KM_TEXT("sha1"), KM_TEXT("source"))),
                                                  KM_TEXT("sha1", .token = "GET"), KM_WORD("list", "LIST")))),
     "Keeps, gives or lists the sources of scripts.", "O(N), with N scripts", NULL},
    {"km.register", register_command, "write deny-oom admin", -11, NULL,
     KM_ARGS(KM_TEXT("id"), KM_TEXT("sha1"), KM_NUMBER("ordinal"), KM_TEXT("reader"), KM_TEXT("desc"), KM_TEXT("mode"),
             KM_TEXT("prefix"), KM_TEXT("events"), KM_TEXT("keytypes"), KM_TEXT("commands"), KM_NUMBER("batch", .flags = KM_OPTIONAL),
             KM_NUMBER("coalesce", .flags = KM_OPTIONAL),
             KM_BLOCK("session", .flags = KM_OPTIONAL,
                      .subargs = KM_ARGS(KM_TEXT("session"), KM_TEXT("upload"), KM_TEXT("trigger"), KM_TEXT("args")))),
     "Registers a function of a script for misses or key events, on this shard alone.", "O(N), with N registrations", NULL},
    {"km.ids", ids_command, "admin fast", 2, NULL, KM_ARGS(KM_NUMBER("count")), "Gives ids for registrations.", "O(N), with N ids",
     "nondeterministic_output"},
    {"km.pause", pause_command, "write admin", 2, NULL, KM_ARGS(KM_TEXT("id")),
     "Pauses a registration of a StreamReader, on this shard alone.", "O(N), with N registrations", NULL},
    {"km.unpause", pause_command, "write admin", 2, NULL, KM_ARGS(KM_TEXT("id")),
     "Ends the pause of a registration, on this shard alone.", "O(N), with N registrations", NULL},
    {"km.unregister", unregister_command, "write admin", 2, NULL, KM_ARGS(KM_TEXT("id")),
     "Removes a registration, on this shard alone.", "O(N), with N registrations", NULL},
    {"km.registrations", registrations_command, "readonly", 1, NULL, NULL,
     "Lists this shard's registrations as KM.REGISTER takes them.", "O(N), with N registrations", NULL},
};

int km_registry_register(RedisModuleCtx *ctx) {
    RedisModuleTypeMethods part = {.aux_load = aux_load, .aux_save = aux_save, .aux_save_triggers = REDISMODULE_AUX_BEFORE_RDB};
    if (km_aux_type_register(ctx, "km-gearsr", RDB_VERSION, part) != REDISMODULE_OK) return REDISMODULE_ERR;
    return KM_REGISTER(ctx, commands);
}
