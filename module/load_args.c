#include "load_args.h"

#include "command.h"
#include "core.h"
#include "gears_config.h"

#define MAX_CHUNK_SIZE (1LL << 40)

km_load_arguments km_load_args = {.model_chunk_size = 511LL * 1024 * 1024}; /* what a client can send as one argument */

int km_load_args_chunk_size(RedisModuleString *arg) {
    long long size; /* what is no size must not become one */
    if (km_read_number(arg, 1, MAX_CHUNK_SIZE, &size)) return -1;
    km_load_args.model_chunk_size = size;
    return 0;
}

/* said: what becomes of it, where that is not all that RedisAI made of it. */
static const struct {
    const char *word;
    long long *value, min, max;
    const char *said;
} numbers[] = {
    {"threads_per_queue", &km_load_args.threads_per_queue, 1, 1024, "a worker has as many as its --model-threads says"},
    {"inter_op_parallelism", &km_load_args.inter_op_parallelism, 1, 1024, "a worker runs each model on one thread, and several models at once"},
    {"intra_op_parallelism", &km_load_args.intra_op_parallelism, 1, 1024, "a worker runs each model on one thread, and several models at once"},
    {"model_chunk_size", &km_load_args.model_chunk_size, 1, MAX_CHUNK_SIZE, NULL},
    {"model_execution_timeout", &km_load_args.model_execution_timeout, 1000, 86400000, NULL},
    {"backend_memory_limit", &km_load_args.backend_memory_limit, 1, 1LL << 40, "limit the worker's memory where it is started (systemd, containers)"},
};

/* They say where RedisAI's backend libraries are. */
static const char *const libraries[] = {"backendspath", "tf", "tflite", "torch", "onnx"};

static int read_one(RedisModuleCtx *ctx, RedisModuleString *name, RedisModuleString *value) {
    const char *text = RedisModule_StringPtrLen(name, NULL);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        if (!km_is_word(name, numbers[i].word)) continue;
        if (km_read_number(value, numbers[i].min, numbers[i].max, numbers[i].value) == 0) {
            if (numbers[i].said) RedisModule_Log(ctx, "notice", "keymiss: %s is not the server's to decide here: %s", text, numbers[i].said);
            return 0;
        }
        RedisModule_Log(ctx, "warning", "keymiss: %s is a whole number from %lld to %lld", text, numbers[i].min, numbers[i].max);
        return -1;
    }
    for (size_t i = 0; i < sizeof libraries / sizeof *libraries; i++) {
        if (!km_is_word(name, libraries[i])) continue;
        RedisModule_Log(ctx, "notice", "keymiss: %s is not needed: backends are part of the worker, which has TORCH and ONNX", text);
        return 0;
    }
    km_gears_config_load_one(ctx, name, value);
    return 0;
}

int km_load_args_read(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc % 2) {
        RedisModule_Log(ctx, "warning", "keymiss: load arguments are pairs of a name and a value");
        return -1;
    }
    for (int i = 0; i < argc; i += 2)
        if (read_one(ctx, argv[i], argv[i + 1])) return -1;
    if (km_load_args.model_execution_timeout) km_config.model_timeout_ms = km_load_args.model_execution_timeout;
    return 0;
}
