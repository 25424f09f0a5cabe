#include "tensor.h"

#include <float.h>
#include <limits.h>
#include <math.h>
#include <strings.h>

#include "alloc.h"
#include "datatype.h"

#define RDB_VERSION 1

RedisModuleType *km_tensor_type;

static const km_dtype dtypes[] = {
    {"FLOAT", 4, 'f', 0, 0},          {"DOUBLE", 8, 'f', 0, 0},          {"INT8", 1, 'i', INT8_MIN, INT8_MAX},
    {"INT16", 2, 'i', INT16_MIN, INT16_MAX}, {"INT32", 4, 'i', INT32_MIN, INT32_MAX}, {"INT64", 8, 'i', INT64_MIN, INT64_MAX},
    {"UINT8", 1, 'u', 0, UINT8_MAX},  {"UINT16", 2, 'u', 0, UINT16_MAX}, {"BOOL", 1, 'b', 0, 1},
};

const km_dtype *km_dtype_by_name(const char *name, size_t len) {
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++)
        if (strlen(dtypes[i].name) == len && strncasecmp(dtypes[i].name, name, len) == 0) return &dtypes[i];
    return NULL;
}

km_tensor *km_tensor_new(const km_dtype *dtype, const long long *dims, int n_dims, const char **error) {
    *error = NULL;
    if (n_dims < 1 || n_dims > KM_TENSOR_MAX_DIMS) *error = "ERR a tensor has from 1 to 32 dimensions";
    long long n = 1;
    for (int i = 0; i < n_dims && !*error; i++) {
        if (dims[i] < 1)
            *error = "ERR every dimension of a tensor must be a whole number, 1 or more";
        else if (dims[i] > KM_TENSOR_MAX_BYTES / (long long)dtype->size / n)
            *error = "ERR the dimensions make a tensor of more than 1 GiB";
        else
            n *= dims[i];
    }
    if (*error) return NULL;
    km_tensor *t = km_calloc(1, sizeof *t);
    t->dtype = dtype;
    t->n_dims = n_dims;
    memcpy(t->dims, dims, sizeof *dims * (size_t)n_dims);
    t->n_elements = n;
    t->n_bytes = (size_t)n * dtype->size;
    t->data = km_calloc(1, t->n_bytes);
    km_values_bytes_add((long long)(sizeof *t + t->n_bytes));
    return t;
}

void km_tensor_free(km_tensor *t) {
    if (!t) return;
    km_values_bytes_add(-(long long)(sizeof *t + t->n_bytes));
    km_free(t->data);
    km_free(t);
}

