/* What calls no server: map, keys seen, derived keys, RESP2 reader, files of blobs, under AddressSanitizer. */
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../alloc.h"
#include "../blob_files.h"
#include "../deps.h"
#include "../map.h"
#include "../resp.h"
#include "../seen.h"

static int passed, failed;
#define CHECK(what)                                                                                          \
    do {                                                                                                     \
        if (what) {                                                                                          \
            passed++;                                                                                        \
        } else {                                                                                             \
            failed++;                                                                                        \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #what);                                       \
        }                                                                                                    \
    } while (0)

static void test_map(void) {
    enum { N = 20000 };
    static int values[N];
    km_map *map = km_map_new(42);
    CHECK(km_map_get(map, "x", 1) == NULL);
    CHECK(km_map_del(map, "x", 1) == NULL);
    for (int i = 0; i < N; i++) CHECK(km_map_set(map, &i, sizeof i, &values[i]) == NULL);
    CHECK(km_map_size(map) == N);
    int seen = 0, numbers = 0;
    for (const km_node *n = NULL; (n = km_table_next(&map->table, n)); seen++) numbers += km_node_name(n).len == sizeof(int);
    CHECK(seen == N && numbers == N);
    for (int i = 0; i < N; i++) CHECK(km_map_get(map, &i, sizeof i) == &values[i]);
    int seven = 7;
    CHECK(km_map_set(map, &seven, sizeof seven, &values[8]) == &values[7]);
    CHECK(km_map_size(map) == N);
    for (int i = 0; i < N; i++) CHECK(km_map_del(map, &i, sizeof i) != NULL);
    CHECK(km_map_size(map) == 0);
    CHECK(km_map_set(map, "", 0, &values[0]) == NULL);
    CHECK(km_map_get(map, "", 0) == &values[0]);
    CHECK(km_map_set(map, "a\0b", 3, &values[1]) == NULL);
    CHECK(km_map_get(map, "a\0c", 3) == NULL);
    CHECK(km_map_get(map, "a", 1) == NULL);
    for (size_t some = 1; !km_table_free_some(&map->table, &some); some = 1) continue;
    km_free(map);
}

static void test_seen(void) {
    km_seen *seen = km_seen_new(7);
    CHECK(!km_seen_has(seen, "a", 1, 0));
    km_seen_add(seen, "a", 1, 1000);
    CHECK(km_seen_has(seen, "a", 1, 1000) && km_seen_has(seen, "a", 1, 999 + KM_SEEN_FOR_MS));
    CHECK(!km_seen_has(seen, "a", 1, 1000 + KM_SEEN_FOR_MS));
    CHECK(!km_seen_has(seen, "b", 1, 1000) && !km_seen_has(seen, "a\0", 2, 1000) && !km_seen_has(seen, "", 0, 1000));
    km_seen_drop(seen, "b", 1);
    CHECK(km_seen_has(seen, "a", 1, 1000));
    km_seen_drop(seen, "a", 1);
    CHECK(!km_seen_has(seen, "a", 1, 1000));
    km_seen_add(seen, "", 0, 1000);
    CHECK(km_seen_has(seen, "", 0, 1000));
    /* More keys than it has room for: those that are there are the right ones, the newest of them always. */
    char key[64];
    int found = 0;
    for (int i = 0; i < 20000; i++) {
        int len = snprintf(key, sizeof key, "bertqa{x}_%d", i);
        km_seen_add(seen, key, (size_t)len, 5000);
        CHECK(km_seen_has(seen, key, (size_t)len, 5000));
        CHECK(!km_seen_has(seen, key, (size_t)len - 1, 5000) || i >= 10);
    }
    for (int i = 0; i < 20000; i++) found += km_seen_has(seen, key, (size_t)snprintf(key, sizeof key, "bertqa{x}_%d", i), 5000);
    CHECK(found > 3000 && found <= 4096);
    char long_name[KM_SEEN_MAX_NAME + 1] = {0};
    km_seen_add(seen, long_name, sizeof long_name, 5000);
    CHECK(!km_seen_has(seen, long_name, sizeof long_name, 5000));
    km_seen_clear(seen);
    for (int i = 0; i < 20000; i++) found -= !km_seen_has(seen, key, (size_t)snprintf(key, sizeof key, "bertqa{x}_%d", i), 5000);
    CHECK(found <= 4096 - 20000);
    km_free(seen);
}

