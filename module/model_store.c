/* AI.MODELSTORE and AI.MODELSET: two ways to write the same options, one table of them, one model stored. Texts and order of
 * the checks are RedisAI's; options may come in any order. */
#include <ctype.h>
#include <stddef.h>
#include <strings.h>

#include "command.h"
#include "core.h"
#include "errors.h"
#include "look.h"
#include "model.h"
#include "shard_models.h"
#include "upload.h"

#define MAX_TAG_BYTES 4096

typedef struct {
    int at, n; /* a part of argv */
} arguments;

typedef struct {
    const char *tag;
    long long batch_size, min_batch_size, min_batch_timeout_ms;
    arguments inputs, outputs, blob;
    int is_uploaded; /* the blob is elsewhere */
} options;

typedef enum { TAKES_TEXT, TAKES_NUMBER, TAKES_NAMES, TAKES_THE_REST } taken;

static const struct option {
    const char *word;
    taken takes;
    size_t field; /* where in `options` */
    const char *invalid;
} option_table[] = {
    {"tag", TAKES_TEXT, offsetof(options, tag), "ERR TAG is at most 4096 bytes and holds no NUL"},
    {"batchsize", TAKES_NUMBER, offsetof(options, batch_size), "ERR Invalid argument for BATCHSIZE"},
    {"minbatchsize", TAKES_NUMBER, offsetof(options, min_batch_size), "ERR Invalid argument for MINBATCHSIZE"},
    {"minbatchtimeout", TAKES_NUMBER, offsetof(options, min_batch_timeout_ms), "ERR Invalid argument for MINBATCHTIMEOUT"},
    {"inputs", TAKES_NAMES, offsetof(options, inputs), "ERR Invalid argument for input_count"},
    {"outputs", TAKES_NAMES, offsetof(options, outputs), "ERR Invalid argument for output_count"},
    {"blob", TAKES_THE_REST, offsetof(options, blob), NULL},
};
#define N_OPTIONS (sizeof option_table / sizeof *option_table)

static const struct option *option_named(RedisModuleString *arg) {
    for (size_t i = 0; i < N_OPTIONS; i++)
        if (km_is_word(arg, option_table[i].word)) return &option_table[i];
    return NULL;
}

static const char no_blob[] = "ERR Insufficient arguments, missing model BLOB";

/* The names that begin at argv[at]: AI.MODELSTORE has their number before them, AI.MODELSET ends them with the next
 * option's word. Returns an error's text or NULL. */
static const char *read_names(RedisModuleString **argv, int argc, int at, int counted, const struct option *option, arguments *names) {
    long long n = 0;
    if (counted) {
        if (km_read_number(argv[at], 1, KM_MODEL_MAX_NAMES, &n)) return option->invalid;
        if (n > argc - at - 1)
            return option->word[0] == 'i' ? "ERR number of model inputs does not match the number of given arguments"
                                          : "ERR number of model outputs does not match the number of given arguments";
        at++;
    } else {
        while (at + n < argc && !option_named(argv[at + n])) n++;
        if (n == 0 || n > KM_MODEL_MAX_NAMES) return "ERR INPUTS and OUTPUTS take 1 to 1024 names";
    }
    *names = (arguments){at, (int)n};
    return NULL;
}

static int has_blob_behind(RedisModuleString **argv, int argc, int at) {
    while (at < argc && !km_is_word(argv[at], "blob")) at++;
    return at < argc;
}

/* The options that begin at argv[4]. Returns an error's text or NULL. */
static const char *read_options(RedisModuleString **argv, int argc, int counted_names, options *given) {
    for (int i = 4; i < argc;) {
        const struct option *option = option_named(argv[i]);
        if (!option && counted_names) return "ERR Invalid argument, expected BLOB";
        if (!option) return has_blob_behind(argv, argc, i) ? "ERR unknown option: TAG, BATCHSIZE, MINBATCHSIZE, MINBATCHTIMEOUT, INPUTS, OUTPUTS or BLOB" : no_blob;
        void *field = (char *)given + option->field;
        if (option->takes == TAKES_THE_REST) {
            *(arguments *)field = (arguments){i + 1, argc - i - 1};
            break;
        }
        if (++i == argc) return no_blob;
        if (option->takes == TAKES_NAMES) {
            const char *error = read_names(argv, argc, i, counted_names, option, field);
            if (error) return error;
            i = ((arguments *)field)->at + ((arguments *)field)->n;
        } else if (option->takes == TAKES_NUMBER) {
            if (km_read_number(argv[i++], 0, INT32_MAX, field)) return option->invalid;
        } else {
            size_t len;
            const char *text = RedisModule_StringPtrLen(argv[i++], &len);
            if (len > MAX_TAG_BYTES || strlen(text) != len) return option->invalid;
            *(const char **)field = text;
        }
    }
    return NULL;
}