int km_tensor_set_value(km_tensor *t, long long i, RedisModuleString *text) {
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

void km_tensor_reply_value(RedisModuleCtx *ctx, const km_tensor *t, long long i) {
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

/* ---- the data type ---- */

static void rdb_save(RedisModuleIO *rdb, void *value) {
    const km_tensor *t = value;
    RedisModule_SaveStringBuffer(rdb, t->dtype->name, strlen(t->dtype->name));
    RedisModule_SaveUnsigned(rdb, (uint64_t)t->n_dims);
    for (int i = 0; i < t->n_dims; i++) RedisModule_SaveUnsigned(rdb, (uint64_t)t->dims[i]);
    RedisModule_SaveStringBuffer(rdb, t->data, t->n_bytes);
}

static void *load_failed(RedisModuleIO *rdb, const char *what) {
    RedisModule_LogIOError(rdb, "warning", "keymiss: a saved tensor is damaged: %s", what);
    return NULL;
}

static void *rdb_load(RedisModuleIO *rdb, int encver) {
    if (encver != RDB_VERSION) return load_failed(rdb, "a version this module does not know");
    size_t len = 0;
    char *name = RedisModule_LoadStringBuffer(rdb, &len);
    if (!name) return load_failed(rdb, "its type");
    const km_dtype *dtype = RedisModule_IsIOError(rdb) ? NULL : km_dtype_by_name(name, len);
    RedisModule_Free(name);
    if (!dtype) return load_failed(rdb, "its type");
    uint64_t n_dims = RedisModule_LoadUnsigned(rdb);
    if (RedisModule_IsIOError(rdb) || n_dims < 1 || n_dims > KM_TENSOR_MAX_DIMS) return load_failed(rdb, "its number of dimensions");
    long long dims[KM_TENSOR_MAX_DIMS], n = 1;
    for (uint64_t i = 0; i < n_dims; i++) {
        uint64_t dim = RedisModule_LoadUnsigned(rdb);
        if (RedisModule_IsIOError(rdb) || dim < 1 || dim > (uint64_t)(KM_TENSOR_MAX_BYTES / (long long)dtype->size / n))
            return load_failed(rdb, "its dimensions");
        dims[i] = (long long)dim;
        n *= dims[i];
    }
    /* The data first: dimensions that promise more than there is allocate nothing. */
    size_t n_bytes = 0;
    char *data = RedisModule_LoadStringBuffer(rdb, &n_bytes);
    if (!data) return load_failed(rdb, "its data");
    if (RedisModule_IsIOError(rdb) || n_bytes != (size_t)n * dtype->size) {
        RedisModule_Free(data);
        return load_failed(rdb, "its data's length");
    }
    for (size_t i = 0; dtype->kind == 'b' && i < n_bytes; i++) {
        if ((unsigned char)data[i] <= 1) continue;
        RedisModule_Free(data);
        return load_failed(rdb, "a BOOL that is neither 0 nor 1");
    }
    km_tensor *t = km_calloc(1, sizeof *t);
    t->dtype = dtype;
    t->n_dims = (int)n_dims;
    memcpy(t->dims, dims, sizeof *dims * n_dims);
    t->n_elements = n;
    t->n_bytes = n_bytes;
    t->data = data;
    km_values_bytes_add((long long)(sizeof *t + n_bytes));
    return t;
}

static void aof_rewrite(RedisModuleIO *aof, RedisModuleString *key, void *value) {
    const km_tensor *t = value;
    RedisModuleString *dims[KM_TENSOR_MAX_DIMS];
    for (int i = 0; i < t->n_dims; i++) dims[i] = RedisModule_CreateStringPrintf(NULL, "%lld", t->dims[i]);
    RedisModule_EmitAOF(aof, "AI.TENSORSET", "scvcb", key, t->dtype->name, dims, (size_t)t->n_dims, "BLOB", t->data, t->n_bytes);
    for (int i = 0; i < t->n_dims; i++) RedisModule_FreeString(NULL, dims[i]);
}

static void *copy(RedisModuleString *from, RedisModuleString *to, const void *value) {
    (void)from;
    (void)to;
    const km_tensor *t = value;
    const char *error;
    km_tensor *twin = km_tensor_new(t->dtype, t->dims, t->n_dims, &error);
    if (twin) memcpy(twin->data, t->data, t->n_bytes);
    return twin;
}

static size_t mem_usage(const void *value) {
    const km_tensor *t = value;
    return sizeof *t + t->n_bytes;
}

static void digest(RedisModuleDigest *md, void *value) {
    const km_tensor *t = value;
    RedisModule_DigestAddStringBuffer(md, t->dtype->name, strlen(t->dtype->name));
    for (int i = 0; i < t->n_dims; i++) RedisModule_DigestAddLongLong(md, t->dims[i]);
    RedisModule_DigestAddStringBuffer(md, t->data, t->n_bytes);
    RedisModule_DigestEndSequence(md);
}

static void type_free(void *value) { km_tensor_free(value); }

int km_tensor_type_register(RedisModuleCtx *ctx) {
    RedisModuleTypeMethods methods = {
        .version = REDISMODULE_TYPE_METHOD_VERSION, .rdb_load = rdb_load, .rdb_save = rdb_save, .aof_rewrite = aof_rewrite,
        .mem_usage = mem_usage, .digest = digest, .free = type_free, .copy = copy,
    };
    km_tensor_type = RedisModule_CreateDataType(ctx, "km-tensor", RDB_VERSION, &methods);
    return km_tensor_type ? REDISMODULE_OK : REDISMODULE_ERR;
}