static km_name name(const char *text) { return (km_name){text, strlen(text)}; }

static void record(km_deps *deps, const char *key, const char *a, const char *b) {
    km_name sources[] = {name(a), name(b ? b : "")};
    km_deps_record(deps, name(key), sources, b ? 2 : 1);
}

/* Counts of keys, sources and stale keys, as one number. */
static size_t counts(const km_deps *deps) {
    return km_deps_keys(deps) * 10000 + km_deps_sources(deps) * 100 + km_deps_stale(deps);
}

static void free_all(km_deps *deps) {
    while (!km_deps_free_some(deps, 1000)) continue;
}

static void test_deps(void) {
    km_deps *deps = km_deps_new(42);
    km_name stale;
    CHECK(!km_deps_any_stale(deps, &stale) && !km_deps_forget(deps, name("k")) && !km_deps_is_stale(deps, name("k")));
    km_deps_changed(deps, name("s"));
    CHECK(counts(deps) == 0);
    record(deps, "k", "s", "s"); /* given twice: one link */
    record(deps, "l", "s", "m");
    record(deps, "n", "m", NULL);
    CHECK(counts(deps) == 30200);
    CHECK(km_deps_has(deps, name("k")) && km_deps_has(deps, name("m")) && !km_deps_has(deps, name("x")));
    km_deps_changed(deps, name("s"));
    CHECK(counts(deps) == 30102);
    CHECK(km_deps_is_stale(deps, name("k")) && km_deps_is_stale(deps, name("l")) && !km_deps_is_stale(deps, name("n")));
    km_deps_changed(deps, name("s")); /* nobody is derived from what it is now */
    CHECK(counts(deps) == 30102);
    record(deps, "k", "s", NULL); /* anew, while the old list is still there */
    CHECK(counts(deps) == 30201 && !km_deps_is_stale(deps, name("k")));
    km_deps_changed(deps, name("m")); /* l is stale twice now, n once */
    CHECK(counts(deps) == 30103);
    CHECK(km_deps_forget(deps, name("l")) && counts(deps) == 20101);
    CHECK(km_deps_any_stale(deps, &stale) && stale.len == 1 && stale.bytes[0] == 'n');
    CHECK(km_deps_forget(deps, name("n")) && !km_deps_any_stale(deps, &stale));
    km_deps_changed(deps, name("k")); /* overwritten: forgotten, and its source with it */
    CHECK(counts(deps) == 0);
    record(deps, "k", "k", NULL); /* of itself: it and its source go at once */
    km_deps_changed(deps, name("k"));
    CHECK(counts(deps) == 0);
    record(deps, "second", "first", NULL); /* a chain */
    record(deps, "third", "second", NULL);
    km_deps_changed(deps, name("second"));
    CHECK(counts(deps) == 10001 && km_deps_is_stale(deps, name("third")));
    km_deps_record(deps, name("third"), NULL, 0); /* without sources: stale */
    record(deps, "states:a", "m", NULL); /* counted, also twice and when stale */
    record(deps, "states:a", "m", "n");
    record(deps, "states:b", "m", NULL);
    record(deps, "states", "m", NULL);
    km_deps_changed(deps, name("m"));
    CHECK(km_deps_states(deps) == 2);
    km_deps_forget(deps, name("states:a"));
    CHECK(km_deps_states(deps) == 1);
    km_deps_forget(deps, name("states:b"));
    km_deps_forget(deps, name("states"));
    CHECK(km_deps_states(deps) == 0);
    km_deps_record(deps, name(""), NULL, 0);
    CHECK(counts(deps) == 20002 && km_deps_is_stale(deps, name("third")) && km_deps_is_stale(deps, name("")));
    free_all(deps);
}