/* What the options must be together. */
static const char *check_options(RedisModuleString **argv, int counted_names, int is_tf, const options *given) {
    if (given->min_batch_size && !given->batch_size) return "ERR MINBATCHSIZE specified without BATCHSIZE";
    if (given->min_batch_timeout_ms && !given->min_batch_size) return "ERR MINBATCHTIMEOUT specified without MINBATCHSIZE";
    if (is_tf && !counted_names && !given->inputs.n && !given->outputs.n && given->blob.n) return "ERR Insufficient arguments, INPUTS and OUTPUTS not specified";
    if (is_tf && !given->inputs.n) return counted_names ? "ERR INPUTS not specified for TF" : "ERR INPUTS not specified";
    if (is_tf && !given->outputs.n) return counted_names ? "ERR OUTPUTS not specified for TF" : "ERR OUTPUTS not specified";
    if (given->is_uploaded) return given->blob.n ? "ERR the model's blob is that of its parts, and none is given" : NULL;
    if (given->blob.n == 0) return no_blob;
    if (given->blob.n > KM_MODEL_MAX_CHUNKS) return "ERR a model's blob is at most 1024 chunks";
    size_t n_bytes = 0, len;
    for (int i = 0; i < given->blob.n; i++, n_bytes += len) RedisModule_StringPtrLen(argv[given->blob.at + i], &len);
    return n_bytes ? NULL : "ERR the model's blob is empty";
}

/* CPU, CPU:<n>, GPU or GPU:<n> */
int km_is_device(RedisModuleString *arg) {
    size_t len;
    const char *text = RedisModule_StringPtrLen(arg, &len);
    if (len < 3 || len > 9 || (strncasecmp(text, "cpu", 3) != 0 && strncasecmp(text, "gpu", 3) != 0)) return 0;
    return len == 3 || (text[3] == ':' && strspn(text + 4, "0123456789") == len - 4);
}

char *km_upper_copy(RedisModuleString *arg) {
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

static void replicate(RedisModuleCtx *ctx, RedisModuleString *key, const void *model) { km_model_replicate(ctx, key, model); }
static void free_model(void *model) { km_model_free(model); }

/* What a worker found in a model. */
static void take_names(void *model, km_strings inputs, km_strings outputs) {
    km_model *m = model;
    km_strings_free(&m->inputs);
    km_strings_free(&m->outputs);
    m->inputs = inputs;
    m->outputs = outputs;
}

static void note(RedisModuleString *key, const void *model) { km_shard_models_note(key, model); }

const km_stored km_stored_model = {&km_model_type, "modelstore", replicate, take_names, free_model, note}; /* its event is that of both commands */

/* as_told: what a replica, a file or another shard tells has the names that were found in the model. */
static const char *check(RedisModuleString **argv, int argc, int counted_names, int as_told, options *given) {
    static const char *const backends[] = {"torch", "onnx", "dummy", "tf", "tflite"};
    int known = 0, is_tf = km_is_word(argv[2], "tf");
    for (size_t i = 0; i < sizeof backends / sizeof *backends; i++) known |= km_is_word(argv[2], backends[i]);
    if (!known) return "ERR unsupported backend";
    if (!km_is_device(argv[3])) return km_bad_device;
    const char *error = read_options(argv, argc, counted_names, given);
    if (!error && counted_names && !is_tf && given->inputs.n + given->outputs.n && !as_told)
        error = "ERR INPUTS argument should not be specified for this backend";
    if (!error) error = check_options(argv, counted_names, is_tf, given);
    if (!error && (is_tf || km_is_word(argv[2], "tflite")) && !as_told) error = km_not_run;
    return error;
}

/* The model that argv describes from its key on (argv[1]). */
static km_model *model_of(RedisModuleString **argv, const options *given, int copy, km_blob *blob) {
    km_model *model = km_model_new(km_upper_copy(argv[2]), km_upper_copy(argv[3]), km_memdup0(given->tag, strlen(given->tag)),
                                   hold(argv, given->inputs, copy), hold(argv, given->outputs, copy), blob);
    model->batch_size = given->batch_size;
    model->min_batch_size = given->min_batch_size;
    model->min_batch_timeout_ms = given->min_batch_timeout_ms;
    return model;
}

static int is_told(RedisModuleCtx *ctx) {
    return (RedisModule_GetContextFlags(ctx) & (REDISMODULE_CTX_FLAGS_REPLICATED | REDISMODULE_CTX_FLAGS_LOADING)) != 0;
}

static void put(RedisModuleCtx *ctx, RedisModuleString *key, km_model *model, int wait) {
    RedisModuleString *payload[] = {RedisModule_CreateString(ctx, "model", 5), key, RedisModule_CreateString(ctx, model->backend, strlen(model->backend)),
                                    RedisModule_CreateStringPrintf(ctx, "%zu", model->n_bytes)};
    km_store(ctx, key, &km_stored_model, model, payload, 4, wait);
    RedisModule_FreeString(ctx, payload[0]);
    RedisModule_FreeString(ctx, payload[2]);
    RedisModule_FreeString(ctx, payload[3]);
}

/* 0 after an error reply. */
static int may_store(RedisModuleCtx *ctx, RedisModuleString *name) {
    RedisModuleKey *key = km_open_for_write(ctx, name, km_model_type);
    if (key) RedisModule_CloseKey(key);
    return key != NULL;
}

static int store(RedisModuleCtx *ctx, RedisModuleString **argv, int argc, int counted_names) {
    options given = {.tag = ""};
    const char *error = check(argv, argc, counted_names, is_told(ctx), &given);
    if (error) return RedisModule_ReplyWithError(ctx, error);
    if (!may_store(ctx, argv[1])) return REDISMODULE_OK;
    int wait = counted_names ? KM_NO_WAIT : KM_WAIT_FOR_REPLICAS;
    int copy = km_store_blocks(ctx, wait) || km_cannot_block(ctx);
    put(ctx, argv[1], model_of(argv, &given, copy, km_blob_new(hold(argv, given.blob, copy))), wait);
    return REDISMODULE_OK;
}

/* AI.MODELSTORE key backend device [TAG tag] [BATCHSIZE n] [MINBATCHSIZE n] [MINBATCHTIMEOUT ms]
 *               [INPUTS n name [name ...]] [OUTPUTS n name [name ...]] BLOB chunk [chunk ...] */
static int modelstore_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc < 6) return RedisModule_WrongArity(ctx);
    return store(ctx, argv, argc, 1);
}

