/* Which keys were derived from which: two tables of names and the links between them.
 * A source that changes makes every key derived from it stale, however many, in constant time: it leaves the
 * table with its list, and whoever is derived from that name later gets a new source. Every call is constant
 * time (in the at most KM_DEPS_MAX_SOURCES sources of a key).
 * Not thread safe: everything here runs on the server's main thread. */
#ifndef KM_DEPS_H
#define KM_DEPS_H

#include "map.h"

#define KM_DEPS_MAX_SOURCES 64
#define KM_STATES "states:"

typedef struct km_deps km_deps;

km_deps *km_deps_new(uint64_t seed);
/* Frees about so many records. Returns 1 when all is gone, deps too; until then no other call is allowed. */
int km_deps_free_some(km_deps *deps, size_t n);

/* The key was derived from these (a name given twice counts once), in place of what was recorded of it before.
 * Without sources it is stale from the start. */
void km_deps_record(km_deps *deps, km_name key, const km_name *sources, int n);
/* Returns 1 if there was a record. */
int km_deps_forget(km_deps *deps, km_name key);
/* The key has a new value or none: its record goes, and what was derived from it is stale. */
void km_deps_changed(km_deps *deps, km_name key);
int km_deps_has(const km_deps *deps, km_name name); /* as a key or as a source */
int km_deps_is_derived(const km_deps *deps, km_name key);
int km_deps_is_stale(const km_deps *deps, km_name key);
/* A stale key's name, valid until the next change. Returns 0 when there is none. */
int km_deps_any_stale(const km_deps *deps, km_name *key);

size_t km_deps_keys(const km_deps *deps);
size_t km_deps_sources(const km_deps *deps); /* not those that changed */
size_t km_deps_stale(const km_deps *deps);   /* keys, each once for every source of it that changed */
size_t km_deps_states(const km_deps *deps);  /* keys of sentences' states: those that begin with KM_STATES */

/* Visits every source, numbered from 0 in this order, then every key with its sources' numbers; n is 0 for a
 * stale key. Neither may change anything. */
void km_deps_each(km_deps *deps, void (*source)(void *arg, km_name name),
                  void (*key)(void *arg, km_name name, const uint64_t *sources, int n), void *arg);

#endif
