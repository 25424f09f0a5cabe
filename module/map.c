#include "map.h"

#include "alloc.h"

typedef struct entry {
    struct entry *next;
    void *value;
    uint64_t hash;
    size_t len;
    char key[];
} entry;

struct km_map {
    entry **buckets;
    size_t n_buckets; /* a power of two */
    size_t size;
    uint64_t seed;
};

#define MIN_BUCKETS 64

uint64_t km_hash_bytes(const void *key, size_t len, uint64_t seed) {
    const unsigned char *p = key;
    uint64_t h = seed ^ (len * 0x9e3779b97f4a7c15ULL);
    while (len >= 8) {
        uint64_t word;
        memcpy(&word, p, 8);
        h = (h ^ word) * 0xff51afd7ed558ccdULL;
        h ^= h >> 32;
        p += 8;
        len -= 8;
    }
    uint64_t tail = 0;
    if (len) memcpy(&tail, p, len);
    h = (h ^ tail) * 0xc4ceb9fe1a85ec53ULL;
    return h ^ (h >> 29);
}

km_map *km_map_new(uint64_t seed) {
    km_map *map = km_calloc(1, sizeof *map);
    map->n_buckets = MIN_BUCKETS;
    map->buckets = km_calloc(map->n_buckets, sizeof *map->buckets);
    map->seed = seed;
    return map;
}

void km_map_free(km_map *map) {
    if (!map) return;
    for (size_t i = 0; i < map->n_buckets; i++) {
        for (entry *e = map->buckets[i]; e;) {
            entry *next = e->next;
            km_free(e);
            e = next;
        }
    }
    km_free(map->buckets);
    km_free(map);
}

size_t km_map_size(const km_map *map) { return map->size; }

static void resize(km_map *map, size_t n_buckets) {
    entry **buckets = km_calloc(n_buckets, sizeof *buckets);
    for (size_t i = 0; i < map->n_buckets; i++) {
        for (entry *e = map->buckets[i]; e;) {
            entry *next = e->next;
            entry **slot = &buckets[e->hash & (n_buckets - 1)];
            e->next = *slot;
            *slot = e;
            e = next;
        }
    }
    km_free(map->buckets);
    map->buckets = buckets;
    map->n_buckets = n_buckets;
}

/* The link that points at the key's entry, or the empty link at its chain's end. */
static entry **find(const km_map *map, const void *key, size_t len, uint64_t hash) {
    entry **link = &map->buckets[hash & (map->n_buckets - 1)];
    while (*link && ((*link)->hash != hash || (*link)->len != len || memcmp((*link)->key, key, len) != 0))
        link = &(*link)->next;
    return link;
}

void *km_map_set(km_map *map, const void *key, size_t len, void *value) {
    uint64_t hash = km_hash_bytes(key, len, map->seed);
    entry **link = find(map, key, len, hash);
    if (*link) {
        void *old = (*link)->value;
        (*link)->value = value;
        return old;
    }
    entry *e = km_alloc(sizeof *e + len);
    e->next = NULL;
    e->value = value;
    e->hash = hash;
    e->len = len;
    memcpy(e->key, key, len);
    *link = e;
    if (++map->size > map->n_buckets) resize(map, map->n_buckets * 2);
    return NULL;
}

void *km_map_get(const km_map *map, const void *key, size_t len) {
    if (map->size == 0) return NULL;
    entry *e = *find(map, key, len, km_hash_bytes(key, len, map->seed));
    return e ? e->value : NULL;
}

void *km_map_del(km_map *map, const void *key, size_t len) {
    entry **link = find(map, key, len, km_hash_bytes(key, len, map->seed));
    entry *e = *link;
    if (!e) return NULL;
    void *value = e->value;
    *link = e->next;
    km_free(e);
    map->size--;
    if (map->n_buckets > MIN_BUCKETS && map->size < map->n_buckets / 8) resize(map, map->n_buckets / 2);
    return value;
}

void km_map_each(const km_map *map, void (*fn)(void *, void *), void *arg) {
    for (size_t i = 0; i < map->n_buckets; i++)
        for (entry *e = map->buckets[i]; e; e = e->next) fn(e->value, arg);
}
