/* Keys that were there a moment ago, so that the filter can leave the GET of a hot key to the server: a filter must
 * not open a key (miss.c says why). An entry lasts until its key changes, and at most KM_SEEN_FOR_MS, so that a change
 * nobody was told of is not believed for longer. A table of one size: a key may push another out.
 * Not thread safe: everything here runs on the server's main thread. */
#ifndef KM_SEEN_H
#define KM_SEEN_H

#include <stddef.h>
#include <stdint.h>

#define KM_SEEN_FOR_MS 100
#define KM_SEEN_MAX_NAME 1024 /* longer names are not remembered */

typedef struct km_seen km_seen;

km_seen *km_seen_new(uint64_t seed);
/* now_ms: of a clock that never goes back. */
void km_seen_add(km_seen *seen, const char *key, size_t len, long long now_ms);
int km_seen_has(const km_seen *seen, const char *key, size_t len, long long now_ms);
void km_seen_drop(km_seen *seen, const char *key, size_t len);
void km_seen_clear(km_seen *seen);

#endif
