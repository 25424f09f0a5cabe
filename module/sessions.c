/* Sessions: RG.PYEXECUTE ... ID. A session is what its registrations say they belong to; what else is known of it, its
 * description and requirements, is here. */
#include <limits.h>
#include <strings.h>

#include "command.h"
#include "datatype.h"
#include "registry.h"

#define MAX_SESSIONS 10000
#define MAX_REQUIREMENTS 1024
#define MAX_UNUSED 16 /* they wait for their KM.REGISTER */
#define MAX_FIELD_BYTES (64 * 1024)

typedef struct session {
    struct session *next; /* the newest first */
    char *id, *desc;
    char **requirements;
    size_t n_requirements;
} session;

static session *sessions;

static session *find(const char *id) {
    for (session *s = sessions; s; s = s->next)
        if (strcmp(s->id, id) == 0) return s;
    return NULL;
}

static void session_free(session *s) {
    for (size_t i = 0; i < s->n_requirements; i++) km_free(s->requirements[i]);
    km_free(s->requirements);
    km_free(s->id);
    km_free(s->desc);
    km_free(s);
}

/* In the place of the one with the same id; the newest. */
static void add(session *added) {
    for (session **link = &sessions; *link; link = &(*link)->next) {
        session *s = *link;
        if (strcmp(s->id, added->id) != 0) continue;
        *link = s->next;
        session_free(s);
        break;
    }
    added->next = sessions;
    sessions = added;
}

int km_session_is_used(const char *id) {
    for (km_registration *reg = km_registry_first(); reg; reg = reg->next)
        if (strcmp(reg->session, id) == 0) return 1;
    return 0;
}

void km_sessions_drop_unused(void) {
    int keep = MAX_UNUSED;
    for (session **link = &sessions; *link;) {
        session *s = *link;
        if (km_session_is_used(s->id) || keep-- > 0) {
            link = &s->next;
        } else {
            *link = s->next;
            session_free(s);
        }
    }
}

/* KM.SESSION id description [requirement ...]: what is known of the session whose registrations follow */
static int session_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc < 3) return RedisModule_WrongArity(ctx);
    if (argc - 3 > MAX_REQUIREMENTS) return RedisModule_ReplyWithError(ctx, "ERR a session has at most 1024 requirements");
    for (int i = 1; i < argc; i++) {
        size_t len;
        const char *bytes = RedisModule_StringPtrLen(argv[i], &len);
        if (len > MAX_FIELD_BYTES || strlen(bytes) != len)
            return RedisModule_ReplyWithError(ctx, "ERR a field of a session is at most 64 KiB and holds no NUL");
    }
    session *s = km_calloc(1, sizeof *s);
    s->n_requirements = (size_t)argc - 3;
    s->requirements = km_calloc(s->n_requirements + 1, sizeof *s->requirements);
    char **texts[] = {&s->id, &s->desc};
    for (int i = 1; i < argc; i++) {
        size_t len;
        const char *bytes = RedisModule_StringPtrLen(argv[i], &len);
        *(i < 3 ? texts[i - 1] : &s->requirements[i - 3]) = km_memdup0(bytes, len);
    }
    add(s);
    RedisModule_ReplicateVerbatim(ctx);
    return RedisModule_ReplyWithSimpleString(ctx, "OK");
}

/* ---- what people see ---- */

/* The registration is the first of its session. */
static int is_first_of_session(const km_registration *reg) {
    for (km_registration *one = km_registry_first(); one != reg; one = one->next)
        if (strcmp(one->session, reg->session) == 0) return 0;
    return 1;
}

static void reply_requirement(RedisModuleCtx *ctx, const char *name, long long used) {
    RedisModule_ReplyWithArray(ctx, 18);
    km_reply_number(ctx, "GearReqVersion", 1);
    km_reply_text(ctx, "Name", name);
    km_reply_text(ctx, "IsDownloaded", "yes");
    km_reply_text(ctx, "IsInstalled", "yes"); /* RG.PYEXECUTE saw to it */
    km_reply_text(ctx, "CompiledOs", "");
    RedisModule_ReplyWithCString(ctx, "Wheels");
    RedisModule_ReplyWithArray(ctx, 0);
    km_reply_text(ctx, "Path", "");
    km_reply_number(ctx, "RefCount", used);
    km_reply_text(ctx, "IsInReqDictionary", "yes");
}

