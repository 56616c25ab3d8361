/* Writes down what the processes of one machine do to its disk, in one order. Loaded before libc (LD_PRELOAD).
 *
 *   SYNDDB_DISK           the folder that is the disk; what lies elsewhere is not recorded
 *   SYNDDB_DISK_TRACE     the file of records
 *   SYNDDB_DISK_SLOW      so many microseconds a sync takes at most
 *   SYNDDB_DISK_UNSYNCED  a text: syncs of files with it in their path do nothing (the planted fault)
 *
 * What must stay true:
 *
 * - A call and its record are one step under a lock (flock) of the trace, so the order of the records is the order in which things
 *   happened, over all threads and processes. Whoever holds the lock meanwhile, holds the machine still.
 * - The real syncs are not done: the page cache of this machine outlives the power cut, and the records say what would have been synced.
 *   A sync makes durable what was recorded before it began.
 * - No descriptor of a recorded file is opened or closed here: closing one drops the locks that SQLite has on the file.
 *
 * What it does not see: `-shm` files, which are mapped and gone after a cut anyway; output through stdio; mapped writes; raw system calls.
 * The reader finds what was missed: it rebuilds the disk as it was without a cut, and compares.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

/* The kinds of records; `trace.rs` has the same. */
enum { CREATE = 1, LINK = 2, UNLINK = 3, RENAME = 4, WRITE = 5, RESIZE = 6, SYNC = 7 };

/* The head of a record; two byte strings follow. */
struct head {
    uint32_t kind;
    uint32_t first_bytes;
    uint64_t second_bytes;
    uint64_t inode;
    uint64_t number; /* WRITE: offset; RESIZE: size; SYNC: length of the trace when it began; CREATE, LINK: 1 for a folder */
};

static char root[PATH_MAX];
static size_t root_bytes;
static char trace_path[PATH_MAX];
static const char *unsynced;
static unsigned slow;
static int trace = -1;
static pthread_mutex_t within = PTHREAD_MUTEX_INITIALIZER;

static void die(const char *what) {
    dprintf(2, "disk shim: %s: %s\n", what, strerror(errno));
    _exit(125);
}

#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

