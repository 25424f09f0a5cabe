/* AI.TENSORSET and AI.TENSORGET, and what their arguments mean also as steps of a DAG. Texts and order of the checks are
 * RedisAI's. */
#include <float.h>
#include <math.h>

#include "command.h"
#include "alloc.h"
#include "errors.h"
#include "tensor.h"

/* VALUES is for people: 4 Mi of them are 120 MB of reply at most and 0.1 s of the main thread. */
#define MAX_VALUES_REPLY (1LL << 22)

static const char invalid_value[] = "ERR invalid value";

/* 0, or -1 when the text is not a value of the type. */
static int set_number(km_tensor *t, long long i, RedisModuleString *text) {
    char *at = t->data + (size_t)i * t->dtype->size;
    if (t->dtype->kind == 'f') {
        double d;
        if (RedisModule_StringToDouble(text, &d) != REDISMODULE_OK) return -1;
        if (t->dtype->size == 8) {
            memcpy(at, &d, 8);
        } else {
            if (fabs(d) > FLT_MAX && !isinf(d)) return -1;
            float f = (float)d;
            memcpy(at, &f, 4);
        }
        return 0;
    }
    long long n;
    if (RedisModule_StringToLongLong(text, &n) != REDISMODULE_OK || n < t->dtype->min || n > t->dtype->max) return -1;
    memcpy(at, &n, t->dtype->size); /* little endian, two's complement: the low bytes */
    return 0;
}

static km_tensor *of_numbers(const km_dtype *dtype, const long long *dims, int n_dims, RedisModuleString **values, const char **error) {
    km_tensor *t = km_tensor_new(dtype, dims, n_dims);
    for (long long i = 0; i < t->n_elements; i++) {
        if (set_number(t, i, values[i]) == 0) continue;
        km_tensor_free(t);
        *error = invalid_value;
        return NULL;
    }
    return t;
}

/* A string may have the NUL that ends it, or not. */
static km_tensor *of_strings(const km_dtype *dtype, const long long *dims, int n_dims, RedisModuleString **values, const char **error) {
    long long n = km_tensor_elements(dtype, dims, n_dims);
    size_t n_bytes = 0, len;
    for (long long i = 0; i < n; i++) {
        const char *text = RedisModule_StringPtrLen(values[i], &len);
        const char *nul = memchr(text, 0, len);
        if (nul && nul != text + len - 1) {
            *error = "ERR C-string value contains null character";
            return NULL;
        }
        n_bytes += nul ? len : len + 1;
    }
    char *data = km_calloc(1, n_bytes), *at = data;
    for (long long i = 0; i < n; i++) {
        const char *text = RedisModule_StringPtrLen(values[i], &len);
        size_t without = strnlen(text, len);
        memcpy(at, text, without);
        at += without + 1;
    }
    km_tensor *t = km_tensor_of(dtype, dims, n_dims, data, n_bytes, error);
    if (!t) km_free(data);
    return t;
}

km_tensor *km_tensor_from_arguments(RedisModuleString **argv, int argc, const char **error) {
    *error = "ERR wrong number of arguments for 'AI.TENSORSET' command";
    if (argc < 4) return NULL;
    size_t len;
    const char *type_name = RedisModule_StringPtrLen(argv[2], &len);
    const km_dtype *dtype = km_dtype_by_name(type_name, len);
    *error = "ERR invalid data type";
    if (!dtype) return NULL;
    long long dims[KM_TENSOR_MAX_DIMS], n = 1; /* n: -1 when they are too many */
    int n_dims = 0, i = 3, has_blob = 0, has_values = 0;
    for (; i < argc; i++) {
        has_blob = km_is_word(argv[i], "blob");
        has_values = km_is_word(argv[i], "values");
        if (has_blob || has_values) break;
        *error = "ERR a tensor has at most 32 dimensions";
        if (n_dims == KM_TENSOR_MAX_DIMS) return NULL;
        *error = "ERR invalid or negative value found in tensor shape";
        if (RedisModule_StringToLongLong(argv[i], &dims[n_dims]) != REDISMODULE_OK || dims[n_dims] < 1) return NULL;
        n_dims++;
        n = km_tensor_elements(dtype, dims, n_dims);
        if (n < 0) n_dims--, i = argc; /* the rest changes nothing */
    }
    i++;
    *error = "ERR the dimensions make a tensor of more than 1 GiB";
    if (n < 0) return NULL;
    if (has_blob) {
        *error = "ERR a single binary string should come after the BLOB argument in 'AI.TENSORSET' command";
        if (argc - i != 1) return NULL;
        const char *blob = RedisModule_StringPtrLen(argv[i], &len);
        /* Before it is copied: huge dimensions with a small blob, or the other way round, cost nothing. */
        *error = "ERR data length does not match tensor shape and type";
        if (dtype->kind != 's' && len != (size_t)n * dtype->size) return NULL;
        char *data = km_memdup0(blob, len);
        km_tensor *t = km_tensor_of(dtype, dims, n_dims, data, len, error);
        if (!t) km_free(data);
        return t;
    }
    if (!has_values) return km_tensor_new(dtype, dims, n_dims);
    *error = "ERR wrong number of values was given in 'AI.TENSORSET' command";
    if (argc - i != n) return NULL;
    return dtype->kind == 's' ? of_strings(dtype, dims, n_dims, argv + i, error) : of_numbers(dtype, dims, n_dims, argv + i, error);
}

