#include "deps.h"

#include "alloc.h"

typedef struct link { /* one key's place in one source's list */
    struct link *next, **prev;
    struct source *source;
    struct key *key;
} link;

typedef struct source {
    km_node node; /* next: of the changed ones when changed */
    struct source *prev_changed;
    link *links;
    size_t n;
    uint64_t number; /* while km_deps_each runs */
    int changed;
} source;

typedef struct key {
    km_node node; /* n: of its links */
    link links[];
} key;

struct km_deps {
    km_table keys, sources;
    source *changed; /* whose keys are stale; never one without keys */
    source *unnamed; /* one of them: of the keys recorded without sources */
    size_t n_stale, n_states;
};

km_deps *km_deps_new(uint64_t seed) {
    km_deps *deps = km_calloc(1, sizeof *deps);
    km_table_init(&deps->keys, seed);
    km_table_init(&deps->sources, seed);
    return deps;
}

int km_deps_free_some(km_deps *deps, size_t n) {
    if (deps->keys.segments && !km_table_free_some(&deps->keys, &n)) return 0;
    if (deps->sources.segments && !km_table_free_some(&deps->sources, &n)) return 0;
    while (deps->changed) {
        if (n-- == 0) return 0;
        source *next = (source *)deps->changed->node.next;
        km_free(deps->changed);
        deps->changed = next;
    }
    km_free(deps);
    return 1;
}

static key *find_key(const km_deps *deps, km_name name) { return (key *)km_table_find(&deps->keys, name); }
static source *find_source(const km_deps *deps, km_name name) { return (source *)km_table_find(&deps->sources, name); }

static void push_changed(km_deps *deps, source *s) {
    s->changed = 1;
    s->node.next = (km_node *)deps->changed;
    s->prev_changed = NULL;
    if (deps->changed) deps->changed->prev_changed = s;
    deps->changed = s;
    deps->n_stale += s->n;
}

static void source_free(km_deps *deps, source *s) {
    if (!s->changed) {
        km_table_remove(&deps->sources, &s->node);
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

static int of_states(const key *k) {
    km_name name = km_node_name(&k->node);
    return name.len >= strlen(KM_STATES) && memcmp(name.bytes, KM_STATES, strlen(KM_STATES)) == 0;
}

static void key_free(km_deps *deps, key *k) {
    km_table_remove(&deps->keys, &k->node);
    deps->n_states -= (size_t)of_states(k);
    for (int i = 0; i < k->node.n; i++) {
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
    int n_links = n == 0;
    for (int i = 0; i < n; i++) n_links += !given_before(sources, i);
    key *k = km_node_new(&deps->keys, sizeof *k + (size_t)n_links * sizeof(link), name);
    k->node.n = (uint16_t)n_links;
    if (n == 0) {
        if (!deps->unnamed) push_changed(deps, deps->unnamed = km_node_new(&deps->sources, sizeof(source), (km_name){"", 0}));
        link_up(deps, k, &k->links[0], deps->unnamed);
    }
    for (int i = 0, at = 0; i < n; i++) {
        if (given_before(sources, i)) continue;
        source *s = find_source(deps, sources[i]);
        if (!s) {
            s = km_node_new(&deps->sources, sizeof *s, sources[i]);
            km_table_add(&deps->sources, &s->node);
        }
        link_up(deps, k, &k->links[at++], s);
    }
    km_table_add(&deps->keys, &k->node);
    deps->n_states += (size_t)of_states(k);
}

int km_deps_forget(km_deps *deps, km_name name) {
    key *k = find_key(deps, name);
    if (k) key_free(deps, k);
    return k != NULL;
}

void km_deps_changed(km_deps *deps, km_name name) {
    km_deps_forget(deps, name); /* first: it may be the last key of its source */
    source *s = find_source(deps, name);
    if (!s) return;
    km_table_remove(&deps->sources, &s->node);
    push_changed(deps, s);
}

int km_deps_has(const km_deps *deps, km_name name) { return find_key(deps, name) || find_source(deps, name); }

int km_deps_is_derived(const km_deps *deps, km_name name) { return find_key(deps, name) != NULL; }

static int is_stale(const key *k) {
    for (int i = 0; i < k->node.n; i++)
        if (k->links[i].source->changed) return 1;
    return 0;
}

int km_deps_is_stale(const km_deps *deps, km_name name) {
    const key *k = deps->n_stale ? find_key(deps, name) : NULL;
    return k && is_stale(k);
}

int km_deps_any_stale(const km_deps *deps, km_name *name) {
    if (!deps->changed) return 0;
    *name = km_node_name(&deps->changed->links->key->node);
    return 1;
}

size_t km_deps_keys(const km_deps *deps) { return deps->keys.size; }
size_t km_deps_sources(const km_deps *deps) { return deps->sources.size; }
size_t km_deps_stale(const km_deps *deps) { return deps->n_stale; }
size_t km_deps_states(const km_deps *deps) { return deps->n_states; }

void km_deps_each(km_deps *deps, void (*on_source)(void *, km_name),
                  void (*on_key)(void *, km_name, const uint64_t *, int), void *arg) {
    uint64_t number = 0;
    for (km_node *n = NULL; (n = km_table_next(&deps->sources, n));) {
        ((source *)n)->number = number++;
        on_source(arg, km_node_name(n));
    }
    for (const km_node *n = NULL; (n = km_table_next(&deps->keys, n));) {
        const key *k = (const key *)n;
        uint64_t numbers[KM_DEPS_MAX_SOURCES];
        int count = is_stale(k) ? 0 : n->n;
        for (int l = 0; l < count; l++) numbers[l] = k->links[l].source->number;
        on_key(arg, km_node_name(n), numbers, count);
    }
}