/* AI.MODELSET key backend device [TAG tag] [BATCHSIZE n] [MINBATCHSIZE n] [MINBATCHTIMEOUT ms]
 *             [INPUTS name [name ...]] [OUTPUTS name [name ...]] BLOB chunk [chunk ...]
 * The programs that send it end when it is answered and know nothing of WAIT: hence the wait here. */
static int modelset_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc < 4) return RedisModule_WrongArity(ctx);
    return store(ctx, argv, argc, 0);
}

/* KM.MODELPUT parts key backend device ... as of AI.MODELSTORE, but for BLOB: that is what KM.MODELPART has put at `parts`,
 * which goes when the model is stored. */
static int modelput_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc < 5) return RedisModule_WrongArity(ctx);
    options given = {.tag = "", .is_uploaded = 1};
    const char *error = check(argv + 1, argc - 1, 1, is_told(ctx), &given);
    if (error) return RedisModule_ReplyWithError(ctx, error);
    km_blob *blob = may_store(ctx, argv[2]) ? km_upload_at(ctx, argv[1]) : NULL;
    if (!blob) return REDISMODULE_OK;
    size_t len;
    const char *parts = RedisModule_StringPtrLen(argv[1], &len);
    int later = km_store_blocks(ctx, KM_NO_WAIT);
    km_model *model = model_of(argv + 1, &given, later || km_cannot_block(ctx), km_blob_share(blob));
    model->upload = RedisModule_CreateString(NULL, parts, len);
    put(ctx, argv[2], model, KM_NO_WAIT);
    if (!later) km_upload_take(ctx, argv[1], blob);
    return REDISMODULE_OK;
}

/* KM.MODELGIVE sha256 key backend device ... as of AI.MODELSTORE; sha256: of the blob, "-" while no worker has loaded it.
 * A model that other shards have, and this one is to have; without a key until KM.MODELHOME, as the shard may have no slot. */