/* AI.TENSORSET key type [dim [dim ...]] [BLOB data | VALUES value [value ...]] */
static int tensorset_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc < 4) return RedisModule_WrongArity(ctx);
    RedisModuleKey *key = km_open_for_write(ctx, argv[1], km_tensor_type);
    if (!key) return REDISMODULE_OK;
    const char *error;
    km_tensor *tensor = km_tensor_from_arguments(argv, argc, &error);
    if (!tensor) {
        RedisModule_CloseKey(key);
        return RedisModule_ReplyWithError(ctx, error);
    }
    RedisModule_ModuleTypeSetValue(key, km_tensor_type, tensor);
    km_written(ctx, key, argv[1], "tensorset");
    return RedisModule_ReplyWithSimpleString(ctx, "OK");
}

const char *km_tensor_parts(RedisModuleString **argv, int argc, int *parts) {
    *parts = 0;
    if (argc < 2 || argc > 4) return "ERR wrong number of arguments for 'AI.TENSORGET' command";
    if (argc == 2) *parts = KM_GET_META | KM_GET_BLOB;
    for (int i = 2; i < argc; i++) {
        int part = km_is_word(argv[i], "meta") ? KM_GET_META : km_is_word(argv[i], "blob") ? KM_GET_BLOB : km_is_word(argv[i], "values") ? KM_GET_VALUES : 0;
        if (!part) return "ERR unsupported data format";
        *parts |= part;
    }
    return *parts & KM_GET_BLOB && *parts & KM_GET_VALUES ? "ERR both BLOB and VALUES specified" : NULL;
}

static void reply_number(RedisModuleCtx *ctx, const km_tensor *t, long long i) {
    const char *at = t->data + (size_t)i * t->dtype->size;
    double d;
    float f;
    int64_t n = 0;
    switch (t->dtype->kind) {
    case 'f':
        if (t->dtype->size == 8) {
            memcpy(&d, at, 8);
        } else {
            memcpy(&f, at, 4);
            d = f;
        }
        RedisModule_ReplyWithDouble(ctx, d);
        return;
    case 'i':
        if (t->dtype->size == 8) {
            memcpy(&n, at, 8);
        } else {
            uint64_t low = 0, sign = 1ULL << (t->dtype->size * 8 - 1);
            memcpy(&low, at, t->dtype->size);
            n = (int64_t)((low ^ sign) - sign);
        }
        break;
    default: memcpy(&n, at, t->dtype->size);
    }
    RedisModule_ReplyWithLongLong(ctx, n);
}

static void reply_values(RedisModuleCtx *ctx, const km_tensor *t) {
    RedisModule_ReplyWithArray(ctx, (long)t->n_elements);
    const char *text = t->data;
    for (long long i = 0; i < t->n_elements; i++) {
        if (t->dtype->kind != 's') {
            reply_number(ctx, t, i);
            continue;
        }
        RedisModule_ReplyWithCString(ctx, text);
        text += strlen(text) + 1;
    }
}

/* AI.TENSORGET key [META] [BLOB | VALUES] */
static int tensorget_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc < 2 || argc > 4) return RedisModule_WrongArity(ctx);
    const km_tensor *t = km_value_at(ctx, argv[1], km_tensor_type, km_no_tensor);
    if (!t) return REDISMODULE_OK;
    int parts;
    const char *error = km_tensor_parts(argv, argc, &parts);
    if (!error && parts & KM_GET_VALUES && t->n_elements > MAX_VALUES_REPLY)
        error = "ERR the tensor has more than 4194304 values: ask for its BLOB";
    if (error) return RedisModule_ReplyWithError(ctx, error);
    int alone = !(parts & KM_GET_META);
    if (!alone) {
        RedisModule_ReplyWithArray(ctx, parts == KM_GET_META ? 4 : 6);
        km_reply_text(ctx, "dtype", t->dtype->name);
        RedisModule_ReplyWithCString(ctx, "shape");
        RedisModule_ReplyWithArray(ctx, t->n_dims);
        for (int i = 0; i < t->n_dims; i++) RedisModule_ReplyWithLongLong(ctx, t->dims[i]);
    }
    if (parts & KM_GET_BLOB) {
        if (!alone) RedisModule_ReplyWithCString(ctx, "blob");
        RedisModule_ReplyWithStringBuffer(ctx, t->data, t->n_bytes);
    } else if (parts & KM_GET_VALUES) {
        if (!alone) RedisModule_ReplyWithCString(ctx, "values");
        reply_values(ctx, t);
    }
    return REDISMODULE_OK;
}

static const km_command commands[] = {
    {"AI.TENSORSET", tensorset_command, "write deny-oom", -4, KM_KEYS(KM_KEY_AT(1, KM_OVERWRITE)),
     KM_ARGS(KM_KEY("key", 0), KM_TEXT("type"), KM_NUMBER("dim", .flags = KM_OPTIONAL | KM_MANY),
             KM_ONE_OF("contents", .flags = KM_OPTIONAL,
                       .subargs = KM_ARGS(KM_TEXT("data", .token = "BLOB"), KM_TEXT("value", .token = "VALUES", .flags = KM_MANY)))),
     "Stores a tensor.", "O(N), with N elements", NULL},
    {"AI.TENSORGET", tensorget_command, "readonly", -2, KM_KEYS(KM_KEY_AT(1, KM_READ)),
     KM_ARGS(KM_KEY("key", 0), KM_WORD("meta", "META", .flags = KM_OPTIONAL),
             KM_ONE_OF("contents", .flags = KM_OPTIONAL, .subargs = KM_ARGS(KM_WORD("blob", "BLOB"), KM_WORD("values", "VALUES")))),
     "Gives a tensor's type, shape and contents.", "O(N), with N elements", NULL},
};

int km_tensor_commands_register(RedisModuleCtx *ctx) {
    if (km_tensor_type_register(ctx) != REDISMODULE_OK) return REDISMODULE_ERR;
    return KM_REGISTER(ctx, commands);
}
