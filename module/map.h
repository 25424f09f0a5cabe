/* Hash tables of byte strings. They grow and shrink by one bucket at a time (linear hashing), so that no call is ever
 * long, however much they hold. Seeded, because names come from clients. km_table: of nodes that are part of what its
 * user keeps; km_map: of pointers. Not thread safe: everything here runs on the server's main thread. */
#ifndef KM_MAP_H
#define KM_MAP_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    const char *bytes;
    size_t len;
} km_name;

/* Of len bytes; the same for the same seed. Not for secrets: two names that collide can be made. */
uint64_t km_hash_bytes(const void *bytes, size_t len, uint64_t seed);

/* ---- nodes: each at the head of an allocation that has its name, too ---- */
typedef struct km_node {
    struct km_node *next; /* of its bucket's chain; its user's while it is in no table */
    size_t len;
    uint32_t hash;
    uint16_t name_at; /* from the head of the allocation */
    uint16_t n;       /* its user's */
} km_node;

typedef struct {
    km_node ***segments;
    size_t n_segments; /* room for so many */
    size_t n_buckets;
    size_t half; /* the largest power of two that is not above n_buckets */
    size_t size;
    uint64_t seed;
} km_table;

/* An allocation with room for head bytes (64 KiB at most), of which the first are the node, and the name behind them. Zeroed, but for
 * what the node says of its name. In no table yet. */
void *km_node_new(const km_table *table, size_t head, km_name name);
km_name km_node_name(const km_node *node);

void km_table_init(km_table *table, uint64_t seed);
km_node *km_table_find(const km_table *table, km_name name);
void km_table_add(km_table *table, km_node *node); /* its name is not in the table */
void km_table_remove(km_table *table, km_node *node);
/* The node behind this one, in no order; NULL gives the first. The table must not change meanwhile. */
km_node *km_table_next(const km_table *table, const km_node *node);
/* Frees nodes, whole buckets of them, about *n, which is counted down. Returns 1 when the table is gone; until then no
 * other call is allowed. */
int km_table_free_some(km_table *table, size_t *n);

/* ---- pointers ---- */
typedef struct {
    km_table table;
} km_map;

km_map *km_map_new(uint64_t seed);
/* Adds or replaces; returns the value that was there, or NULL. value must not be NULL. The key is copied. */
void *km_map_set(km_map *map, const void *key, size_t len, void *value);
void *km_map_get(const km_map *map, const void *key, size_t len);
void *km_map_del(km_map *map, const void *key, size_t len);
size_t km_map_size(const km_map *map);
void km_map_free(km_map *map); /* not the values */

#endif