static void open_trace(void) {
    /* Raw: `open` is ours. */
    trace = (int)syscall(SYS_openat, AT_FDCWD, trace_path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (trace < 0) die("cannot open the trace");
    /* Out of the way of programs that close or count low descriptors. */
    int high = fcntl(trace, F_DUPFD_CLOEXEC, 900);
    if (high >= 0) {
        syscall(SYS_close, trace);
        trace = high;
    }
}

static void before_fork(void) { pthread_mutex_lock(&within); }
static void after_fork(void) { pthread_mutex_unlock(&within); }
/* A lock of flock belongs to the open file, which the child would share. */
static void after_fork_in_child(void) {
    if (trace >= 0) {
        syscall(SYS_close, trace);
        open_trace();
    }
    pthread_mutex_unlock(&within);
}

__attribute__((constructor)) static void begin(void) {
    const char *folder = getenv("SYNDDB_DISK"), *file = getenv("SYNDDB_DISK_TRACE");
    if (!folder || !file) return;
    if (!realpath(folder, root)) die("cannot find the disk");
    root_bytes = strlen(root);
    snprintf(trace_path, sizeof trace_path, "%s", file);
    unsynced = getenv("SYNDDB_DISK_UNSYNCED");
    const char *micros = getenv("SYNDDB_DISK_SLOW");
    slow = micros ? (unsigned)atoi(micros) : 0;
    open_trace();
    pthread_atfork(before_fork, after_fork, after_fork_in_child);
}

static void lock(void) {
    pthread_mutex_lock(&within);
    while (flock(trace, LOCK_EX) != 0)
        if (errno != EINTR) die("cannot lock the trace");
}

static void unlock(void) {
    int saved = errno;
    flock(trace, LOCK_UN);
    pthread_mutex_unlock(&within);
    errno = saved;
}

static void put(const struct iovec *parts, int count) {
    size_t whole = 0;
    for (int i = 0; i < count; i++) whole += parts[i].iov_len;
    if (syscall(SYS_writev, trace, parts, count) != (long)whole) die("cannot write the trace");
}

static void record(uint32_t kind, uint64_t inode, uint64_t number, const void *first, size_t first_bytes,
                   const void *second, size_t second_bytes) {
    int saved = errno;
    struct head head = {kind, (uint32_t)first_bytes, second_bytes, inode, number};
    struct iovec parts[3] = {
        {&head, sizeof head}, {(void *)first, first_bytes}, {(void *)second, second_bytes}};
    put(parts, 3);
    errno = saved;
}

/* Paths. */

static int is_on_disk(const char *path) {
    size_t bytes = strlen(path);
    if (root_bytes == 0 || strncmp(path, root, root_bytes) != 0) return 0;
    if (path[root_bytes] != '/' && path[root_bytes] != 0) return 0;
    return bytes < 4 || strcmp(path + bytes - 4, "-shm") != 0;
}

/* The absolute path of a name: its folder without links, and the name. Says whether it is on the disk. */
static int whole(int folder, const char *name, char *out) {
    char text[PATH_MAX], found[PATH_MAX];
    if (trace < 0 || !name || !*name) return 0;
    int saved = errno, is_there = 0;
    if (name[0] == '/') {
        snprintf(text, sizeof text, "%s", name);
    } else if (folder == AT_FDCWD) {
        snprintf(text, sizeof text, "./%s", name);
    } else {
        char link[64], above[PATH_MAX];
        snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
        ssize_t bytes = readlink(link, above, sizeof above - 1);
        if (bytes < 0) goto out;
        above[bytes] = 0;
        if (snprintf(text, sizeof text, "%s/%s", above, name) >= (int)sizeof text) goto out;
    }
    size_t bytes = strlen(text);
    while (bytes > 1 && text[bytes - 1] == '/') text[--bytes] = 0;
    char *last = strrchr(text, '/');
    if (!last || strcmp(last + 1, ".") == 0 || strcmp(last + 1, "..") == 0) {
        is_there = realpath(text, out) != NULL && is_on_disk(out);
        goto out;
    }
    *last = 0;
    if (!realpath(*text ? text : "/", found)) goto out;
    if (snprintf(out, PATH_MAX, "%s/%s", found, last + 1) >= PATH_MAX) goto out;
    is_there = is_on_disk(out);
out:
    errno = saved;
    return is_there;
}

/* Descriptors. What was found of one is remembered with the file that it was found for, so that a number used again is looked up again. */

#define KNOWN_MAX 4096
static struct known {
    dev_t device;
    ino_t inode;
    char state; /* 0 not looked up, 1 on the disk, 2 not */
} known[KNOWN_MAX];

static int path_of(int fd, char *out) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t bytes = readlink(link, out, PATH_MAX - 1);
    if (bytes < 0) return 0;
    out[bytes] = 0;
    /* A file without a name is on the disk all the same. */
    char *gone = strstr(out, " (deleted)");
    if (gone) *gone = 0;
    return 1;
}

/* Whether a descriptor is of a file or folder on the disk, and of which. */
static int on_disk(int fd, uint64_t *inode) {
    if (trace < 0 || fd < 0 || fd == trace) return 0;
    int saved = errno;
    struct stat found;
    if (fstat(fd, &found) != 0 || !(S_ISREG(found.st_mode) || S_ISDIR(found.st_mode))) {
        errno = saved;
        return 0;
    }
    *inode = found.st_ino;
    struct known *of = fd < KNOWN_MAX ? &known[fd] : NULL;
    if (of && of->state && of->device == found.st_dev && of->inode == found.st_ino) {
        errno = saved;
        return of->state == 1;
    }
    char path[PATH_MAX];
    int is = path_of(fd, path) && is_on_disk(path);
    if (of) {
        of->device = found.st_dev;
        of->inode = found.st_ino;
        of->state = is ? 1 : 2;
    }
    errno = saved;
    return is;
}

static void forget(int fd) {
    if (fd >= 0 && fd < KNOWN_MAX) known[fd].state = 0;
}

/* Opening. */

