/* A blob is counted, as the models of a COPY share it and the lazy-free thread frees models. It is moved into its file by a
 * thread: to write or to compare 1 GB takes a second. The thread has one task at a time, begun and taken back by the tick of the
 * main thread; between the two the task is the thread's, and the blob's bytes are only read by both. The main thread puts the
 * mapped bytes in the place of those on the heap, which the thread frees, with its next task. */
#include "blob.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/uio.h>

#include "alloc.h"
#include "blob_files.h"
#include "core.h"
#include "datatype.h"
#include "events.h"

#define LARGE_BYTES (1 << 20)
#define SWEEP_MS 60000
#define TRY_AGAIN_MS 10000

struct km_blob {
    int uses; /* atomic */
    int n, room;
    size_t n_bytes;
    km_strings chunks; /* none: they are in the file */
    struct iovec *pieces; /* the chunks in the file; while it is made, in the strings */
    int settled; /* it may be moved, or was */
    km_blob_file file;
};

typedef struct waiting {
    struct waiting *next;
    km_blob *blob;
} waiting;

static struct {
    pthread_t thread;
    int runs;
    int done; /* atomic: set by the thread */
    km_blob *blob; /* to be moved, or NULL */
    km_blob_file file;
    char why[KM_WHY_BYTES];
    km_strings garbage; /* to be freed */
    int sweep;
} task;

static waiting *to_move;
static mstime_t not_before_ms, swept_ms;
static int warned;
static long long mapped_bytes; /* atomic, as the next one is */
static int unmapped; /* one since the last sweep */

/* ---- what a blob is ---- */

static void move_later(km_blob *b) {
    waiting *w = km_alloc(sizeof *w);
    *w = (waiting){to_move, b};
    to_move = w;
}

void km_blob_settle(km_blob *b) {
    if (b->settled) return;
    b->settled = 1;
    if (*km_config.model_folder && b->n_bytes >= LARGE_BYTES) move_later(km_blob_share(b));
}

/* A string is asked each time where its bytes are: when a command ends, the server moves those of its arguments that were kept. */
static struct iovec piece(const km_blob *b, int i) {
    if (b->file.base) return b->pieces[i];
    struct iovec found;
    found.iov_base = (void *)RedisModule_StringPtrLen(b->chunks.items[i], &found.iov_len);
    return found;
}

static void add_bytes(km_blob *b, size_t len) {
    b->n_bytes += len;
    km_values_bytes_add((long long)len);
}

km_blob *km_blob_new(km_strings chunks) {
    km_blob *b = km_calloc(1, sizeof *b);
    *b = (km_blob){.uses = 1, .n = chunks.n, .room = chunks.n, .chunks = chunks};
    for (int i = 0; i < chunks.n; i++) add_bytes(b, piece(b, i).iov_len);
    return b;
}

void km_blob_append(km_blob *b, RedisModuleString *chunk) {
    if (b->n == b->room) {
        b->room = 2 * b->n + 1;
        RedisModuleString **more = km_calloc((size_t)b->room, sizeof *more);
        if (b->n) memcpy(more, b->chunks.items, (size_t)b->n * sizeof *more);
        km_free(b->chunks.items);
        b->chunks.items = more;
    }
    b->chunks.items[b->n++] = chunk;
    b->chunks.n = b->n;
    add_bytes(b, piece(b, b->n - 1).iov_len);
}

int km_blob_may_grow(const km_blob *b) { return !b->settled && __atomic_load_n(&b->uses, __ATOMIC_ACQUIRE) == 1; }

km_blob *km_blob_share(km_blob *b) {
    __atomic_add_fetch(&b->uses, 1, __ATOMIC_RELAXED);
    return b;
}

void km_blob_release(km_blob *b) {
    if (!b || __atomic_sub_fetch(&b->uses, 1, __ATOMIC_ACQ_REL)) return;
    km_values_bytes_add(-(long long)km_blob_heap_bytes(b));
    if (b->file.base) {
        __atomic_sub_fetch(&mapped_bytes, (long long)b->n_bytes, __ATOMIC_RELAXED);
        km_blob_file_close(&b->file);
        __atomic_store_n(&unmapped, 1, __ATOMIC_RELEASE);
    }
    km_strings_free(&b->chunks);
    km_free(b->pieces);
    km_free(b);
}

size_t km_blob_bytes(const km_blob *b) { return b->n_bytes; }
size_t km_blob_heap_bytes(const km_blob *b) { return b->file.base ? 0 : b->n_bytes; }
int km_blob_n_chunks(const km_blob *b) { return b->n; }

const char *km_blob_chunk(const km_blob *b, int i, size_t *len) {
    struct iovec found = piece(b, i);
    *len = found.iov_len;
    return found.iov_base;
}

km_strings km_blob_strings(const km_blob *b, int copy) {
    km_strings out = {b->n, km_calloc((size_t)b->n, sizeof *out.items)};
    for (int i = 0; i < b->n; i++) {
        struct iovec bytes = piece(b, i);
        int share = !copy && !b->file.base;
        if (share) RedisModule_RetainString(NULL, b->chunks.items[i]);
        out.items[i] = share ? b->chunks.items[i] : RedisModule_CreateString(NULL, bytes.iov_base, bytes.iov_len);
    }
    return out;
}

