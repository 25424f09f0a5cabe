/* What RedisAI shows in INFO, as sections of this module's. */
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "command.h"
#include "load_args.h"

#define RDB_ENCODING 4 /* of RedisAI's, the last that foreign.c reads */
#define MAX_VERSION_BYTES 32

/* A worker says the versions of what it runs models with, once it has. */
static struct {
    const char *name, *field;
    char version[MAX_VERSION_BYTES + 1];
} backends[] = {{"torch", "Torch_version", ""}, {"onnx", "onnxruntime_version", ""}};

static void seconds(RedisModuleInfoCtx *ctx, const char *field, struct timeval t) {
    char text[48];
    snprintf(text, sizeof text, "%ld.%06ld", (long)t.tv_sec, (long)t.tv_usec);
    RedisModule_InfoAddFieldCString(ctx, field, text);
}

void km_ai_info(RedisModuleInfoCtx *ctx) {
    if (RedisModule_InfoAddSection(ctx, "versions") == REDISMODULE_OK) {
        RedisModule_InfoAddFieldCString(ctx, "RedisAI_version", "1.2"); /* whose commands these are */
        RedisModule_InfoAddFieldCString(ctx, "low_level_API_version", "none");
        RedisModule_InfoAddFieldLongLong(ctx, "rdb_version", RDB_ENCODING);
    }
    if (RedisModule_InfoAddSection(ctx, "git") == REDISMODULE_OK) RedisModule_InfoAddFieldCString(ctx, "git_sha", "none");
    if (RedisModule_InfoAddSection(ctx, "load_time_configs") == REDISMODULE_OK) {
        RedisModule_InfoAddFieldLongLong(ctx, "threads_per_queue", km_load_args.threads_per_queue);
        RedisModule_InfoAddFieldLongLong(ctx, "inter_op_parallelism", km_load_args.inter_op_parallelism);
        RedisModule_InfoAddFieldLongLong(ctx, "intra_op_parallelism", km_load_args.intra_op_parallelism);
        RedisModule_InfoAddFieldLongLong(ctx, "model_execution_timeout", km_load_args.model_execution_timeout);
        RedisModule_InfoAddFieldLongLong(ctx, "backend_memory_limit", km_load_args.backend_memory_limit);
    }
    if (RedisModule_InfoAddSection(ctx, "backends_info") == REDISMODULE_OK)
        for (size_t i = 0; i < sizeof backends / sizeof *backends; i++)
            if (backends[i].version[0]) RedisModule_InfoAddFieldCString(ctx, backends[i].field, backends[i].version);
    if (RedisModule_InfoAddSection(ctx, "cpu") == REDISMODULE_OK) {
        struct rusage self, children;
        getrusage(RUSAGE_SELF, &self);
        getrusage(RUSAGE_CHILDREN, &children);
        seconds(ctx, "self_used_cpu_sys", self.ru_stime);
        seconds(ctx, "self_used_cpu_user", self.ru_utime);
        seconds(ctx, "children_used_cpu_sys", children.ru_stime);
        seconds(ctx, "children_used_cpu_user", children.ru_utime);
    }
}

/* KM.BACKEND name version */
static int backend_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc != 3) return RedisModule_WrongArity(ctx);
    size_t len;
    const char *version = RedisModule_StringPtrLen(argv[2], &len);
    if (len > MAX_VERSION_BYTES || strspn(version, "0123456789abcdefghijklmnopqrstuvwxyz.+-_") != len)
        return RedisModule_ReplyWithError(ctx, "ERR a version has at most 32 of 0-9 a-z . + - _");
    for (size_t i = 0; i < sizeof backends / sizeof *backends; i++) {
        if (!km_is_word(argv[1], backends[i].name)) continue;
        memcpy(backends[i].version, version, len + 1);
        return RedisModule_ReplyWithSimpleString(ctx, "OK");
    }
    return RedisModule_ReplyWithError(ctx, "ERR unknown backend: TORCH or ONNX");
}

static const km_command commands[] = {
    {"km.backend", backend_command, "admin fast", 3, NULL, KM_ARGS(KM_TEXT("name"), KM_TEXT("version")),
     "Tells the version of what a worker runs models with.", "O(1)", NULL},
};

int km_ai_info_register(RedisModuleCtx *ctx) { return KM_REGISTER(ctx, commands); }
