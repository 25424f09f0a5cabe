#include "blob_files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define NAME_BYTES 64
#define ENDING ".blob"
#define AT_A_TIME_BYTES (64 * 1024)
/* Another server may be writing a blob of gigabytes. */
#define LOCK_WAIT_US 50000
#define LOCK_TRIES 1200

static int failed(char *why, const char *what) {
    char text[128];
    snprintf(why, KM_WHY_BYTES, "%s: %s", what, strerror_r(errno, text, sizeof text));
    return -1;
}

/* Opens and locks it: -1 with the reason in `why`. */
static int open_folder(const char *folder, char *why) {
    struct stat found;
    mkdir(folder, S_IRWXU); /* mostly it is there */
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) return failed(why, "the folder cannot be opened");
    if (fstat(fd, &found) || found.st_uid != geteuid() || found.st_mode & (S_IWGRP | S_IWOTH)) {
        snprintf(why, KM_WHY_BYTES, "the folder must belong to the server's user, and nobody else may write to it");
        close(fd);
        return -1;
    }
    for (int i = 0; i < LOCK_TRIES; i++) {
        if (flock(fd, LOCK_EX | LOCK_NB) == 0) return fd;
        if (errno != EWOULDBLOCK && errno != EINTR) break;
        usleep(LOCK_WAIT_US);
    }
    failed(why, "the folder cannot be locked");
    close(fd);
    return -1;
}

/* A child that saves has this file too, hence not only by closing it: its flock would stay. */
static void unlock_and_close(int fd) {
    flock(fd, LOCK_UN);
    close(fd);
}

static int is_name(const char *name) {
    size_t digits = strspn(name, "0123456789");
    return digits && name[digits] == '-' && strspn(name + digits + 1, "0123456789abcdef") == 16 && strcmp(name + digits + 17, ENDING) == 0;
}

/* -1, or a file of ours, that nobody else could write to. */
static int open_file(int folder, const char *name, struct stat *found) {
    int fd = openat(folder, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) return -1;
    if (fstat(fd, found) == 0 && S_ISREG(found->st_mode) && found->st_uid == geteuid() && !(found->st_mode & (S_IRWXG | S_IRWXO))) return fd;
    close(fd);
    return -1;
}

/* Calls `visit` for every name of the folder until it returns something else than -1, and returns that. */
static int each_name(int folder, int (*visit)(int folder, const char *name, void *data), void *data) {
    int again = dup(folder), result = -1;
    DIR *names = again < 0 ? NULL : fdopendir(again);
    if (!names) {
        if (again >= 0) close(again);
        return -1;
    }
    rewinddir(names);
    for (struct dirent *e; result < 0 && (e = readdir(names));)
        if (is_name(e->d_name)) result = visit(folder, e->d_name, data);
    closedir(names);
    return result;
}

typedef struct {
    const struct iovec *pieces;
    int n;
    size_t n_bytes;
} wanted;

static int has_bytes(int fd, const wanted *w) {
    char buffer[AT_A_TIME_BYTES];
    off_t at = 0;
    for (int i = 0; i < w->n; i++) {
        const char *bytes = w->pieces[i].iov_base;
        for (size_t left = w->pieces[i].iov_len; left;) {
            ssize_t got = pread(fd, buffer, left < sizeof buffer ? left : sizeof buffer, at);
            if (got < 0 && errno == EINTR) continue;
            if (got <= 0 || memcmp(buffer, bytes, (size_t)got) != 0) return 0;
            bytes += got;
            left -= (size_t)got;
            at += got;
        }
    }
    return 1;
}

/* The file, locked, if it has the wanted bytes; else -1. */
static int take_if_same(int folder, const char *name, void *data) {
    const wanted *w = data;
    struct stat found;
    int fd = open_file(folder, name, &found);
    if (fd < 0) return -1;
    if ((size_t)found.st_size == w->n_bytes && flock(fd, LOCK_SH | LOCK_NB) == 0) {
        if (has_bytes(fd, w)) return fd;
        flock(fd, LOCK_UN);
    }
    close(fd);
    return -1;
}

static int write_all(int fd, const wanted *w) {
    for (int i = 0; i < w->n; i++) {
        const char *bytes = w->pieces[i].iov_base;
        for (size_t left = w->pieces[i].iov_len; left;) {
            ssize_t n = write(fd, bytes, left);
            if (n < 0 && errno == EINTR) continue;
            if (n <= 0) return -1;
            bytes += n;
            left -= (size_t)n;
        }
    }
    return 0;
}

/* The servers' own files may be on the same disk: as much as the blob has must stay free. */
static int has_room(int folder, size_t n_bytes) {
    struct statvfs disk;
    return fstatvfs(folder, &disk) != 0 || (uint64_t)disk.f_bavail * disk.f_frsize >= 2 * (uint64_t)n_bytes;
}

static int make(int folder, const wanted *w, char *why) {
    uint64_t random;
    char name[NAME_BYTES];
    if (!has_room(folder, w->n_bytes)) {
        snprintf(why, KM_WHY_BYTES, "the disk has less than twice as much room");
        return -1;
    }
    if (getrandom(&random, sizeof random, 0) != sizeof random) return failed(why, "there are no random bytes for its name");
    snprintf(name, sizeof name, "%zu-%016llx" ENDING, w->n_bytes, (unsigned long long)random);
    int writing = openat(folder, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, S_IRUSR);
    if (writing < 0) return failed(why, "the file cannot be made");
    int fd = -1;
    if (fchmod(writing, S_IRUSR) || write_all(writing, w))
        failed(why, "the file cannot be written");
    else if ((fd = openat(folder, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC)) < 0 || flock(fd, LOCK_SH | LOCK_NB))
        failed(why, "the file cannot be locked");
    else {
        close(writing);
        return fd;
    }
    if (fd >= 0) close(fd);
    close(writing);
    unlinkat(folder, name, 0);
    return -1;
}

int km_blob_file_open(const char *folder, const struct iovec *pieces, int n, km_blob_file *file, char *why) {
    wanted w = {pieces, n, 0};
    for (int i = 0; i < n; i++) w.n_bytes += pieces[i].iov_len;
    *file = (km_blob_file){-1, NULL, w.n_bytes};
    int at = open_folder(folder, why);
    if (at < 0) return -1;
    file->fd = each_name(at, take_if_same, &w);
    if (file->fd < 0) file->fd = make(at, &w, why);
    unlock_and_close(at);
    if (file->fd < 0) return -1;
    void *base = mmap(NULL, w.n_bytes, PROT_READ, MAP_SHARED, file->fd, 0);
    if (base == MAP_FAILED) {
        failed(why, "the file cannot be mapped");
        unlock_and_close(file->fd);
        return -1;
    }
    file->base = base;
    return 0;
}

void km_blob_file_close(km_blob_file *file) {
    if (!file->base) return;
    munmap(file->base, file->n_bytes);
    unlock_and_close(file->fd);
    *file = (km_blob_file){-1, NULL, 0};
}

static int remove_if_unused(int folder, const char *name, void *data) {
    (void)data;
    struct stat found;
    int fd = open_file(folder, name, &found);
    if (fd < 0) return -1;
    if (flock(fd, LOCK_EX | LOCK_NB) == 0) unlinkat(folder, name, 0);
    unlock_and_close(fd);
    return -1;
}

void km_blob_files_sweep(const char *folder) {
    char why[KM_WHY_BYTES];
    int at = open_folder(folder, why);
    if (at < 0) return;
    each_name(at, remove_if_unused, NULL);
    unlock_and_close(at);
}