static int opened(int folder, const char *name, int flags, mode_t mode) {
    char path[PATH_MAX];
    int unnamed = (flags & O_TMPFILE) == O_TMPFILE;
    if (!(flags & (O_CREAT | O_TRUNC)) && !unnamed) {
        int fd = (int)syscall(SYS_openat, folder, name, flags, mode);
        forget(fd);
        return fd;
    }
    if (!whole(folder, name, path)) {
        int fd = (int)syscall(SYS_openat, folder, name, flags, mode);
        forget(fd);
        return fd;
    }
    lock();
    struct stat before, after;
    int saved = errno;
    int was = !unnamed && stat(path, &before) == 0;
    errno = saved;
    int fd = (int)syscall(SYS_openat, folder, name, flags, mode);
    forget(fd);
    if (fd >= 0 && fstat(fd, &after) == 0 && S_ISREG(after.st_mode)) {
        if (unnamed) record(CREATE, after.st_ino, 0, "", 0, "", 0);
        else if (!was) record(CREATE, after.st_ino, 0, path, strlen(path), "", 0);
        else if ((flags & O_TRUNC) && before.st_size > 0) record(RESIZE, after.st_ino, 0, "", 0, "", 0);
    }
    unlock();
    return fd;
}

#define MODE(flags, last) \
    mode_t mode = 0; \
    if (((flags) & O_CREAT) || ((flags) & O_TMPFILE) == O_TMPFILE) { \
        va_list list; \
        va_start(list, last); \
        mode = va_arg(list, mode_t); \
        va_end(list); \
    }

int open(const char *name, int flags, ...) { MODE(flags, flags) return opened(AT_FDCWD, name, flags, mode); }
int open64(const char *name, int flags, ...) { MODE(flags, flags) return opened(AT_FDCWD, name, flags, mode); }
int openat(int folder, const char *name, int flags, ...) { MODE(flags, flags) return opened(folder, name, flags, mode); }
int openat64(int folder, const char *name, int flags, ...) { MODE(flags, flags) return opened(folder, name, flags, mode); }
int __open_2(const char *name, int flags) { return opened(AT_FDCWD, name, flags, 0); }
int __open64_2(const char *name, int flags) { return opened(AT_FDCWD, name, flags, 0); }
int __openat_2(int folder, const char *name, int flags) { return opened(folder, name, flags, 0); }
int __openat64_2(int folder, const char *name, int flags) { return opened(folder, name, flags, 0); }
int creat(const char *name, mode_t mode) { return opened(AT_FDCWD, name, O_CREAT | O_WRONLY | O_TRUNC, mode); }
int creat64(const char *name, mode_t mode) { return opened(AT_FDCWD, name, O_CREAT | O_WRONLY | O_TRUNC, mode); }

/* Writing. */

static void record_parts(uint64_t inode, uint64_t offset, const struct iovec *parts, int count, size_t written) {
    char *bytes = malloc(written ? written : 1);
    if (!bytes) die("no memory");
    size_t at = 0;
    for (int i = 0; i < count && at < written; i++) {
        size_t some = parts[i].iov_len < written - at ? parts[i].iov_len : written - at;
        memcpy(bytes + at, parts[i].iov_base, some);
        at += some;
    }
    record(WRITE, inode, offset, "", 0, bytes, written);
    free(bytes);
}

/* Where the last write through a descriptor began: its place now, less what was written. */
static uint64_t begun(int fd, ssize_t written) { return (uint64_t)(lseek(fd, 0, SEEK_CUR) - written); }

ssize_t write(int fd, const void *bytes, size_t count) {
    uint64_t inode;
    if (!on_disk(fd, &inode)) return syscall(SYS_write, fd, bytes, count);
    lock();
    ssize_t written = syscall(SYS_write, fd, bytes, count);
    if (written > 0) record(WRITE, inode, begun(fd, written), "", 0, bytes, (size_t)written);
    unlock();
    return written;
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    uint64_t inode;
    if (!on_disk(fd, &inode)) return syscall(SYS_writev, fd, parts, count);
    lock();
    ssize_t written = syscall(SYS_writev, fd, parts, count);
    if (written > 0) record_parts(inode, begun(fd, written), parts, count, (size_t)written);
    unlock();
    return written;
}

static ssize_t written_at(int fd, const void *bytes, size_t count, off64_t offset) {
    uint64_t inode;
    if (!on_disk(fd, &inode)) return syscall(SYS_pwrite64, fd, bytes, count, offset);
    lock();
    ssize_t written = syscall(SYS_pwrite64, fd, bytes, count, offset);
    if (written > 0) record(WRITE, inode, (uint64_t)offset, "", 0, bytes, (size_t)written);
    unlock();
    return written;
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t offset) { return written_at(fd, bytes, count, offset); }
ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t offset) { return written_at(fd, bytes, count, offset); }

