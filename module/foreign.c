/* Reading RedisAI's RDB payloads (types AI_TENSOR, AI__MODEL, AI_SCRIPT; encodings 0 to 4).
 *
 * A value that is loaded belongs to the type it was saved as. So RedisAI's types are registered, too; their values are those of
 * our own types, every command takes both (km_is_type), and at the next tick a key that was loaded gets the value as one of our
 * type, with the time that it has left: from then on it is saved and named as if it had always been ours. Not while it is
 * loaded: a key must not be written there. Nothing is replicated: a replica loads the same payload and does the same. */
#include "foreign.h"

#include <strings.h>

#include "alloc.h"
#include "datatype.h"
#include "events.h"
#include "moving.h"
#include "script.h"
#include "shard_models.h"
#include "tensor.h"

#define MAX_TEXT_BYTES 4096
#define MAX_CHUNKS KM_MODEL_MAX_CHUNKS
#define MAX_AT_A_TICK 10000

static struct {
    RedisModuleType *theirs, *own;
    size_t size;
} types[3];
static int n_types;

typedef struct loaded { /* a key that may have a value of one of their types */
    struct loaded *next;
    int db;
    size_t len;
    char name[];
} loaded;
static loaded *loaded_keys;

int km_foreign_type_register(RedisModuleCtx *ctx, const char *name, RedisModuleTypeMethods *methods, RedisModuleType *own, size_t size) {
    RedisModuleType *theirs = RedisModule_CreateDataType(ctx, name, KM_FOREIGN_VERSION, methods);
    if (!theirs) {
        RedisModule_Log(ctx, "warning", "keymiss: the type %s is another module's: unload RedisAI first", name);
        return REDISMODULE_ERR;
    }
    types[n_types].theirs = theirs;
    types[n_types].own = own;
    types[n_types++].size = size;
    return REDISMODULE_OK;
}

int km_is_type(RedisModuleKey *key, RedisModuleType *type) {
    RedisModuleType *found = RedisModule_ModuleTypeGetType(key);
    if (found == type) return found != NULL;
    for (int i = 0; i < n_types; i++)
        if (types[i].own == type && types[i].theirs == found) return 1;
    return 0;
}

/* ---- becoming ours ---- */

void km_foreign_loaded(RedisModuleIO *rdb) {
    const RedisModuleString *key = RedisModule_GetKeyNameFromIO(rdb);
    if (!key) return;
    size_t len;
    const char *name = RedisModule_StringPtrLen(key, &len);
    loaded *one = km_alloc(sizeof *one + len);
    one->db = RedisModule_GetDbIdFromIO(rdb);
    one->len = len;
    memcpy(one->name, name, len);
    one->next = loaded_keys;
    loaded_keys = one;
}

/* The same contents as a value of its own; what is left of the old one is freed with its key. */
static void *taken_out_of(void *value, size_t size) {
    void *own = km_alloc(size);
    memcpy(own, value, size);
    memset(value, 0, size);
    km_values_bytes_add((long long)size);
    return own;
}

static void make_own(RedisModuleCtx *ctx, const loaded *one) {
    RedisModule_SelectDb(ctx, one->db);
    RedisModuleString *name = RedisModule_CreateString(ctx, one->name, one->len);
    RedisModuleKey *key = RedisModule_OpenKey(ctx, name, REDISMODULE_READ | REDISMODULE_WRITE);
    RedisModuleType *found = RedisModule_ModuleTypeGetType(key);
    for (int i = 0; i < n_types && found; i++) {
        if (types[i].theirs != found) continue;
        mstime_t expire = RedisModule_GetAbsExpire(key);
        void *own = taken_out_of(RedisModule_ModuleTypeGetValue(key), types[i].size);
        RedisModule_ModuleTypeSetValue(key, types[i].own, own);
        if (types[i].own == km_model_type) km_shard_models_note(name, own);
        if (expire != REDISMODULE_NO_EXPIRE) RedisModule_SetAbsExpire(key, expire);
        break;
    }
    RedisModule_CloseKey(key);
    RedisModule_FreeString(ctx, name);
}

static void tick(RedisModuleCtx *ctx, const void *data) {
    (void)data;
    km_move_ended();
    for (int n = 0; loaded_keys && n < MAX_AT_A_TICK; n++) {
        loaded *one = loaded_keys;
        loaded_keys = one->next;
        make_own(ctx, one);
        km_free(one);
    }
    RedisModule_SelectDb(ctx, 0);
}

