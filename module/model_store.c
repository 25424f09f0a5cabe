/* AI.MODELSTORE and AI.MODELSET: two ways to write the same options, one table of them, one model stored. */
#include <ctype.h>
#include <stddef.h>
#include <strings.h>

#include "command.h"
#include "core.h"
#include "model.h"
#include "replicas.h"

#define MAX_TAG_BYTES 4096

typedef struct {
    int at, n; /* a part of argv */
} arguments;

typedef struct {
    const char *tag;
    long long batch_size, min_batch_size, min_batch_timeout_ms;
    arguments inputs, outputs, blob;
} options;

typedef enum { TAKES_TEXT, TAKES_NUMBER, TAKES_NAMES, TAKES_THE_REST } taken;

static const struct option {
    const char *word;
    taken takes;
    size_t field; /* where in `options` */
} option_table[] = {
    {"tag", TAKES_TEXT, offsetof(options, tag)},
    {"batchsize", TAKES_NUMBER, offsetof(options, batch_size)},
    {"minbatchsize", TAKES_NUMBER, offsetof(options, min_batch_size)},
    {"minbatchtimeout", TAKES_NUMBER, offsetof(options, min_batch_timeout_ms)},
    {"inputs", TAKES_NAMES, offsetof(options, inputs)},
    {"outputs", TAKES_NAMES, offsetof(options, outputs)},
    {"blob", TAKES_THE_REST, offsetof(options, blob)},
};
#define N_OPTIONS (sizeof option_table / sizeof *option_table)

static const struct option *option_named(RedisModuleString *arg) {
    for (size_t i = 0; i < N_OPTIONS; i++)
        if (km_is_word(arg, option_table[i].word)) return &option_table[i];
    return NULL;
}

/* The names that begin at argv[at]: AI.MODELSTORE has their number before them, AI.MODELSET ends them with the next
 * option's word. Returns an error's text or NULL. */
static const char *read_names(RedisModuleString **argv, int argc, int at, int counted, arguments *names) {
    long long n = 0;
    if (counted) {
        if (km_read_number(argv[at], 0, KM_MODEL_MAX_NAMES, &n) || n > argc - at - 1)
            return "ERR INPUTS and OUTPUTS take a number up to 64 and as many names";
        at++;
    } else {
        while (at + n < argc && !option_named(argv[at + n])) n++;
        if (n == 0 || n > KM_MODEL_MAX_NAMES) return "ERR INPUTS and OUTPUTS take 1 to 64 names";
    }
    *names = (arguments){at, (int)n};
    return NULL;
}

/* The options that begin at argv[4]. Returns an error's text or NULL. */
static const char *read_options(RedisModuleString **argv, int argc, int counted_names, options *given) {
    for (int i = 4; i < argc;) {
        const struct option *option = option_named(argv[i]);
        if (!option) return "ERR unknown option: TAG, BATCHSIZE, MINBATCHSIZE, MINBATCHTIMEOUT, INPUTS, OUTPUTS or BLOB";
        void *field = (char *)given + option->field;
        if (option->takes == TAKES_THE_REST) {
            *(arguments *)field = (arguments){i + 1, argc - i - 1};
            break;
        }
        if (++i == argc) return "ERR an option lacks its value, or BLOB is missing";
        if (option->takes == TAKES_NAMES) {
            const char *error = read_names(argv, argc, i, counted_names, field);
            if (error) return error;
            i = ((arguments *)field)->at + ((arguments *)field)->n;
        } else if (option->takes == TAKES_NUMBER) {
            if (km_read_number(argv[i++], 0, INT32_MAX, field)) return "ERR a batch setting is a whole number, 0 or more";
        } else {
            size_t len;
            const char *text = RedisModule_StringPtrLen(argv[i++], &len);
            if (len > MAX_TAG_BYTES || strlen(text) != len) return "ERR TAG is at most 4096 bytes and holds no NUL";
            *(const char **)field = text;
        }
    }
    size_t n_bytes = 0, len;
    for (int i = 0; i < given->blob.n; i++, n_bytes += len) RedisModule_StringPtrLen(argv[given->blob.at + i], &len);
    if (given->blob.n == 0) return "ERR BLOB and the model's bytes are missing";
    if (given->blob.n > KM_MODEL_MAX_CHUNKS) return "ERR a model's blob is at most 1024 chunks";
    if (given->min_batch_size && !given->batch_size) return "ERR MINBATCHSIZE needs BATCHSIZE";
    if (n_bytes == 0) return "ERR the model's blob is empty";
    return NULL;
}

static int is_backend(RedisModuleString *arg) {
    return km_is_word(arg, "torch") || km_is_word(arg, "onnx") || km_is_word(arg, "dummy");
}

/* CPU, CPU:<n>, GPU or GPU:<n> */
static int is_device(const char *text) {
    if (strncasecmp(text, "cpu", 3) != 0 && strncasecmp(text, "gpu", 3) != 0) return 0;
    if (!text[3]) return 1;
    size_t digits = text[3] == ':' ? strspn(text + 4, "0123456789") : 0;
    return digits > 0 && digits < 4 && !text[4 + digits];
}

static char *upper_copy(RedisModuleString *arg) {
    const char *text = RedisModule_StringPtrLen(arg, NULL);
    char *copy = km_memdup0(text, strlen(text));
    for (char *c = copy; *c; c++) *c = (char)toupper((unsigned char)*c);
    return copy;
}

/* The arguments themselves, held: a blob of hundreds of megabytes is not copied. But not (`copy`) where the server
 * keeps its own references for longer than this call, in MULTI, in a script, of a blocked client: a FLUSHALL ASYNC
 * before that ends would have its lazy-free thread count references (they are not atomic) at the same time as the
 * main thread. */
