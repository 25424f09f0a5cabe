#include "deps.h"

#include "alloc.h"
#include "map.h"

/* ---- a hash table that grows and shrinks by one bucket at a time (linear hashing): no call is ever long ---- */

#define SEGMENT 512 /* buckets that are allocated together; a power of two */

typedef struct node {
    struct node *next;
    uint32_t hash;
    uint32_t len;
    uint32_t name_at; /* the name is in the same allocation */
    uint32_t n_links; /* of a key */
} node;

typedef struct {
    node ***segments;
    size_t n_segments; /* room for so many */
    size_t n_buckets;
    size_t half; /* the largest power of two that is not above n_buckets */
    size_t size;
} table;

static char *name_of(const node *n) { return (char *)n + n->name_at; }
static km_name full_name(const node *n) { return (km_name){name_of(n), n->len}; }

static uint32_t hash_name(km_name name, uint64_t seed) { return (uint32_t)(km_hash_bytes(name.bytes, name.len, seed) >> 16); }

static node **bucket(const table *t, size_t i) { return &t->segments[i / SEGMENT][i % SEGMENT]; }

static size_t index_of(const table *t, uint32_t hash) {
    size_t i = hash & (2 * t->half - 1);
    return i < t->n_buckets ? i : i & (t->half - 1);
}

static void table_init(table *t) {
    *t = (table){.segments = km_alloc(sizeof *t->segments), .n_segments = 1, .n_buckets = SEGMENT, .half = SEGMENT};
    t->segments[0] = km_calloc(SEGMENT, sizeof **t->segments);
}

static void grow(table *t) {
    size_t last = t->n_buckets, s = last / SEGMENT;
    if (s == t->n_segments) {
        node ***more = km_alloc(2 * s * sizeof *more);
        memcpy(more, t->segments, s * sizeof *more);
        km_free(t->segments);
        t->segments = more;
        t->n_segments = 2 * s;
    }
    if (last % SEGMENT == 0) t->segments[s] = km_calloc(SEGMENT, sizeof **t->segments);
    if (last == 2 * t->half) t->half = last;
    node **from = bucket(t, last - t->half), **to = bucket(t, last);
    t->n_buckets++;
    while (*from) {
        node *n = *from;
        if (index_of(t, n->hash) == last) {
            *from = n->next;
            n->next = *to;
            *to = n;
        } else {
            from = &n->next;
        }
    }
}

static void shrink(table *t) {
    size_t last = t->n_buckets - 1;
    if (last < t->half) t->half /= 2;
    node **to = bucket(t, last - t->half);
    while (*to) to = &(*to)->next;
    *to = *bucket(t, last);
    *bucket(t, last) = NULL;
    t->n_buckets = last;
    if (last % SEGMENT == 0) km_free(t->segments[last / SEGMENT]);
}

/* The link that points at the name's node, or the empty link at its chain's end. */
static node **table_find(const table *t, km_name name, uint32_t hash) {
    node **link = bucket(t, index_of(t, hash));
    while (*link && ((*link)->hash != hash || (*link)->len != name.len || memcmp(name_of(*link), name.bytes, name.len) != 0))
        link = &(*link)->next;
    return link;
}

static void table_add(table *t, node *n) {
    node **first = bucket(t, index_of(t, n->hash));
    n->next = *first;
    *first = n;
    if (++t->size > t->n_buckets) grow(t);
}

static void table_remove(table *t, node *n) {
    node **link = bucket(t, index_of(t, n->hash));
    while (*link != n) link = &(*link)->next;
    *link = n->next;
    t->size--;
    for (int i = 0; i < 2 && t->n_buckets > SEGMENT && t->size < t->n_buckets / 2; i++) shrink(t);
}