typedef struct {
    int sources, keys, stale;
} visited;
static void on_source(void *arg, km_name source) {
    (void)source;
    ((visited *)arg)->sources++;
}
static void on_key(void *arg, km_name key, const uint64_t *sources, int n) {
    visited *v = arg;
    (void)key;
    v->keys++;
    v->stale += n == 0;
    for (int i = 0; i < n; i++) CHECK(sources[i] < (uint64_t)v->sources);
}

static void test_many_deps(void) {
    enum { N = 100000 };
    char key[16], source[16];
    km_deps *deps = km_deps_new(7);
    for (int i = 0; i < N; i++) {
        snprintf(key, sizeof key, "k%d", i);
        snprintf(source, sizeof source, "s%d", i % 1000);
        record(deps, key, "model", source);
    }
    CHECK(km_deps_keys(deps) == N && km_deps_sources(deps) == 1001 && km_deps_stale(deps) == 0);
    km_deps_changed(deps, name("s7"));
    CHECK(km_deps_stale(deps) == N / 1000);
    visited v = {0};
    km_deps_each(deps, on_source, on_key, &v);
    CHECK(v.sources == 1000 && v.keys == N && v.stale == N / 1000);
    km_deps_changed(deps, name("model"));
    CHECK(km_deps_sources(deps) == 999 && km_deps_stale(deps) == N + N / 1000);
    for (int i = 0; i < N; i += 2) { /* half of them are made anew before they are removed */
        snprintf(key, sizeof key, "k%d", i);
        record(deps, key, "model", NULL);
    }
    km_name stale;
    int removed = 0, wrong = 0;
    for (; km_deps_any_stale(deps, &stale); removed++) {
        wrong += (stale.bytes[stale.len - 1] - '0') % 2 == 0;
        CHECK(km_deps_forget(deps, stale));
    }
    CHECK(removed == N / 2 && wrong == 0);
    CHECK(km_deps_keys(deps) == N / 2 && km_deps_sources(deps) == 1 && km_deps_stale(deps) == 0);
    for (int i = 0; i < N; i++) { /* found after the table has shrunk, too */
        snprintf(key, sizeof key, "k%d", i);
        CHECK(km_deps_forget(deps, name(key)) == (i % 2 == 0));
    }
    CHECK(counts(deps) == 0);
    for (int i = 0; i < N; i++) {
        snprintf(key, sizeof key, "k%d", i);
        record(deps, key, key, "model");
        if (i % 3 == 0) km_deps_changed(deps, name(key));
    }
    free_all(deps);
}

/* The bytes in a block of exactly their size, so that reading past the end is seen. */
static int check_resp(const char *text, size_t len) {
    char *copy = malloc(len ? len : 1);
    memcpy(copy, text, len);
    int result = km_resp_check(copy, len);
    free(copy);
    return result;
}
#define RESP(text) check_resp(text, sizeof(text) - 1)

