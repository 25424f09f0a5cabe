/* Strings of the server in a row: names, the chunks of a blob. */
#ifndef KM_STRING_LIST_H
#define KM_STRING_LIST_H

#include "kmapi.h"

typedef struct {
    int n;
    RedisModuleString **items;
} km_strings;

void km_strings_free(km_strings *strings);
km_strings km_strings_copy(const km_strings *from);
size_t km_strings_bytes(const km_strings *strings);

#endif
