/* A tensor: a data type, dimensions, and its elements in C order, little endian. */
#ifndef KM_TENSOR_H
#define KM_TENSOR_H

#include "kmapi.h"

#define KM_TENSOR_MAX_DIMS 32
#define KM_TENSOR_MAX_BYTES (1LL << 30) /* 1 GiB: twice what one argument can carry */

typedef struct {
    const char *name;
    size_t size; /* bytes an element */
    char kind;   /* 'f' float, 'i' signed, 'u' unsigned, 'b' bool */
    long long min, max;
} km_dtype;

typedef struct {
    const km_dtype *dtype;
    int n_dims;
    long long dims[KM_TENSOR_MAX_DIMS];
    long long n_elements;
    size_t n_bytes;
    char *data;
} km_tensor;

extern RedisModuleType *km_tensor_type;
int km_tensor_type_register(RedisModuleCtx *ctx);

const km_dtype *km_dtype_by_name(const char *name, size_t len); /* any case; NULL if unknown */
/* A tensor of zeros, or NULL and *error (a constant) when the dimensions are not possible. */
km_tensor *km_tensor_new(const km_dtype *dtype, const long long *dims, int n_dims, const char **error);
void km_tensor_free(km_tensor *tensor);
/* 0, or -1 when the text is not a value of the type. */
int km_tensor_set_value(km_tensor *tensor, long long i, RedisModuleString *text);
void km_tensor_reply_value(RedisModuleCtx *ctx, const km_tensor *tensor, long long i);

#endif
