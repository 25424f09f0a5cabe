/* Masters tell each other which prefixes functions are registered for. A shard that has none of them, because it
 * joined later or an upload ended half-way, then says so to a GET, where null would read as "there is no answer".
 *
 * A message over the cluster's bus, each second and at each change: the version, then each prefix with its length in
 * two bytes, the higher first. What a node told is forgotten when it has been silent for a while. */
#include "events.h"
#include "registry.h"

#define MESSAGE 1
#define VERSION 1
#define EVERY_MS 1000
#define FORGET_AFTER_MS 5000
#define MAX_MESSAGE (64 * 1024)
#define NODE_ID 40

typedef struct node { /* another master */
    struct node *next;
    char id[NODE_ID];
    mstime_t heard_ms;
    size_t len;
    char *prefixes; /* as they came, without the version */
} node;

int km_unregistered_count;

static RedisModuleCtx *own_ctx; /* detached: to send outside of commands */
static node *nodes;
static char unregistered[MAX_MESSAGE]; /* the prefixes that others have and this shard has not, in the same form */
static size_t unregistered_len;
static mstime_t next_ms;

/* The prefix at *at, which moves on; 0 at the end or where the bytes are no prefix. */
static int next_prefix(const char *bytes, size_t len, size_t *at, const char **prefix, size_t *prefix_len) {
    if (len - *at < 2) return 0;
    size_t n = (size_t)((unsigned char)bytes[*at] << 8 | (unsigned char)bytes[*at + 1]);
    if (len - *at - 2 < n) return 0;
    *prefix = bytes + *at + 2;
    *prefix_len = n;
    *at += 2 + n;
    return 1;
}

static size_t put_prefix(char *out, size_t used, const char *prefix, size_t len) {
    if (len > UINT16_MAX || MAX_MESSAGE - used < len + 2) return used; /* so long a one is not announced */
    out[used] = (char)(len >> 8);
    out[used + 1] = (char)(len & 0xff);
    memcpy(out + used + 2, prefix, len);
    return used + 2 + len;
}

static int list_has(const char *list, size_t list_len, const char *prefix, size_t len) {
    const char *p;
    size_t n;
    for (size_t at = 0; next_prefix(list, list_len, &at, &p, &n);)
        if (n == len && memcmp(p, prefix, n) == 0) return 1;
    return 0;
}

/* Kept ready, because the filter asks it for every GET: it is empty as long as all shards have the same functions. */
static void compare(void) {
    unregistered_len = 0;
    km_unregistered_count = 0;
    for (node *n = nodes; n; n = n->next) {
        const char *prefix;
        size_t len;
        for (size_t at = 0; next_prefix(n->prefixes, n->len, &at, &prefix, &len);) {
            if (km_registry_for_miss(prefix, len) || list_has(unregistered, unregistered_len, prefix, len)) continue;
            unregistered_len = put_prefix(unregistered, unregistered_len, prefix, len);
            km_unregistered_count++;
        }
    }
}

int km_is_unregistered(const char *key, size_t len) {
    const char *prefix;
    size_t n;
    if (km_unregistered_count == 0) return 0;
    for (size_t at = 0; next_prefix(unregistered, unregistered_len, &at, &prefix, &n);)
        if (n <= len && memcmp(prefix, key, n) == 0) return 1;
    return 0;
}

static void receive(RedisModuleCtx *ctx, const char *sender, uint8_t type, const unsigned char *payload, uint32_t len) {
    (void)ctx;
    (void)type;
    if (len < 1 || len > MAX_MESSAGE + 1 || payload[0] != VERSION) return;
    node *n = nodes;
    while (n && memcmp(n->id, sender, NODE_ID) != 0) n = n->next;
    if (!n) {
        n = km_calloc(1, sizeof *n);
        memcpy(n->id, sender, NODE_ID);
        n->next = nodes;
        nodes = n;
    }
    n->heard_ms = RedisModule_Milliseconds();
    if (n->prefixes && n->len == len - 1 && memcmp(n->prefixes, payload + 1, n->len) == 0) return;
    km_free(n->prefixes);
    n->len = len - 1;
    n->prefixes = km_memdup0(payload + 1, n->len);
    compare();
}

static void announce(void) {
    int flags = RedisModule_GetContextFlags(own_ctx);
    if (!(flags & REDISMODULE_CTX_FLAGS_CLUSTER) || !(flags & REDISMODULE_CTX_FLAGS_MASTER) || (flags & REDISMODULE_CTX_FLAGS_LOADING))
        return;
    static char message[MAX_MESSAGE + 1] = {VERSION};
    char *list = message + 1;
    size_t len = 0;
    for (km_registration *reg = km_registry_first(); reg; reg = reg->next)
        if (reg->is_miss && !list_has(list, len, reg->prefix, reg->prefix_len)) len = put_prefix(list, len, reg->prefix, reg->prefix_len);
    RedisModule_SendClusterMessage(own_ctx, NULL, MESSAGE, message, (uint32_t)(len + 1));
}

static void registrations_changed(RedisModuleCtx *ctx, const void *data) {
    (void)ctx;
    (void)data;
    compare();
    announce();
}

static void tick(RedisModuleCtx *ctx, const void *data) {
    (void)ctx;
    mstime_t now = *(const mstime_t *)data;
    if (now < next_ms) return;
    next_ms = now + EVERY_MS;
    announce();
    int forgot = 0;
    for (node **link = &nodes; *link;) {
        node *n = *link;
        if (now - n->heard_ms < FORGET_AFTER_MS) {
            link = &n->next;
            continue;
        }
        *link = n->next;
        km_free(n->prefixes);
        km_free(n);
        forgot = 1;
    }
    if (forgot) compare();
}

int km_announce_register(RedisModuleCtx *ctx) {
    own_ctx = RedisModule_GetDetachedThreadSafeContext(ctx);
    RedisModule_RegisterClusterMessageReceiver(ctx, MESSAGE, receive);
    km_on(KM_ON_REGISTRATIONS, registrations_changed);
    km_on(KM_ON_TICK, tick);
    return REDISMODULE_OK;
}