void km_blob_save(RedisModuleIO *rdb, const km_blob *b) {
    RedisModule_SaveUnsigned(rdb, (uint64_t)b->n);
    for (int i = 0; i < b->n; i++) {
        struct iovec one = piece(b, i);
        RedisModule_SaveStringBuffer(rdb, one.iov_base, one.iov_len);
    }
}

void km_blob_digest(RedisModuleDigest *md, const km_blob *b) {
    RedisModule_DigestAddLongLong(md, b->n);
    for (int i = 0; i < b->n; i++) {
        struct iovec one = piece(b, i);
        RedisModule_DigestAddStringBuffer(md, one.iov_base, one.iov_len);
    }
}

long long km_blobs_mapped_bytes(void) { return __atomic_load_n(&mapped_bytes, __ATOMIC_RELAXED); }

/* ---- on the thread ---- */

static void *do_task(void *unused) {
    (void)unused;
    km_strings_free(&task.garbage);
    if (task.blob) km_blob_file_open(km_config.model_folder, task.blob->pieces, task.blob->n, &task.file, task.why);
    if (task.sweep) km_blob_files_sweep(km_config.model_folder);
    __atomic_store_n(&task.done, 1, __ATOMIC_RELEASE);
    return NULL;
}

/* The server's signals are its main thread's; a file over a limit (SIGXFSZ) is an error as others are. */
static int begin_thread(void) {
    sigset_t all, before;
    sigfillset(&all);
    sigdelset(&all, SIGSEGV);
    sigdelset(&all, SIGBUS);
    sigdelset(&all, SIGFPE);
    sigdelset(&all, SIGILL);
    sigdelset(&all, SIGABRT);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int begun = pthread_create(&task.thread, NULL, do_task, NULL) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return begun;
}

/* ---- on the main thread ---- */

static km_blob *take(waiting **link) {
    waiting *gone = *link;
    km_blob *b = gone->blob;
    *link = gone->next;
    km_free(gone);
    return b;
}

/* Whose models have gone. */
static void drop_unused(void) {
    for (waiting **link = &to_move; *link;) {
        if (__atomic_load_n(&(*link)->blob->uses, __ATOMIC_ACQUIRE) > 1)
            link = &(*link)->next;
        else
            km_blob_release(take(link));
    }
}

static void find_pieces(km_blob *b) {
    if (!b->pieces) b->pieces = km_calloc((size_t)b->n, sizeof *b->pieces);
    for (int i = 0; i < b->n; i++) b->pieces[i] = piece(b, i);
}

static void begin_task(RedisModuleCtx *ctx, mstime_t now) {
    drop_unused();
    if (now < not_before_ms) return;
    if (to_move) find_pieces(task.blob = take(&to_move));
    task.sweep = !task.blob && (__atomic_load_n(&unmapped, __ATOMIC_ACQUIRE) || now - swept_ms >= SWEEP_MS);
    if (!task.blob && !task.garbage.n && !task.sweep) return;
    if (task.sweep) {
        __atomic_store_n(&unmapped, 0, __ATOMIC_RELEASE);
        swept_ms = now;
    }
    task.done = 0;
    if ((task.runs = begin_thread())) return;
    RedisModule_Log(ctx, "warning", "keymiss: no thread could be started to move a model's blob into a file");
    not_before_ms = now + TRY_AGAIN_MS;
    if (task.blob) move_later(task.blob);
    task.blob = NULL;
}

static void use_file(km_blob *b) {
    char *at = task.file.base;
    b->file = task.file;
    for (int i = 0; i < b->n; at += b->pieces[i++].iov_len) b->pieces[i].iov_base = at;
    task.garbage = b->chunks;
    b->chunks = (km_strings){0};
    km_values_bytes_add(-(long long)b->n_bytes);
    __atomic_add_fetch(&mapped_bytes, (long long)b->n_bytes, __ATOMIC_RELAXED);
}

static void end_task(RedisModuleCtx *ctx, mstime_t now) {
    pthread_join(task.thread, NULL);
    task.runs = 0;
    km_blob *b = task.blob;
    task.blob = NULL;
    if (!b) return;
    if (task.file.base) {
        use_file(b);
        warned = 0;
        km_blob_release(b);
        return;
    }
    if (!warned)
        RedisModule_Log(ctx, "warning", "keymiss: a model's blob of %zu bytes stays on the heap, as it cannot be moved to %s, which is tried again every 10 s: %s",
                        b->n_bytes, km_config.model_folder, task.why);
    warned = 1;
    not_before_ms = now + TRY_AGAIN_MS;
    move_later(b);
}

static void tick(RedisModuleCtx *ctx, const void *data) {
    mstime_t now = *(const mstime_t *)data;
    if (!*km_config.model_folder || (task.runs && !__atomic_load_n(&task.done, __ATOMIC_ACQUIRE))) return;
    if (task.runs) end_task(ctx, now);
    begin_task(ctx, now);
}

int km_blobs_register(RedisModuleCtx *ctx) {
    (void)ctx;
    km_on(KM_ON_TICK, tick);
    return REDISMODULE_OK;
}