static void reply_session(RedisModuleCtx *ctx, const char *id, int verbose) {
    session *s = find(id);
    long long n = 0;
    for (km_registration *reg = km_registry_first(); reg; reg = reg->next) n += strcmp(reg->session, id) == 0;
    RedisModule_ReplyWithArray(ctx, 16);
    km_reply_text(ctx, "ID", id);
    RedisModule_ReplyWithCString(ctx, "sessionDescription");
    if (s && s->desc[0])
        RedisModule_ReplyWithCString(ctx, s->desc);
    else
        RedisModule_ReplyWithNull(ctx);
    km_reply_number(ctx, "refCount", n);
    km_reply_text(ctx, "linked", "primary");
    km_reply_text(ctx, "dead", "false");
    km_reply_number(ctx, "requirementInstallationNeeded", s && s->n_requirements);
    RedisModule_ReplyWithCString(ctx, "requirements");
    RedisModule_ReplyWithArray(ctx, s ? (long)s->n_requirements : 0);
    for (size_t i = 0; s && i < s->n_requirements; i++) {
        if (verbose)
            reply_requirement(ctx, s->requirements[i], 1);
        else
            RedisModule_ReplyWithCString(ctx, s->requirements[i]);
    }
    RedisModule_ReplyWithCString(ctx, "registrations");
    RedisModule_ReplyWithArray(ctx, (long)n);
    for (km_registration *reg = km_registry_first(); reg; reg = reg->next) {
        if (strcmp(reg->session, id) != 0) continue;
        if (verbose) {
            RedisModule_ReplyWithArray(ctx, 4);
            km_reply_text(ctx, "id", reg->id);
            km_reply_text(ctx, "reader", reg->reader);
        } else {
            RedisModule_ReplyWithCString(ctx, reg->id);
        }
    }
}

/* RG.PYDUMPSESSIONS [VERBOSE] [DEAD | SESSIONS id [id ...]] */
static int pydumpsessions_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    int verbose = 0, dead = 0, i = 1;
    for (; i < argc; i++) {
        if (km_is_word(argv[i], "verbose"))
            verbose = 1;
        else if (km_is_word(argv[i], "dead"))
            dead = 1;
        else
            break;
    }
    if (i < argc && !km_is_word(argv[i], "sessions")) {
        RedisModuleString *text = RedisModule_CreateStringPrintf(ctx, "ERR Unknown option %.200s", RedisModule_StringPtrLen(argv[i], NULL));
        RedisModule_ReplyWithError(ctx, RedisModule_StringPtrLen(text, NULL));
        RedisModule_FreeString(ctx, text);
        return REDISMODULE_OK;
    }
    if (i < argc) {
        RedisModule_ReplyWithArray(ctx, argc - i - 1);
        for (i++; i < argc; i++) {
            const char *id = RedisModule_StringPtrLen(argv[i], NULL);
            if (km_session_is_used(id)) {
                reply_session(ctx, id, verbose);
                continue;
            }
            RedisModuleString *text = RedisModule_CreateStringPrintf(ctx, "Session %.200s does not exists", id);
            RedisModule_ReplyWithString(ctx, text);
            RedisModule_FreeString(ctx, text);
        }
        return REDISMODULE_OK;
    }
    long n = 0; /* none is dead: a session that lost its last registration is gone */
    for (km_registration *reg = km_registry_first(); reg && !dead; reg = reg->next) n += is_first_of_session(reg);
    RedisModule_ReplyWithArray(ctx, n);
    for (km_registration *reg = km_registry_first(); reg && !dead; reg = reg->next)
        if (is_first_of_session(reg)) reply_session(ctx, reg->session, verbose);
    return REDISMODULE_OK;
}

/* Requirement i of s is that of no session before it; used: by how many it is required. */
static int is_first_of_requirement(const session *s, size_t i, long long *used) {
    *used = 0;
    for (const session *one = sessions; one; one = one->next) {
        if (!km_session_is_used(one->id)) continue;
        for (size_t k = 0; k < one->n_requirements; k++) {
            if (strcmp(one->requirements[k], s->requirements[i]) != 0) continue;
            if (*used == 0 && (one != s || k != i)) return 0;
            ++*used;
        }
    }
    return 1;
}