static int modelgive_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc < 7) return RedisModule_WrongArity(ctx);
    size_t len;
    const char *hex = RedisModule_StringPtrLen(argv[1], &len);
    int unknown = km_is_word(argv[1], "-");
    if (!unknown && (len != 64 || strspn(hex, "0123456789abcdef") != 64))
        return RedisModule_ReplyWithError(ctx, "ERR the digest must be 64 lower-case hex digits, or -");
    options given = {.tag = ""};
    const char *error = check(argv + 1, argc - 1, 1, 1, &given);
    if (error) return RedisModule_ReplyWithError(ctx, error);
    int copy = km_cannot_block(ctx);
    km_model *model = model_of(argv + 1, &given, copy, km_blob_new(hold(argv + 1, given.blob, copy)));
    if (!unknown) memcpy(model->sha256, hex, 65);
    km_shard_models_keep(argv[2], model);
    return RedisModule_ReplyWithSimpleString(ctx, "OK");
}

/* What both have before and behind the names. */
#define BEFORE_NAMES KM_KEY("key", 0), BEHIND_KEY
#define BEHIND_KEY                                                                                                               \
    KM_TEXT("backend"), KM_TEXT("device"), KM_TEXT("tag", .token = "TAG", .flags = KM_OPTIONAL),               \
        KM_NUMBER("n", .token = "BATCHSIZE", .flags = KM_OPTIONAL), KM_NUMBER("n", .token = "MINBATCHSIZE", .flags = KM_OPTIONAL), \
        KM_NUMBER("ms", .token = "MINBATCHTIMEOUT", .flags = KM_OPTIONAL)
#define BEHIND_NAMES KM_TEXT("chunk", .token = "BLOB", .flags = KM_MANY)

static const km_command commands[] = {
    {"AI.MODELSTORE", modelstore_command, "write deny-oom", -6, KM_KEYS(KM_KEY_AT(1, KM_OVERWRITE)),
     KM_ARGS(BEFORE_NAMES,
             KM_BLOCK("inputs", .token = "INPUTS", .flags = KM_OPTIONAL, .subargs = KM_ARGS(KM_NUMBER("n"), KM_TEXT("name", .flags = KM_MANY))),
             KM_BLOCK("outputs", .token = "OUTPUTS", .flags = KM_OPTIONAL, .subargs = KM_ARGS(KM_NUMBER("n"), KM_TEXT("name", .flags = KM_MANY))),
             BEHIND_NAMES),
     "Stores a model, once a worker has looked into it.", "O(N), with N chunks", NULL},
    {"AI.MODELSET", modelset_command, "write deny-oom", -4, KM_KEYS(KM_KEY_AT(1, KM_OVERWRITE)),
     KM_ARGS(BEFORE_NAMES, KM_TEXT("name", .token = "INPUTS", .flags = KM_OPTIONAL | KM_MANY),
             KM_TEXT("name", .token = "OUTPUTS", .flags = KM_OPTIONAL | KM_MANY),
             BEHIND_NAMES),
     "Stores a model as AI.MODELSTORE does, and waits until the replicas have it.", "O(N), with N chunks", NULL},
    {"km.modelput", modelput_command, "write deny-oom admin", -5, KM_KEYS(KM_KEY_AT(1, KM_REMOVE), KM_KEY_AT(2, KM_OVERWRITE)),
     KM_ARGS(KM_KEY("parts", 0), KM_KEY("key", 1), BEHIND_KEY,
             KM_BLOCK("inputs", .token = "INPUTS", .flags = KM_OPTIONAL, .subargs = KM_ARGS(KM_NUMBER("n"), KM_TEXT("name", .flags = KM_MANY))),
             KM_BLOCK("outputs", .token = "OUTPUTS", .flags = KM_OPTIONAL, .subargs = KM_ARGS(KM_NUMBER("n"), KM_TEXT("name", .flags = KM_MANY)))),
     "Stores a model, whose blob came in parts, once a worker has looked into it.", "O(1)", NULL},
    {"km.modelgive", modelgive_command, "write deny-oom admin", -7, NULL,
     KM_ARGS(KM_TEXT("sha256"), KM_TEXT("key"), BEHIND_KEY,
             KM_BLOCK("inputs", .token = "INPUTS", .flags = KM_OPTIONAL, .subargs = KM_ARGS(KM_NUMBER("n"), KM_TEXT("name", .flags = KM_MANY))),
             KM_BLOCK("outputs", .token = "OUTPUTS", .flags = KM_OPTIONAL, .subargs = KM_ARGS(KM_NUMBER("n"), KM_TEXT("name", .flags = KM_MANY))),
             BEHIND_NAMES),
     "Keeps a model that other shards have, without a key: KM.MODELHOME gives it one.", "O(N), with N chunks", NULL},
};

int km_model_store_register(RedisModuleCtx *ctx) { return KM_REGISTER(ctx, commands); }