static ssize_t written_parts_at(int fd, const struct iovec *parts, int count, off64_t offset) {
    uint64_t inode;
    REAL(pwritev64);
    if (!on_disk(fd, &inode)) return real(fd, parts, count, offset);
    lock();
    ssize_t written = real(fd, parts, count, offset);
    if (written > 0) record_parts(inode, (uint64_t)offset, parts, count, (size_t)written);
    unlock();
    return written;
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset) { return written_parts_at(fd, parts, count, offset); }
ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t offset) { return written_parts_at(fd, parts, count, offset); }

/* What a copy wrote is read again from where it came, since the target may not be open for reading. */
static void record_copied(uint64_t inode, uint64_t to, int from, off64_t at, ssize_t copied) {
    char *bytes = malloc((size_t)copied);
    if (!bytes) die("no memory");
    if (syscall(SYS_pread64, from, bytes, (size_t)copied, at) != copied) die("cannot read what was copied");
    record(WRITE, inode, to, "", 0, bytes, (size_t)copied);
    free(bytes);
}

ssize_t copy_file_range(int from, off64_t *at, int to, off64_t *place, size_t count, unsigned flags) {
    uint64_t inode;
    REAL(copy_file_range);
    if (!on_disk(to, &inode)) return real(from, at, to, place, count, flags);
    lock();
    ssize_t copied = real(from, at, to, place, count, flags);
    if (copied > 0) {
        off64_t source = (at ? *at : lseek(from, 0, SEEK_CUR)) - copied;
        record_copied(inode, place ? (uint64_t)(*place - copied) : begun(to, copied), from, source, copied);
    }
    unlock();
    return copied;
}

static ssize_t sent(int to, int from, off64_t *at, size_t count) {
    uint64_t inode;
    REAL(sendfile64);
    if (!on_disk(to, &inode)) return real(to, from, at, count);
    lock();
    ssize_t copied = real(to, from, at, count);
    if (copied > 0) {
        off64_t source = (at ? *at : lseek(from, 0, SEEK_CUR)) - copied;
        record_copied(inode, begun(to, copied), from, source, copied);
    }
    unlock();
    return copied;
}

ssize_t sendfile(int to, int from, off_t *at, size_t count) { return sent(to, from, at, count); }
ssize_t sendfile64(int to, int from, off64_t *at, size_t count) { return sent(to, from, at, count); }

/* Sizes. */

static int resized(int fd, off64_t size) {
    uint64_t inode;
    if (!on_disk(fd, &inode)) return (int)syscall(SYS_ftruncate, fd, size);
    lock();
    int code = (int)syscall(SYS_ftruncate, fd, size);
    if (code == 0) record(RESIZE, inode, (uint64_t)size, "", 0, "", 0);
    unlock();
    return code;
}

int ftruncate(int fd, off_t size) { return resized(fd, size); }
int ftruncate64(int fd, off64_t size) { return resized(fd, size); }

static int resized_named(const char *name, off64_t size) {
    char path[PATH_MAX];
    if (!whole(AT_FDCWD, name, path)) return (int)syscall(SYS_truncate, name, size);
    lock();
    struct stat found;
    int code = (int)syscall(SYS_truncate, name, size);
    if (code == 0 && stat(name, &found) == 0) record(RESIZE, found.st_ino, (uint64_t)size, "", 0, "", 0);
    unlock();
    return code;
}

int truncate(const char *name, off_t size) { return resized_named(name, size); }
int truncate64(const char *name, off64_t size) { return resized_named(name, size); }

static int allocated(int fd, int mode, off64_t offset, off64_t bytes) {
    uint64_t inode;
    if (!on_disk(fd, &inode)) return (int)syscall(SYS_fallocate, fd, mode, offset, bytes);
    if (mode & ~1) { /* FALLOC_FL_KEEP_SIZE */
        errno = EOPNOTSUPP;
        return -1;
    }
    lock();
    struct stat found;
    int code = (int)syscall(SYS_fallocate, fd, mode, offset, bytes);
    if (code == 0 && fstat(fd, &found) == 0) record(RESIZE, inode, (uint64_t)found.st_size, "", 0, "", 0);
    unlock();
    return code;
}

int fallocate(int fd, int mode, off_t offset, off_t bytes) { return allocated(fd, mode, offset, bytes); }
int fallocate64(int fd, int mode, off64_t offset, off64_t bytes) { return allocated(fd, mode, offset, bytes); }
int posix_fallocate(int fd, off_t offset, off_t bytes) { return allocated(fd, 0, offset, bytes) == 0 ? 0 : errno; }
int posix_fallocate64(int fd, off64_t offset, off64_t bytes) { return allocated(fd, 0, offset, bytes) == 0 ? 0 : errno; }

