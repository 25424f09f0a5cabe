/* Files of large blobs in one folder, mapped by every server of the host that has the blob. Nothing here calls the server, and
 * any thread may call what is here.
 *
 * Whoever uses a file holds a shared flock on it. Whoever looks for one, makes one or removes those that nobody uses holds an
 * exclusive flock on the folder meanwhile. So a file is found by comparing its bytes, without a digest to trust, half a file is
 * used by nobody, and what a killed server leaves behind is removed by the next one that looks. */
#ifndef KM_BLOB_FILES_H
#define KM_BLOB_FILES_H

#include <stddef.h>
#include <sys/uio.h>

typedef struct {
    int fd;     /* holds the flock */
    void *base; /* NULL: there is none */
    size_t n_bytes;
} km_blob_file;

#define KM_WHY_BYTES 256

/* Maps a file that has these bytes, and makes it if there is none. 0, or -1 with the reason in `why`. */
int km_blob_file_open(const char *folder, const struct iovec *pieces, int n, km_blob_file *file, char *why);
void km_blob_file_close(km_blob_file *file);
/* Removes the files that no server uses. Does nothing if the folder cannot be had. */
void km_blob_files_sweep(const char *folder);

#endif