/* RG.PYDUMPREQS */
static int pydumpreqs_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    (void)argv;
    if (argc != 1) return RedisModule_WrongArity(ctx);
    long long used;
    long n = 0;
    for (int reply = 0; reply < 2; reply++) {
        if (reply) RedisModule_ReplyWithArray(ctx, n);
        for (session *s = sessions; s; s = s->next) {
            if (!km_session_is_used(s->id)) continue;
            for (size_t i = 0; i < s->n_requirements; i++) {
                if (!is_first_of_requirement(s, i, &used)) continue;
                if (reply)
                    reply_requirement(ctx, s->requirements[i], used);
                else
                    n++;
            }
        }
    }
    return REDISMODULE_OK;
}

/* ---- RDB: in the part of the registrations ---- */

void km_sessions_save(RedisModuleIO *rdb) {
    uint64_t n = 0;
    for (session *s = sessions; s; s = s->next) n++;
    RedisModule_SaveUnsigned(rdb, n);
    for (session *s = sessions; s; s = s->next) {
        km_rdb_save_text(rdb, s->id);
        km_rdb_save_text(rdb, s->desc);
        RedisModule_SaveUnsigned(rdb, s->n_requirements);
        for (size_t i = 0; i < s->n_requirements; i++) km_rdb_save_text(rdb, s->requirements[i]);
    }
}

static int load_session(RedisModuleIO *rdb, session *s) {
    s->id = km_rdb_load_text(rdb, MAX_FIELD_BYTES);
    s->desc = s->id ? km_rdb_load_text(rdb, MAX_FIELD_BYTES) : NULL;
    if (!s->desc) return -1;
    uint64_t n = RedisModule_LoadUnsigned(rdb);
    if (RedisModule_IsIOError(rdb) || n > MAX_REQUIREMENTS) return -1;
    s->requirements = km_calloc(n + 1, sizeof *s->requirements);
    for (; s->n_requirements < n; s->n_requirements++)
        if (!(s->requirements[s->n_requirements] = km_rdb_load_text(rdb, MAX_FIELD_BYTES))) return -1;
    return 0;
}

int km_sessions_load(RedisModuleIO *rdb) {
    while (sessions) {
        session *next = sessions->next;
        session_free(sessions);
        sessions = next;
    }
    uint64_t n = RedisModule_LoadUnsigned(rdb);
    if (RedisModule_IsIOError(rdb) || n > MAX_SESSIONS + MAX_UNUSED) return -1;
    session **tail = &sessions;
    for (uint64_t i = 0; i < n; i++) {
        session *s = km_calloc(1, sizeof *s);
        if (load_session(rdb, s) != 0) {
            session_free(s);
            return -1;
        }
        *tail = s;
        tail = &s->next;
    }
    return 0;
}

static const km_command commands[] = {
    {"km.session", session_command, "write deny-oom admin", -3, NULL,
     KM_ARGS(KM_TEXT("id"), KM_TEXT("description"), KM_TEXT("requirement", .flags = KM_OPTIONAL | KM_MANY)),
     "Keeps what is known of a session, on this shard alone.", "O(N), with N sessions", NULL},
    {"rg.pydumpsessions", pydumpsessions_command, "readonly", -1, NULL,
     KM_ARGS(KM_WORD("verbose", "VERBOSE", .flags = KM_OPTIONAL), KM_WORD("dead", "DEAD", .flags = KM_OPTIONAL),
             KM_TEXT("id", .token = "SESSIONS", .flags = KM_OPTIONAL | KM_MANY)),
     "Lists this shard's sessions: the uploads that registrations came with.", "O(N*N), with N registrations", "nondeterministic_output"},
    {"rg.pydumpreqs", pydumpreqs_command, "readonly", 1, NULL, NULL, "Lists what this shard's sessions require.",
     "O(N*N), with N requirements", "nondeterministic_output"},
};

int km_sessions_register(RedisModuleCtx *ctx) { return KM_REGISTER(ctx, commands); }
