#include "tensor.h"

#include <limits.h>
#include <strings.h>

#include "alloc.h"
#include "datatype.h"
#include "foreign.h"

#define RDB_VERSION 1

RedisModuleType *km_tensor_type;

static const km_dtype dtypes[] = {
    {"FLOAT", 4, 'f', 0, 0},          {"DOUBLE", 8, 'f', 0, 0},          {"INT8", 1, 'i', INT8_MIN, INT8_MAX},
    {"INT16", 2, 'i', INT16_MIN, INT16_MAX}, {"INT32", 4, 'i', INT32_MIN, INT32_MAX}, {"INT64", 8, 'i', INT64_MIN, INT64_MAX},
    {"UINT8", 1, 'u', 0, UINT8_MAX},  {"UINT16", 2, 'u', 0, UINT16_MAX}, {"BOOL", 1, 'b', 0, 1},
    {"STRING", 1, 's', 0, 0},
};

const km_dtype *km_dtype_by_name(const char *name, size_t len) {
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++)
        if (strlen(dtypes[i].name) == len && strncasecmp(dtypes[i].name, name, len) == 0) return &dtypes[i];
    return NULL;
}

long long km_tensor_elements(const km_dtype *dtype, const long long *dims, int n_dims) {
    long long n = 1;
    for (int i = 0; i < n_dims; i++) {
        if (dims[i] < 1 || dims[i] > KM_TENSOR_MAX_BYTES / (long long)dtype->size / n) return -1;
        n *= dims[i];
    }
    return n;
}

static km_tensor *tensor_with(const km_dtype *dtype, const long long *dims, int n_dims, char *data, size_t n_bytes) {
    km_tensor *t = km_calloc(1, sizeof *t);
    t->dtype = dtype;
    t->n_dims = n_dims;
    if (n_dims) memcpy(t->dims, dims, sizeof *dims * (size_t)n_dims);
    t->n_elements = km_tensor_elements(dtype, dims, n_dims);
    t->n_bytes = n_bytes;
    t->data = data;
    km_values_bytes_add((long long)(sizeof *t + n_bytes));
    return t;
}

km_tensor *km_tensor_new(const km_dtype *dtype, const long long *dims, int n_dims) {
    size_t n_bytes = (size_t)km_tensor_elements(dtype, dims, n_dims) * dtype->size;
    return tensor_with(dtype, dims, n_dims, km_calloc(1, n_bytes), n_bytes);
}

/* NULL if the bytes are n elements of the type. */
static const char *data_error(const km_dtype *dtype, long long n, const char *data, size_t n_bytes) {
    if (dtype->kind == 's') {
        long long ends = 0;
        for (const char *at = data, *nul; ends <= n && (nul = memchr(at, 0, n_bytes - (size_t)(at - data))); at = nul + 1) ends++;
        return ends == n && n_bytes && data[n_bytes - 1] == '\0' ? NULL : "ERR Number of string elements in data blob does not match tensor length";
    }
    if (n_bytes != (size_t)n * dtype->size) return "ERR data length does not match tensor shape and type";
    for (size_t i = 0; dtype->kind == 'b' && i < n_bytes; i++)
        if ((unsigned char)data[i] > 1) return "ERR BOOL tensor elements must be 0 or 1";
    return NULL;
}

km_tensor *km_tensor_of(const km_dtype *dtype, const long long *dims, int n_dims, char *data, size_t n_bytes, const char **error) {
    long long n = km_tensor_elements(dtype, dims, n_dims);
    *error = n < 0 ? "ERR the dimensions make a tensor of more than 1 GiB" : data_error(dtype, n, data, n_bytes);
    return *error ? NULL : tensor_with(dtype, dims, n_dims, data, n_bytes);
}

void km_tensor_free(km_tensor *t) {
    if (!t) return;
    km_values_bytes_add(-(long long)(sizeof *t + t->n_bytes));
    km_free(t->data);
    km_free(t);
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
    if (RedisModule_IsIOError(rdb) || n_dims > KM_TENSOR_MAX_DIMS) return load_failed(rdb, "its number of dimensions");
    long long dims[KM_TENSOR_MAX_DIMS];
    for (uint64_t i = 0; i < n_dims; i++) {
        uint64_t dim = RedisModule_LoadUnsigned(rdb);
        if (RedisModule_IsIOError(rdb) || dim > INT64_MAX) return load_failed(rdb, "its dimensions");
        dims[i] = (long long)dim;
    }
    /* The data first: dimensions that promise more than there is allocate nothing. */
    size_t n_bytes = 0;
    char *data = RedisModule_LoadStringBuffer(rdb, &n_bytes);
    if (!data) return load_failed(rdb, "its data");
    const char *error = "its data's end";
    km_tensor *t = RedisModule_IsIOError(rdb) ? NULL : km_tensor_of(dtype, dims, (int)n_dims, data, n_bytes, &error);
    if (t) return t;
    RedisModule_Free(data);
    return load_failed(rdb, error);
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
    return tensor_with(t->dtype, t->dims, t->n_dims, km_memdup0(t->data, t->n_bytes), t->n_bytes);
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

static void *foreign_load(RedisModuleIO *rdb, int encver) {
    if (encver != KM_FOREIGN_VERSION) return km_foreign_tensor(rdb, encver);
    km_foreign_loaded(rdb);
    return rdb_load(rdb, RDB_VERSION);
}

int km_tensor_type_register(RedisModuleCtx *ctx) {
    RedisModuleTypeMethods methods = {
        .version = REDISMODULE_TYPE_METHOD_VERSION, .rdb_load = rdb_load, .rdb_save = rdb_save, .aof_rewrite = aof_rewrite,
        .mem_usage = mem_usage, .digest = digest, .free = type_free, .copy = copy,
    };
    km_tensor_type = RedisModule_CreateDataType(ctx, "km-tensor", RDB_VERSION, &methods);
    if (!km_tensor_type) return REDISMODULE_ERR;
    methods.rdb_load = foreign_load;
    return km_foreign_type_register(ctx, "AI_TENSOR", &methods, km_tensor_type, sizeof(km_tensor));
}