/* Syncing. */

static int synced(int fd, long real) {
    uint64_t inode;
    if (!on_disk(fd, &inode)) return (int)syscall(real, fd);
    if (unsynced) {
        char path[PATH_MAX];
        if (path_of(fd, path) && strstr(path, unsynced)) return 0;
    }
    lock();
    struct stat found;
    if (fstat(trace, &found) != 0) die("cannot measure the trace");
    uint64_t began = (uint64_t)found.st_size;
    if (slow) {
        /* Others go on meanwhile. */
        unlock();
        usleep((useconds_t)(began % slow));
        lock();
    }
    record(SYNC, inode, began, "", 0, "", 0);
    unlock();
    return 0;
}

int fsync(int fd) { return synced(fd, SYS_fsync); }
int fdatasync(int fd) { return synced(fd, SYS_fdatasync); }

/* Names. */

static int renamed(int from, const char *old, int to, const char *new, unsigned flags) {
    char was[PATH_MAX], is[PATH_MAX];
    int before = whole(from, old, was), after = whole(to, new, is);
    if (!before && !after) return (int)syscall(SYS_renameat2, from, old, to, new, flags);
    if (before != after || (flags & ~1u)) { /* RENAME_NOREPLACE */
        errno = EXDEV;
        return -1;
    }
    lock();
    int code = (int)syscall(SYS_renameat2, from, old, to, new, flags);
    if (code == 0) record(RENAME, 0, 0, was, strlen(was), is, strlen(is));
    unlock();
    return code;
}

int rename(const char *old, const char *new) { return renamed(AT_FDCWD, old, AT_FDCWD, new, 0); }
int renameat(int from, const char *old, int to, const char *new) { return renamed(from, old, to, new, 0); }
int renameat2(int from, const char *old, int to, const char *new, unsigned flags) { return renamed(from, old, to, new, flags); }

static int unlinked(int folder, const char *name, int flags) {
    char path[PATH_MAX];
    if (!whole(folder, name, path)) return (int)syscall(SYS_unlinkat, folder, name, flags);
    lock();
    int code = (int)syscall(SYS_unlinkat, folder, name, flags);
    if (code == 0) record(UNLINK, 0, 0, path, strlen(path), "", 0);
    unlock();
    return code;
}

int unlink(const char *name) { return unlinked(AT_FDCWD, name, 0); }
int unlinkat(int folder, const char *name, int flags) { return unlinked(folder, name, flags); }
int rmdir(const char *name) { return unlinked(AT_FDCWD, name, AT_REMOVEDIR); }
int remove(const char *name) {
    int code = unlinked(AT_FDCWD, name, 0);
    return code != 0 && errno == EISDIR ? unlinked(AT_FDCWD, name, AT_REMOVEDIR) : code;
}

static int linked(int from, const char *old, int to, const char *new, int flags) {
    char path[PATH_MAX];
    if (!whole(to, new, path)) return (int)syscall(SYS_linkat, from, old, to, new, flags);
    lock();
    struct stat found;
    int code = (int)syscall(SYS_linkat, from, old, to, new, flags);
    if (code == 0 && lstat(path, &found) == 0) record(LINK, found.st_ino, 0, path, strlen(path), "", 0);
    unlock();
    return code;
}

int link(const char *old, const char *new) { return linked(AT_FDCWD, old, AT_FDCWD, new, 0); }
int linkat(int from, const char *old, int to, const char *new, int flags) { return linked(from, old, to, new, flags); }

static int made(int folder, const char *name, mode_t mode) {
    char path[PATH_MAX];
    if (!whole(folder, name, path)) return (int)syscall(SYS_mkdirat, folder, name, mode);
    lock();
    struct stat found;
    int code = (int)syscall(SYS_mkdirat, folder, name, mode);
    if (code == 0 && stat(path, &found) == 0) record(CREATE, found.st_ino, 1, path, strlen(path), "", 0);
    unlock();
    return code;
}

int mkdir(const char *name, mode_t mode) { return made(AT_FDCWD, name, mode); }
int mkdirat(int folder, const char *name, mode_t mode) { return made(folder, name, mode); }
