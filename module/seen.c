#include "seen.h"

#include "alloc.h"
#include "map.h"

#define SLOTS 4096 /* a power of two; 128 KB, and the names */

typedef struct {
    uint64_t hash;
    long long until_ms;
    size_t len;
    char *key; /* NULL: nothing here */
} slot;

struct km_seen {
    uint64_t seed;
    size_t used;
    slot slots[SLOTS];
};

static slot *slot_of(const km_seen *seen, uint64_t hash) { return (slot *)&seen->slots[(hash >> 7) & (SLOTS - 1)]; }

static int holds(const slot *s, uint64_t hash, const char *key, size_t len) {
    return s->key && s->hash == hash && s->len == len && memcmp(s->key, key, len) == 0;
}

static void empty(km_seen *seen, slot *s) {
    km_free(s->key);
    s->key = NULL;
    seen->used--;
}

km_seen *km_seen_new(uint64_t seed) {
    km_seen *seen = km_calloc(1, sizeof *seen);
    seen->seed = seed;
    return seen;
}

void km_seen_add(km_seen *seen, const char *key, size_t len, long long now_ms) {
    if (len > KM_SEEN_MAX_NAME) return;
    uint64_t hash = km_hash_bytes(key, len, seen->seed);
    slot *s = slot_of(seen, hash);
    if (!holds(s, hash, key, len)) {
        if (s->key) empty(seen, s);
        *s = (slot){.hash = hash, .len = len, .key = km_memdup0(key, len)};
        seen->used++;
    }
    s->until_ms = now_ms + KM_SEEN_FOR_MS;
}

int km_seen_has(const km_seen *seen, const char *key, size_t len, long long now_ms) {
    if (seen->used == 0) return 0;
    uint64_t hash = km_hash_bytes(key, len, seen->seed);
    const slot *s = slot_of(seen, hash);
    return s->until_ms > now_ms && holds(s, hash, key, len);
}

void km_seen_drop(km_seen *seen, const char *key, size_t len) {
    if (seen->used == 0) return;
    uint64_t hash = km_hash_bytes(key, len, seen->seed);
    slot *s = slot_of(seen, hash);
    if (holds(s, hash, key, len)) empty(seen, s);
}

void km_seen_clear(km_seen *seen) {
    for (size_t i = 0; i < SLOTS && seen->used; i++)
        if (seen->slots[i].key) empty(seen, &seen->slots[i]);
}
