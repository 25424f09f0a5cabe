#include "map.h"

#include "alloc.h"

#define SEGMENT 512 /* buckets that are allocated together; a power of two */

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

/* ---- nodes ---- */

static uint32_t hash_of(const km_table *t, km_name name) { return (uint32_t)(km_hash_bytes(name.bytes, name.len, t->seed) >> 16); }

void *km_node_new(const km_table *t, size_t head, km_name name) {
    km_node *n = km_calloc(1, head + name.len);
    *n = (km_node){.hash = hash_of(t, name), .len = name.len, .name_at = (uint16_t)head};
    if (name.len) memcpy((char *)n + head, name.bytes, name.len);
    return n;
}

km_name km_node_name(const km_node *n) { return (km_name){(const char *)n + n->name_at, n->len}; }

static km_node **bucket(const km_table *t, size_t i) { return &t->segments[i / SEGMENT][i % SEGMENT]; }

static size_t index_of(const km_table *t, uint32_t hash) {
    size_t i = hash & (2 * t->half - 1);
    return i < t->n_buckets ? i : i & (t->half - 1);
}

void km_table_init(km_table *t, uint64_t seed) {
    *t = (km_table){.segments = km_alloc(sizeof *t->segments), .n_segments = 1, .n_buckets = SEGMENT, .half = SEGMENT, .seed = seed};
    t->segments[0] = km_calloc(SEGMENT, sizeof **t->segments);
}

static void grow(km_table *t) {
    size_t last = t->n_buckets, s = last / SEGMENT;
    if (s == t->n_segments) {
        km_node ***more = km_alloc(2 * s * sizeof *more);
        memcpy(more, t->segments, s * sizeof *more);
        km_free(t->segments);
        t->segments = more;
        t->n_segments = 2 * s;
    }
    if (last % SEGMENT == 0) t->segments[s] = km_calloc(SEGMENT, sizeof **t->segments);
    if (last == 2 * t->half) t->half = last;
    km_node **from = bucket(t, last - t->half), **to = bucket(t, last);
    t->n_buckets++;
    while (*from) {
        km_node *n = *from;
        if (index_of(t, n->hash) == last) {
            *from = n->next;
            n->next = *to;
            *to = n;
        } else {
            from = &n->next;
        }
    }
}

static void shrink(km_table *t) {
    size_t last = t->n_buckets - 1;
    if (last < t->half) t->half /= 2;
    km_node **to = bucket(t, last - t->half);
    while (*to) to = &(*to)->next;
    *to = *bucket(t, last);
    *bucket(t, last) = NULL;
    t->n_buckets = last;
    if (last % SEGMENT == 0) km_free(t->segments[last / SEGMENT]);
}

km_node *km_table_find(const km_table *t, km_name name) {
    uint32_t hash = hash_of(t, name);
    for (km_node *n = *bucket(t, index_of(t, hash)); n; n = n->next)
        if (n->hash == hash && n->len == name.len && memcmp((char *)n + n->name_at, name.bytes, name.len) == 0) return n;
    return NULL;
}

void km_table_add(km_table *t, km_node *n) {
    km_node **first = bucket(t, index_of(t, n->hash));
    n->next = *first;
    *first = n;
    if (++t->size > t->n_buckets) grow(t);
}

void km_table_remove(km_table *t, km_node *n) {
    km_node **link = bucket(t, index_of(t, n->hash));
    while (*link != n) link = &(*link)->next;
    *link = n->next;
    t->size--;
    for (int i = 0; i < 2 && t->n_buckets > SEGMENT && t->size < t->n_buckets / 2; i++) shrink(t);
}

km_node *km_table_next(const km_table *t, const km_node *n) {
    if (n && n->next) return n->next;
    for (size_t i = n ? index_of(t, n->hash) + 1 : 0; i < t->n_buckets; i++)
        if (*bucket(t, i)) return *bucket(t, i);
    return NULL;
}

int km_table_free_some(km_table *t, size_t *n) {
    while (t->n_buckets && *n) {
        km_node **first = bucket(t, --t->n_buckets);
        --*n;
        while (*first) {
            km_node *next = (*first)->next;
            km_free(*first);
            *first = next;
            if (*n) --*n;
        }
        if (t->n_buckets % SEGMENT == 0) km_free(t->segments[t->n_buckets / SEGMENT]);
    }
    if (t->n_buckets) return 0;
    km_free(t->segments);
    t->segments = NULL;
    return 1;
}

/* ---- pointers ---- */

typedef struct {
    km_node node;
    void *value;
} entry;

km_map *km_map_new(uint64_t seed) {
    km_map *map = km_alloc(sizeof *map);
    km_table_init(&map->table, seed);
    return map;
}

static entry *find(const km_map *map, const void *key, size_t len) { return (entry *)km_table_find(&map->table, (km_name){key, len}); }

void *km_map_set(km_map *map, const void *key, size_t len, void *value) {
    entry *e = find(map, key, len);
    void *old = e ? e->value : NULL;
    if (!e) {
        e = km_node_new(&map->table, sizeof *e, (km_name){key, len});
        km_table_add(&map->table, &e->node);
    }
    e->value = value;
    return old;
}

void *km_map_get(const km_map *map, const void *key, size_t len) {
    entry *e = map->table.size ? find(map, key, len) : NULL;
    return e ? e->value : NULL;
}

void *km_map_del(km_map *map, const void *key, size_t len) {
    entry *e = find(map, key, len);
    if (!e) return NULL;
    void *value = e->value;
    km_table_remove(&map->table, &e->node);
    km_free(e);
    return value;
}

size_t km_map_size(const km_map *map) { return map->table.size; }

void km_map_free(km_map *map) {
    for (size_t n = 1000; !km_table_free_some(&map->table, &n);) n = 1000;
    km_free(map);
}