/* Frees whole buckets from the end, about n nodes. Returns 1 when the table is gone. */
static int table_free_some(table *t, size_t *n) {
    while (t->n_buckets && *n) {
        node **first = bucket(t, --t->n_buckets);
        --*n;
        while (*first) {
            node *next = (*first)->next;
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

/* ---- keys, sources, and the links between them ---- */

typedef struct link { /* one key's place in one source's list */
    struct link *next, **prev;
    struct source *source;
    struct key *key;
} link;

typedef struct source {
    node node; /* next: of the changed ones when changed, else of the table's chain */
    struct source *prev_changed;
    link *links;
    size_t n;
    uint64_t number; /* while km_deps_each runs */
    int changed;
} source;

typedef struct key {
    node node;
    link links[];
} key;

struct km_deps {
    table keys, sources;
    source *changed; /* whose keys are stale; never one without keys */
    source *unnamed; /* one of them: of the keys recorded without sources */
    size_t n_stale;
    uint64_t seed;
};

km_deps *km_deps_new(uint64_t seed) {
    km_deps *deps = km_calloc(1, sizeof *deps);
    deps->seed = seed;
    table_init(&deps->keys);
    table_init(&deps->sources);
    return deps;
}

int km_deps_free_some(km_deps *deps, size_t n) {
    if (deps->keys.segments && !table_free_some(&deps->keys, &n)) return 0;
    if (deps->sources.segments && !table_free_some(&deps->sources, &n)) return 0;
    while (deps->changed) {
        if (n-- == 0) return 0;
        source *next = (source *)deps->changed->node.next;
        km_free(deps->changed);
        deps->changed = next;
    }
    km_free(deps);
    return 1;
}

static source *source_new(km_name name, uint32_t hash) {
    source *s = km_calloc(1, sizeof *s + name.len);
    s->node.hash = hash;
    s->node.len = (uint32_t)name.len;
    s->node.name_at = sizeof *s;
    memcpy(s + 1, name.bytes, name.len);
    return s;
}

static void push_changed(km_deps *deps, source *s) {
    s->changed = 1;
    s->node.next = (node *)deps->changed;
    s->prev_changed = NULL;
    if (deps->changed) deps->changed->prev_changed = s;
    deps->changed = s;
    deps->n_stale += s->n;
}

static void source_free(km_deps *deps, source *s) {
    if (!s->changed) {
        table_remove(&deps->sources, &s->node);
    } else {
        source *next = (source *)s->node.next;
        if (next) next->prev_changed = s->prev_changed;
        if (s->prev_changed)
            s->prev_changed->node.next = s->node.next;
        else
            deps->changed = next;
        if (s == deps->unnamed) deps->unnamed = NULL;
    }
    km_free(s);
}

static void key_free(km_deps *deps, key *k) {
    table_remove(&deps->keys, &k->node);
    for (uint32_t i = 0; i < k->node.n_links; i++) {
        link *l = &k->links[i];
        *l->prev = l->next;
        if (l->next) l->next->prev = l->prev;
        l->source->n--;
        deps->n_stale -= l->source->changed != 0;
        if (l->source->n == 0) source_free(deps, l->source);
    }
    km_free(k);
}

static void link_up(km_deps *deps, key *k, link *l, source *s) {
    *l = (link){s->links, &s->links, s, k};
    if (s->links) s->links->prev = &l->next;
    s->links = l;
    s->n++;
    deps->n_stale += s->changed != 0;
}

static int given_before(const km_name *names, int i) {
    for (int j = 0; j < i; j++)
        if (names[j].len == names[i].len && memcmp(names[j].bytes, names[i].bytes, names[i].len) == 0) return 1;
    return 0;
}

void km_deps_record(km_deps *deps, km_name name, const km_name *sources, int n) {
    km_deps_forget(deps, name);
    uint32_t n_links = n == 0;
    for (int i = 0; i < n; i++) n_links += !given_before(sources, i);
    size_t name_at = sizeof(key) + n_links * sizeof(link);
    key *k = km_alloc(name_at + name.len);
    k->node = (node){NULL, hash_name(name, deps->seed), (uint32_t)name.len, (uint32_t)name_at, n_links};
    memcpy(name_of(&k->node), name.bytes, name.len);
    if (n == 0) {
        if (!deps->unnamed) push_changed(deps, deps->unnamed = source_new((km_name){"", 0}, 0));
        link_up(deps, k, &k->links[0], deps->unnamed);
    }
    for (int i = 0, at = 0; i < n; i++) {
        if (given_before(sources, i)) continue;
        uint32_t hash = hash_name(sources[i], deps->seed);
        source *s = (source *)*table_find(&deps->sources, sources[i], hash);
        if (!s) {
            s = source_new(sources[i], hash);
            table_add(&deps->sources, &s->node);
        }
        link_up(deps, k, &k->links[at++], s);
    }
    table_add(&deps->keys, &k->node);
}

int km_deps_forget(km_deps *deps, km_name name) {
    key *k = (key *)*table_find(&deps->keys, name, hash_name(name, deps->seed));
    if (k) key_free(deps, k);
    return k != NULL;
}

void km_deps_changed(km_deps *deps, km_name name) {
    uint32_t hash = hash_name(name, deps->seed);
    key *k = (key *)*table_find(&deps->keys, name, hash);
    if (k) key_free(deps, k); /* first: it may be the last key of its source */
    source *s = (source *)*table_find(&deps->sources, name, hash);
    if (!s) return;
    table_remove(&deps->sources, &s->node);
    push_changed(deps, s);
}

int km_deps_has(const km_deps *deps, km_name name) {
    uint32_t hash = hash_name(name, deps->seed);
    return *table_find(&deps->keys, name, hash) || *table_find(&deps->sources, name, hash);
}

static int is_stale(const key *k) {
    for (uint32_t i = 0; i < k->node.n_links; i++)
        if (k->links[i].source->changed) return 1;
    return 0;
}

int km_deps_is_stale(const km_deps *deps, km_name name) {
    if (deps->n_stale == 0) return 0;
    const key *k = (const key *)*table_find(&deps->keys, name, hash_name(name, deps->seed));
    return k && is_stale(k);
}

int km_deps_any_stale(const km_deps *deps, km_name *name) {
    if (!deps->changed) return 0;
    *name = full_name(&deps->changed->links->key->node);
    return 1;
}

size_t km_deps_keys(const km_deps *deps) { return deps->keys.size; }
size_t km_deps_sources(const km_deps *deps) { return deps->sources.size; }
size_t km_deps_stale(const km_deps *deps) { return deps->n_stale; }

void km_deps_each(km_deps *deps, void (*on_source)(void *, km_name),
                  void (*on_key)(void *, km_name, const uint64_t *, int), void *arg) {
    uint64_t number = 0;
    for (size_t i = 0; i < deps->sources.n_buckets; i++) {
        for (node *n = *bucket(&deps->sources, i); n; n = n->next) {
            ((source *)n)->number = number++;
            on_source(arg, full_name(n));
        }
    }
    for (size_t i = 0; i < deps->keys.n_buckets; i++) {
        for (node *n = *bucket(&deps->keys, i); n; n = n->next) {
            const key *k = (const key *)n;
            uint64_t numbers[KM_DEPS_MAX_SOURCES];
            int count = is_stale(k) ? 0 : (int)n->n_links;
            for (int l = 0; l < count; l++) numbers[l] = k->links[l].source->number;
            on_key(arg, full_name(n), numbers, count);
        }
    }
}