int km_foreign_register(RedisModuleCtx *ctx) {
    (void)ctx;
    km_on(KM_ON_TICK, tick);
    return REDISMODULE_OK;
}

/* ---- reading ---- */

static int load_number(RedisModuleIO *rdb, uint64_t max, long long *out) {
    uint64_t n = RedisModule_LoadUnsigned(rdb);
    *out = (long long)n;
    return !RedisModule_IsIOError(rdb) && n <= max ? 0 : -1;
}

/* A text, with the NUL that ends it or without. NULL when it is not one. */
static char *load_text(RedisModuleIO *rdb, size_t max) {
    if (RedisModule_IsIOError(rdb)) return NULL;
    size_t len = 0;
    char *raw = RedisModule_LoadStringBuffer(rdb, &len);
    if (!raw) return NULL;
    if (!RedisModule_IsIOError(rdb) && len && raw[len - 1] == '\0') len--;
    char *text = !RedisModule_IsIOError(rdb) && len <= max && !memchr(raw, 0, len) ? km_memdup0(raw, len) : NULL;
    RedisModule_Free(raw);
    return text;
}

static int load_names(RedisModuleIO *rdb, km_strings *out) {
    long long n;
    if (load_number(rdb, KM_MODEL_MAX_NAMES, &n)) return -1;
    out->items = km_calloc((size_t)n, sizeof *out->items);
    while (out->n < n) {
        char *name = load_text(rdb, MAX_TEXT_BYTES);
        if (!name) return -1;
        out->items[out->n++] = RedisModule_CreateString(NULL, name, strlen(name));
        km_free(name);
    }
    return 0;
}

static void *damaged(RedisModuleIO *rdb, const char *what) {
    RedisModule_LogIOError(rdb, "warning", "keymiss: a value that RedisAI saved is damaged, or of a kind that is not known: %s", what);
    return NULL;
}

/* ---- tensors ---- */

