/* A tensor: a data type, dimensions, and its elements in C order, little endian. Strings end with a NUL each. */
#ifndef KM_TENSOR_H
#define KM_TENSOR_H

#include "kmapi.h"

#define KM_TENSOR_MAX_DIMS 32
#define KM_TENSOR_MAX_BYTES (1LL << 30) /* 1 GiB: twice what one argument can carry */

typedef struct {
    const char *name;
    size_t size; /* bytes an element; the least that a string has */
    char kind;   /* 'f' float, 'i' signed, 'u' unsigned, 'b' bool, 's' string */
    long long min, max;
} km_dtype;

typedef struct {
    const km_dtype *dtype;
    int n_dims; /* 0: a scalar */
    long long dims[KM_TENSOR_MAX_DIMS];
    long long n_elements;
    size_t n_bytes;
    char *data;
} km_tensor;

extern RedisModuleType *km_tensor_type;
int km_tensor_type_register(RedisModuleCtx *ctx);

const km_dtype *km_dtype_by_name(const char *name, size_t len); /* any case; NULL if unknown */
/* The number of elements, or -1 when the dimensions are not possible. */
long long km_tensor_elements(const km_dtype *dtype, const long long *dims, int n_dims);
/* A tensor of zeros or of empty strings; the dimensions are possible. */
km_tensor *km_tensor_new(const km_dtype *dtype, const long long *dims, int n_dims);
/* A tensor of the data, which is taken over if it fits. NULL and *error (a constant) if not: its owner is the caller then. */
km_tensor *km_tensor_of(const km_dtype *dtype, const long long *dims, int n_dims, char *data, size_t n_bytes, const char **error);
void km_tensor_free(km_tensor *tensor);

/* What AI.TENSORSET's arguments describe (argv[0] is its name, argv[1] the key), or NULL and an error's text. */
km_tensor *km_tensor_from_arguments(RedisModuleString **argv, int argc, const char **error);

#define KM_GET_META 1
#define KM_GET_BLOB 2
#define KM_GET_VALUES 4
/* What AI.TENSORGET's arguments ask for: NULL, or an error's text. */
const char *km_tensor_parts(RedisModuleString **argv, int argc, int *parts);

int km_tensor_commands_register(RedisModuleCtx *ctx); /* AI.TENSORSET, AI.TENSORGET */

#endif
