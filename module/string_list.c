#include "string_list.h"

#include "alloc.h"

void km_strings_free(km_strings *strings) {
    for (int i = 0; i < strings->n; i++) RedisModule_FreeString(NULL, strings->items[i]);
    km_free(strings->items);
    *strings = (km_strings){0};
}

km_strings km_strings_copy(const km_strings *from) {
    km_strings twin = {from->n, km_calloc((size_t)from->n, sizeof *twin.items)};
    for (int i = 0; i < from->n; i++) {
        size_t len;
        const char *bytes = RedisModule_StringPtrLen(from->items[i], &len);
        twin.items[i] = RedisModule_CreateString(NULL, bytes, len);
    }
    return twin;
}

size_t km_strings_bytes(const km_strings *strings) {
    size_t sum = 0;
    for (int i = 0; i < strings->n; i++) {
        size_t len;
        RedisModule_StringPtrLen(strings->items[i], &len);
        sum += len;
    }
    return sum;
}