static km_strings hold(RedisModuleString **argv, arguments part, int copy) {
    km_strings held = {part.n, km_calloc((size_t)part.n, sizeof *held.items)};
    for (int i = 0; i < part.n; i++) {
        RedisModuleString *arg = argv[part.at + i];
        size_t len;
        const char *bytes = RedisModule_StringPtrLen(arg, &len);
        if (!copy) RedisModule_RetainString(NULL, arg);
        held.items[i] = copy ? RedisModule_CreateString(NULL, bytes, len) : arg;
    }
    return held;
}

/* REDISMODULE_OK when the model is stored, else REDISMODULE_ERR after an error reply. */
static int store(RedisModuleCtx *ctx, RedisModuleString **argv, int argc, int counted_names, int will_block) {
    options given = {.tag = ""};
    const char *error = NULL;
    if (!is_backend(argv[2]))
        error = "ERR unsupported backend: use TORCH or ONNX";
    else if (!is_device(RedisModule_StringPtrLen(argv[3], NULL)))
        error = "ERR invalid device: use CPU, GPU, CPU:<n> or GPU:<n>";
    else
        error = read_options(argv, argc, counted_names, &given);
    if (error) {
        RedisModule_ReplyWithError(ctx, error);
        return REDISMODULE_ERR;
    }
    RedisModuleKey *key = km_open_for_write(ctx, argv[1], km_model_type);
    if (!key) return REDISMODULE_ERR;
    int copy = will_block || km_cannot_block(ctx);
    km_model *model = km_model_new(upper_copy(argv[2]), upper_copy(argv[3]), km_memdup0(given.tag, strlen(given.tag)),
                                   hold(argv, given.inputs, copy), hold(argv, given.outputs, copy), hold(argv, given.blob, copy));
    model->batch_size = given.batch_size;
    model->min_batch_size = given.min_batch_size;
    model->min_batch_timeout_ms = given.min_batch_timeout_ms;
    RedisModule_ModuleTypeSetValue(key, km_model_type, model);
    km_written(ctx, key, argv[1], "modelstore"); /* of both commands: a registration for it sees every model */
    return REDISMODULE_OK;
}

/* AI.MODELSTORE key backend device [TAG tag] [BATCHSIZE n] [MINBATCHSIZE n] [MINBATCHTIMEOUT ms]
 *               [INPUTS n name [name ...]] [OUTPUTS n name [name ...]] BLOB chunk [chunk ...] */
static int modelstore_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc < 6) return RedisModule_WrongArity(ctx);
    if (store(ctx, argv, argc, 1, 0) != REDISMODULE_OK) return REDISMODULE_OK;
    return RedisModule_ReplyWithSimpleString(ctx, "OK");
}

/* AI.MODELSET key backend device [TAG tag] [BATCHSIZE n] [MINBATCHSIZE n] [MINBATCHTIMEOUT ms]
 *             [INPUTS name [name ...]] [OUTPUTS name [name ...]] BLOB chunk [chunk ...]
 * The programs that send it end when it is answered and know nothing of WAIT: hence the wait here. */
static int modelset_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc < 6) return RedisModule_WrongArity(ctx);
    int wait = km_has_replicas_to_wait_for(ctx);
    if (store(ctx, argv, argc, 0, wait) != REDISMODULE_OK) return REDISMODULE_OK;
    return wait ? km_reply_when_replicas_have_it(ctx) : RedisModule_ReplyWithSimpleString(ctx, "OK");
}

/* What both have before and behind the names. */
#define BEFORE_NAMES                                                                                                             \
    KM_KEY("key", 0), KM_TEXT("backend"), KM_TEXT("device"), KM_TEXT("tag", .token = "TAG", .flags = KM_OPTIONAL),               \
        KM_NUMBER("n", .token = "BATCHSIZE", .flags = KM_OPTIONAL), KM_NUMBER("n", .token = "MINBATCHSIZE", .flags = KM_OPTIONAL), \
        KM_NUMBER("ms", .token = "MINBATCHTIMEOUT", .flags = KM_OPTIONAL)
#define BEHIND_NAMES KM_TEXT("chunk", .token = "BLOB", .flags = KM_MANY)

static const km_command commands[] = {
    {"ai.modelstore", modelstore_command, "write deny-oom", -6, KM_KEYS(KM_KEY_AT(1, KM_OVERWRITE)),
     KM_ARGS(BEFORE_NAMES,
             KM_BLOCK("inputs", .token = "INPUTS", .flags = KM_OPTIONAL, .subargs = KM_ARGS(KM_NUMBER("n"), KM_TEXT("name", .flags = KM_MANY))),
             KM_BLOCK("outputs", .token = "OUTPUTS", .flags = KM_OPTIONAL, .subargs = KM_ARGS(KM_NUMBER("n"), KM_TEXT("name", .flags = KM_MANY))),
             BEHIND_NAMES),
     "Stores a model.", "O(N), with N chunks", NULL},
    {"ai.modelset", modelset_command, "write deny-oom", -6, KM_KEYS(KM_KEY_AT(1, KM_OVERWRITE)),
     KM_ARGS(BEFORE_NAMES, KM_TEXT("name", .token = "INPUTS", .flags = KM_OPTIONAL | KM_MANY),
             KM_TEXT("name", .token = "OUTPUTS", .flags = KM_OPTIONAL | KM_MANY),
             BEHIND_NAMES),
     "Stores a model, and waits until the replicas have it.", "O(N), with N chunks", NULL},
};

int km_model_store_register(RedisModuleCtx *ctx) { return KM_REGISTER(ctx, commands); }
