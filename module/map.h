/* A hash map from byte strings to pointers: the flight table, the jobs by id, the blocked clients.
 * Keys are copied. Chained, grows by doubling, never shrinks below 64 buckets. Seeded, because
 * keys come from clients. Not thread safe: everything here runs on the server's main thread. */
#ifndef KM_MAP_H
#define KM_MAP_H

#include <stddef.h>
#include <stdint.h>

typedef struct km_map km_map;

/* Of len bytes; the same for the same seed. Not for secrets: two names that collide can be made. */
uint64_t km_hash_bytes(const void *bytes, size_t len, uint64_t seed);

km_map *km_map_new(uint64_t seed);
void km_map_free(km_map *map); /* not the values */
size_t km_map_size(const km_map *map);
/* Adds or replaces; returns the value that was there, or NULL. value must not be NULL. */
void *km_map_set(km_map *map, const void *key, size_t len, void *value);
void *km_map_get(const km_map *map, const void *key, size_t len);
void *km_map_del(km_map *map, const void *key, size_t len);
/* Calls fn for every value, in no order. fn must not change the map. */
void km_map_each(const km_map *map, void (*fn)(void *value, void *arg), void *arg);

#endif