static void test_resp(void) {
    CHECK(RESP("+OK\r\n") == 0);
    CHECK(RESP("-FAILED it\r\n") == 0);
    CHECK(RESP(":-42\r\n") == 0);
    CHECK(RESP(",-0.5\r\n") == 0);
    CHECK(RESP("*3\r\n,1e300\r\n,-inf\r\n,nan\r\n") == 0);
    CHECK(RESP("$0\r\n\r\n") == 0);
    CHECK(RESP("$3\r\na\r\n\r\n") == 0);
    CHECK(RESP("$-1\r\n") == 0);
    CHECK(RESP("*-1\r\n") == 0);
    CHECK(RESP("*2\r\n*1\r\n:1\r\n$1\r\nx\r\n") == 0);
    CHECK(RESP("") == -1);
    CHECK(RESP("+OK") == -1);
    CHECK(RESP("+OK\r") == -1);
    CHECK(RESP("+OK\r\n+OK\r\n") == -1);
    CHECK(RESP(":1x\r\n") == -1);
    CHECK(RESP(":9999999999999999999\r\n") == -1);
    CHECK(RESP(",\r\n") == -1);
    CHECK(RESP(", 1\r\n") == -1);
    CHECK(RESP(",1x\r\n") == -1);
    CHECK(RESP(",1") == -1);
    CHECK(RESP("$5\r\nab\r\n") == -1);
    CHECK(RESP("$-2\r\n") == -1);
    CHECK(RESP("$999999999999999999\r\nx\r\n") == -1);
    CHECK(RESP("*3\r\n:1\r\n") == -1);
    CHECK(RESP("*999999999999999999\r\n") == -1);
    CHECK(RESP("!oops\r\n") == -1);
    CHECK(RESP("\0\r\n") == -1);
    CHECK(RESP("+a\0b\r\n") == -1);
    CHECK(RESP("$3\r\na\0b\r\n") == 0);
    char deep[17 * 4 + 5];
    for (int i = 0; i < 17; i++) memcpy(deep + 4 * i, "*1\r\n", 4);
    memcpy(deep + 68, ":1\r\n", 4);
    CHECK(check_resp(deep, 72) == -1);          /* 17 arrays and a number: 18 deep */
    CHECK(check_resp(deep + 8, 64) == 0);       /* 16 deep */
    /* Every cut and every changed byte of a good value: read within bounds, whatever the verdict. */
    const char good[] = "*4\r\n$5\r\nhello\r\n:123\r\n,1.5\r\n*2\r\n+a\r\n-b\r\n";
    for (size_t n = 0; n < sizeof good - 1; n++) CHECK(check_resp(good, n) == -1);
    int verdicts = 0;
    for (size_t i = 0; i < sizeof good - 1; i++) {
        char changed[sizeof good];
        memcpy(changed, good, sizeof good);
        for (int c = 0; c < 256; c++) {
            changed[i] = (char)c;
            verdicts += check_resp(changed, sizeof good - 1) == 0;
        }
    }
    CHECK(verdicts > 0);
}

/* In a process of its own: takes one of three blobs, looks at it, lets go of it, removes what nobody uses. Returns how often the
 * bytes were others, or there were none. */
static int use_blob_files(const char *folder, unsigned seed) {
    enum { N = 300000, TIMES = 150 };
    static char bytes[N];
    char why[KM_WHY_BYTES];
    int wrong = 0;
    for (int i = 0; i < TIMES; i++) {
        seed = seed * 1103515245 + 12345;
        memset(bytes, (int)(seed >> 16) % 3, N);
        struct iovec pieces[] = {{bytes, 100}, {bytes + 100, 0}, {bytes + 100, N - 100}};
        km_blob_file file;
        if (km_blob_file_open(folder, pieces, 3, &file, why)) {
            fprintf(stderr, "%s\n", why);
            wrong++;
            continue;
        }
        wrong += file.n_bytes != N || memcmp(file.base, bytes, N) != 0;
        km_blob_file_close(&file);
        if (i % 3 == 0) km_blob_files_sweep(folder);
    }
    return wrong;
}

static void test_blob_files(void) {
    char folder[] = "/tmp/keymiss-blobs-XXXXXX";
    CHECK(mkdtemp(folder));
    for (unsigned i = 0; i < 4; i++) {
        pid_t child = fork();
        if (child == 0) _exit(use_blob_files(folder, i) != 0);
        CHECK(child > 0);
    }
    for (int status, i = 0; i < 4; i++) CHECK(wait(&status) > 0 && status == 0);
    km_blob_files_sweep(folder);
    CHECK(rmdir(folder) == 0); /* empty */
    char why[KM_WHY_BYTES];
    km_blob_file file;
    CHECK(km_blob_file_open("/nowhere/at/all", &(struct iovec){"a", 1}, 1, &file, why) == -1 && strstr(why, "No such file"));
}

int main(void) {
    test_map();
    test_seen();
    test_deps();
    test_many_deps();
    test_resp();
    test_blob_files();
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}