static const km_dtype *dtype_of(long long code, long long bits) {
    static const struct {
        int code, bits;
        const char *name;
    } table[] = {{0, 8, "INT8"},   {0, 16, "INT16"},  {0, 32, "INT32"}, {0, 64, "INT64"}, {1, 8, "UINT8"},
                 {1, 16, "UINT16"}, {2, 32, "FLOAT"}, {2, 64, "DOUBLE"}, {6, 8, "BOOL"},  {7, 8, "STRING"}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (table[i].code == code && table[i].bits == bits) return km_dtype_by_name(table[i].name, strlen(table[i].name));
    return NULL;
}

static int load_dims(RedisModuleIO *rdb, long long *dims, long long n) {
    for (long long i = 0; i < n; i++)
        if (load_number(rdb, INT64_MAX, &dims[i])) return -1;
    return 0;
}

/* Behind a tensor of strings: where each of them begins. */
static int offsets_are_right(RedisModuleIO *rdb, const km_tensor *t) {
    size_t at = 0;
    for (long long i = 0; i < t->n_elements; i++) {
        if (RedisModule_LoadUnsigned(rdb) != at || RedisModule_IsIOError(rdb)) return 0;
        at += strlen(t->data + at) + 1;
    }
    return 1;
}

void *km_foreign_tensor(RedisModuleIO *rdb, int encver) {
    if (encver < 0 || encver > 4) return damaged(rdb, "the tensor's version");
    long long skipped, bits, code, lanes = 1, n_dims, dims[KM_TENSOR_MAX_DIMS], strides[KM_TENSOR_MAX_DIMS], offset = 0;
    int bad = encver == 4 ? load_number(rdb, 255, &code) || load_number(rdb, 255, &bits)
                          : load_number(rdb, UINT64_MAX, &skipped) || load_number(rdb, UINT64_MAX, &skipped) /* the device */
                                || load_number(rdb, 255, &bits) || load_number(rdb, 255, &code) || load_number(rdb, 255, &lanes);
    const km_dtype *dtype = bad ? NULL : dtype_of(code, bits);
    if (!dtype || lanes != 1) return damaged(rdb, "the tensor's type");
    if (load_number(rdb, KM_TENSOR_MAX_DIMS, &n_dims) || load_dims(rdb, dims, n_dims)) return damaged(rdb, "the tensor's dimensions");
    if (encver < 4) {
        if (load_dims(rdb, strides, n_dims) || load_number(rdb, INT64_MAX, &offset)) return damaged(rdb, "the tensor's strides");
        unsigned long long row = 1;
        for (long long i = n_dims - 1; i >= 0; row *= (unsigned long long)dims[i--])
            if (dims[i] > 1 && (unsigned long long)strides[i] != row) return damaged(rdb, "the tensor's strides");
        if (offset) return damaged(rdb, "the tensor's offset");
    }
    size_t n_bytes = 0;
    char *data = RedisModule_LoadStringBuffer(rdb, &n_bytes);
    if (!data) return damaged(rdb, "the tensor's data");
    const char *error = "the tensor's end";
    km_tensor *t = RedisModule_IsIOError(rdb) ? NULL : km_tensor_of(dtype, dims, (int)n_dims, data, n_bytes, &error);
    if (!t) {
        RedisModule_Free(data);
        return damaged(rdb, error);
    }
    if (dtype->kind == 's' && !offsets_are_right(rdb, t)) {
        km_tensor_free(t);
        return damaged(rdb, "where the tensor's strings begin");
    }
    km_foreign_loaded(rdb);
    return t;
}

/* ---- models ---- */

/* From version 1 on a blob is its length, the number of chunks, and they. */
static int load_chunks(RedisModuleIO *rdb, int encver, km_strings *out) {
    long long n_bytes = -1, n = 1;
    if (encver > 0 && (load_number(rdb, INT64_MAX, &n_bytes) || load_number(rdb, MAX_CHUNKS, &n))) return -1;
    out->items = km_calloc((size_t)n, sizeof *out->items);
    while (out->n < n) {
        RedisModuleString *chunk = RedisModule_IsIOError(rdb) ? NULL : RedisModule_LoadString(rdb);
        if (!chunk) return -1;
        out->items[out->n++] = chunk;
        if (RedisModule_IsIOError(rdb)) return -1;
    }
    size_t found = km_strings_bytes(out);
    return found && (n_bytes < 0 || found == (size_t)n_bytes) ? 0 : -1;
}

void *km_foreign_model(RedisModuleIO *rdb, int encver) {
    if (encver < 0 || encver > 4) return damaged(rdb, "the model's version");
    static const char *const backends[] = {"TF", "TFLITE", "TORCH", "ONNX"};
    long long backend, batch[3] = {0};
    char *device = NULL, *tag = NULL;
    km_strings inputs = {0}, outputs = {0}, chunks = {0};
    const char *bad = NULL;
    if (load_number(rdb, 3, &backend)) bad = "the model's backend";
    if (!bad && (!(device = load_text(rdb, MAX_TEXT_BYTES)) || !(tag = load_text(rdb, MAX_TEXT_BYTES)))) bad = "the model's device or tag";
    for (int i = 0; i < (encver < 2 ? 2 : 3) && !bad; i++)
        if (load_number(rdb, INT32_MAX, &batch[i])) bad = "the model's batch settings";
    if (!bad && (load_names(rdb, &inputs) || load_names(rdb, &outputs))) bad = "the model's inputs and outputs";
    if (!bad && load_chunks(rdb, encver, &chunks)) bad = "the model's blob";
    if (!bad) {
        km_model *m = km_model_new(km_memdup0(backends[backend], strlen(backends[backend])), device, tag, inputs, outputs, km_blob_new(chunks));
        m->batch_size = batch[0];
        m->min_batch_size = batch[1];
        m->min_batch_timeout_ms = batch[2];
        km_foreign_loaded(rdb);
        return m;
    }
    km_free(device);
    km_free(tag);
    km_strings_free(&inputs);
    km_strings_free(&outputs);
    km_strings_free(&chunks);
    return damaged(rdb, bad);
}

/* ---- scripts ---- */

void *km_foreign_script(RedisModuleIO *rdb, int encver) {
    char *device = NULL, *tag = NULL, *source = NULL;
    km_strings entry_points = {0};
    if (encver >= 0 && encver <= 4 && (device = load_text(rdb, MAX_TEXT_BYTES)) && (tag = load_text(rdb, MAX_TEXT_BYTES)) &&
        (source = load_text(rdb, KM_SCRIPT_MAX_BYTES)) && (encver < 3 || load_names(rdb, &entry_points) == 0)) {
        km_foreign_loaded(rdb);
        return km_script_new(device, tag, source, strlen(source), entry_points);
    }
    km_free(device);
    km_free(tag);
    km_free(source);
    km_strings_free(&entry_points);
    return damaged(rdb, "a script");
}
