/* The structures that call no server: the map and the RESP2 reader, under AddressSanitizer. */
#include <stdio.h>

#include "../alloc.h"
#include "../map.h"
#include "../resp.h"

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

static void count(void *value, void *arg) {
    (void)value;
    ++*(int *)arg;
}

static void test_map(void) {
    enum { N = 20000 };
    static int values[N];
    km_map *map = km_map_new(42);
    CHECK(km_map_get(map, "x", 1) == NULL);
    CHECK(km_map_del(map, "x", 1) == NULL);
    for (int i = 0; i < N; i++) CHECK(km_map_set(map, &i, sizeof i, &values[i]) == NULL);
    CHECK(km_map_size(map) == N);
    int seen = 0;
    km_map_each(map, count, &seen);
    CHECK(seen == N);
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
    km_map_free(map);
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
    CHECK(RESP("$5\r\nab\r\n") == -1);
    CHECK(RESP("$-2\r\n") == -1);
    CHECK(RESP("$999999999999999999\r\nx\r\n") == -1);
    CHECK(RESP("*3\r\n:1\r\n") == -1);
    CHECK(RESP("*999999999999999999\r\n") == -1);
    CHECK(RESP("!oops\r\n") == -1);
    CHECK(RESP("\0\r\n") == -1);
    char deep[17 * 4 + 5];
    for (int i = 0; i < 17; i++) memcpy(deep + 4 * i, "*1\r\n", 4);
    memcpy(deep + 68, ":1\r\n", 4);
    CHECK(check_resp(deep, 72) == -1);          /* 17 arrays and a number: 18 deep */
    CHECK(check_resp(deep + 8, 64) == 0);       /* 16 deep */
    /* Every cut and every changed byte of a good value: read within bounds, whatever the verdict. */
    const char good[] = "*3\r\n$5\r\nhello\r\n:123\r\n*2\r\n+a\r\n-b\r\n";
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

int main(void) {
    test_map();
    test_resp();
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}
