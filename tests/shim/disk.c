/*
 * A disk that tells what was asked of it, and that fails on command. Preloaded into the real aexd:
 *
 *   LD_PRELOAD         this library
 *   AEX_HOME           the daemon's home. Watched are its `ledger.db`, `ledger.db-wal` and `ledger.db-journal` (`-shm` is memory), and
 *                      the folder itself, because a new name in it needs a flush of its own
 *   AEX_SHIM_LOG       where each operation is appended, with its bytes. Without it nothing is recorded
 *   AEX_SHIM_RULES     a file of orders (orders.h). It may appear, change and vanish at any time
 *
 * The log holds records in the order in which they ended: a fixed head (struct record) and `length` bytes. `start` and `end` come from one
 * counter, taken before and after the real call. So a write that was in flight while a flush ran ends after the flush began, and is not
 * promised by it. What goes out through a socket is in the same log, on the same counter: the world has seen it at `start` at the earliest.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

enum kind { OPENED = 1, WRITTEN, SIZED, SYNCED, UNLINKED, RENAMED, SENT, MAPPED };

struct record {
    uint64_t start, end;
    uint32_t kind;
    uint32_t object;  /* the file, by the order in which files were first opened; or the connection */
    int64_t at;       /* WRITTEN: the offset; SIZED: the size; OPENED: 1 when the name is new; SENT: own port << 16 | the other's */
    int64_t result;   /* what the call returned */
    int32_t error;    /* errno, when that is -1 */
    uint32_t length;
};

/* What a descriptor is. */
enum { UNKNOWN, OTHER, WATCHED, SOCKET };
enum { FDS = 65536, OBJECTS = 4096, ORDERS = 8 };
static struct slot {
    int what;
    char file;        /* d, w, j, f: as in the orders; 0 for a socket */
    uint32_t object;
    uint32_t told;    /* failed flushes of its file that it knows of */
    int64_t ports;
} slots[FDS];

/* Files by inode. A name that is gone frees its inode for another file. */
static struct { dev_t device; ino_t inode; int living; uint32_t failures; } objects[OBJECTS];
static uint32_t object_count, socket_count;

static atomic_uint_fast64_t counter;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* No signal may come between: its handler writes to a pipe, would come here again, and wait for a lock that its own thread holds. */
static sigset_t enter(void) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    pthread_mutex_lock(&lock);
    return before;
}

static void leave(sigset_t before) {
    pthread_mutex_unlock(&lock);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static int log_fd = -1;
static char home[4096], rules[4096];
static size_t home_length;

static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_writev)(int, const struct iovec *, int);
static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);
static ssize_t (*real_pwritev)(int, const struct iovec *, int, off_t);
static ssize_t (*real_send)(int, const void *, size_t, int);
static ssize_t (*real_sendto)(int, const void *, size_t, int, const struct sockaddr *, socklen_t);
static ssize_t (*real_sendmsg)(int, const struct msghdr *, int);
static ssize_t (*real_read)(int, void *, size_t);
static ssize_t (*real_pread)(int, void *, size_t, off_t);
static int (*real_open)(const char *, int, ...);
static int (*real_openat)(int, const char *, int, ...);
static int (*real_close)(int);
static int (*real_fsync)(int);
static int (*real_fdatasync)(int);
static int (*real_sync_file_range)(int, off_t, off_t, unsigned int);
static int (*real_ftruncate)(int, off_t);
static int (*real_fallocate)(int, int, off_t, off_t);
static int (*real_unlink)(const char *);
static int (*real_rename)(const char *, const char *);
static void *(*real_mmap)(void *, size_t, int, int, int, off_t);

static void find(void *slot, const char *name) {
    void *symbol = dlsym(RTLD_NEXT, name);
    memcpy(slot, &symbol, sizeof symbol);
}

/* Other libraries may write before this one is initialized: each function calls `begin` first. */
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void set_up(void) {
    find(&real_write, "write");
    find(&real_writev, "writev");
    find(&real_pwrite, "pwrite64");
    find(&real_pwritev, "pwritev64");
    find(&real_send, "send");
    find(&real_sendto, "sendto");
    find(&real_sendmsg, "sendmsg");
    find(&real_read, "read");
    find(&real_pread, "pread64");
    find(&real_open, "open64");
    find(&real_openat, "openat64");
    find(&real_close, "close");
    find(&real_fsync, "fsync");
    find(&real_fdatasync, "fdatasync");
    find(&real_sync_file_range, "sync_file_range");
    find(&real_ftruncate, "ftruncate64");
    find(&real_fallocate, "fallocate64");
    find(&real_unlink, "unlink");
    find(&real_rename, "rename");
    find(&real_mmap, "mmap64");
    const char *folder = getenv("AEX_HOME"), *log = getenv("AEX_SHIM_LOG"), *orders = getenv("AEX_SHIM_RULES");
    if (folder) snprintf(home, sizeof home, "%s", folder);
    if (orders) snprintf(rules, sizeof rules, "%s", orders);
    home_length = strlen(home);
    if (log) log_fd = real_open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

static void begin(void) { pthread_once(&once, set_up); }

static uint64_t tick(void) { return atomic_fetch_add(&counter, 1) + 1; }

static struct slot *slot_of(int fd) { return fd >= 0 && fd < FDS ? &slots[fd] : NULL; }

/* Appends one record. `pieces` holds at least `length` bytes. */
static void record(enum kind kind, uint32_t object, uint64_t start, int64_t at, int64_t result, const struct iovec *pieces, int count,
                   size_t length) {
    int error = errno;
    if (log_fd >= 0) {
        struct record head = {start, 0, kind, object, at, result, result < 0 ? error : 0, (uint32_t)length};
        struct iovec all[64];
        int used = 1;
        size_t left = length;
        for (int i = 0; i < count && left > 0 && used < 64; i++) {
            size_t some = pieces[i].iov_len < left ? pieces[i].iov_len : left;
            all[used++] = (struct iovec){pieces[i].iov_base, some};
            left -= some;
        }
        head.length = (uint32_t)(length - left);
        all[0] = (struct iovec){&head, sizeof head};
        sigset_t before = enter();
        head.end = tick();
        /* One write: a killed process leaves no half record behind but at the end. */
        if (real_writev(log_fd, all, used) < 0) abort();
        leave(before);
    }
    errno = error;
}

/* The letter of a watched path: d, w, j; f for the folder; 0 for none. */
static char watched(const char *path) {
    if (!path || !home_length || strncmp(path, home, home_length) != 0) return 0;
    const char *name = path + home_length;
    if (*name == 0 || strcmp(name, "/") == 0) return 'f';
    if (strcmp(name, "/ledger.db") == 0) return 'd';
    if (strcmp(name, "/ledger.db-wal") == 0) return 'w';
    if (strcmp(name, "/ledger.db-journal") == 0) return 'j';
    return 0;
}

/* Learns what a descriptor is when it is first written to. */
static struct slot *known(int fd) {
    struct slot *slot = slot_of(fd);
    if (!slot || slot->what != UNKNOWN) return slot;
    int error = errno;
    struct stat about;
    slot->what = OTHER;
    if (fstat(fd, &about) == 0 && S_ISSOCK(about.st_mode)) {
        struct sockaddr_in own = {0}, other = {0};
        socklen_t own_length = sizeof own, other_length = sizeof other;
        getsockname(fd, (struct sockaddr *)&own, &own_length);
        getpeername(fd, (struct sockaddr *)&other, &other_length);
        slot->ports = 0;
        if (own.sin_family == AF_INET) slot->ports = (int64_t)ntohs(own.sin_port) << 16 | ntohs(other.sin_port);
        sigset_t before = enter();
        slot->object = ++socket_count;
        leave(before);
        slot->what = SOCKET;
    }
    errno = error;
    return slot;
}

#include "orders.h"

/* ---- names ---- */

static void opened(int fd, const char *path, char file, int is_new, uint64_t start) {
    struct slot *slot = slot_of(fd);
    struct stat about;
    if (!slot || fstat(fd, &about) != 0) return;
    sigset_t before = enter();
    uint32_t object = 0;
    for (uint32_t i = 1; i <= object_count; i++)
        if (objects[i].living && objects[i].device == about.st_dev && objects[i].inode == about.st_ino) object = i;
    if (!object && object_count + 1 < OBJECTS) {
        object = ++object_count;
        objects[object].device = about.st_dev;
        objects[object].inode = about.st_ino;
        objects[object].living = 1;
    }
    slot->object = object;
    slot->told = objects[object].failures;
    slot->file = file;
    slot->what = WATCHED;
    leave(before);
    struct iovec name = {(void *)path, strlen(path)};
    record(OPENED, object, start, is_new, fd, &name, 1, name.iov_len);
}

static int open_any(int folder, const char *path, int flags, mode_t mode) {
    begin();
    char file = watched(path);
    if (!file) return real_openat(folder, path, flags, mode);
    int is_new = (flags & O_CREAT) && access(path, F_OK) != 0;
    uint64_t start = tick();
    int fd = real_openat(folder, path, flags, mode);
    if (fd >= 0) opened(fd, path, file, is_new, start);
    if (fd >= 0 && (flags & O_TRUNC)) record(SIZED, slots[fd].object, start, 0, 0, NULL, 0, 0);
    return fd;
}

#define MODE(flags)                                     \
    mode_t mode = 0;                                    \
    if ((flags) & (O_CREAT | __O_TMPFILE)) {            \
        va_list list;                                   \
        va_start(list, flags);                          \
        mode = va_arg(list, mode_t);                    \
        va_end(list);                                   \
    }

int open(const char *path, int flags, ...) { MODE(flags) return open_any(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(flags) return open_any(AT_FDCWD, path, flags | O_LARGEFILE, mode); }
int openat(int folder, const char *path, int flags, ...) { MODE(flags) return open_any(folder, path, flags, mode); }
int openat64(int folder, const char *path, int flags, ...) { MODE(flags) return open_any(folder, path, flags | O_LARGEFILE, mode); }
int creat(const char *path, mode_t mode) { return open_any(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }

int close(int fd) {
    begin();
    struct slot *slot = slot_of(fd);
    if (slot) slot->what = UNKNOWN;
    return real_close(fd);
}

int unlink(const char *path) {
    begin();
    char file = watched(path);
    if (!file || file == 'f') return real_unlink(path);
    struct stat about;
    int is_there = stat(path, &about) == 0;
    uint64_t start = tick();
    int result = real_unlink(path);
    if (result == 0 && is_there) {
        sigset_t before = enter();
        for (uint32_t i = 1; i <= object_count; i++)
            if (objects[i].device == about.st_dev && objects[i].inode == about.st_ino) objects[i].living = 0;
        leave(before);
    }
    struct iovec name = {(void *)path, strlen(path)};
    record(UNLINKED, 0, start, 0, result, &name, 1, name.iov_len);
    return result;
}

int rename(const char *from, const char *to) {
    begin();
    if (!watched(from) && !watched(to)) return real_rename(from, to);
    uint64_t start = tick();
    int result = real_rename(from, to);
    struct iovec names[2] = {{(void *)from, strlen(from) + 1}, {(void *)to, strlen(to)}};
    record(RENAMED, 0, start, 0, result, names, 2, names[0].iov_len + names[1].iov_len);
    return result;
}

/* ---- bytes ---- */

static size_t total(const struct iovec *pieces, int count) {
    size_t sum = 0;
    for (int i = 0; i < count; i++) sum += pieces[i].iov_len;
    return sum;
}

/* A write to a watched file, at `at`, or where the descriptor stands when that is negative. */
static ssize_t write_watched(struct slot *slot, int fd, const struct iovec *pieces, int count, off_t at) {
    int order = ordered("write", slot->file);
    off_t place = at >= 0 ? at : lseek(fd, 0, SEEK_CUR);
    size_t asked = total(pieces, count);
    uint64_t start = tick();
    ssize_t result;
    if (order > 0) {
        errno = order;
        result = -1;
    } else if (order == SHORT_ONE && count == 1 && asked > 1) {
        result = at >= 0 ? real_pwrite(fd, pieces[0].iov_base, asked / 2, at) : real_write(fd, pieces[0].iov_base, asked / 2);
    } else {
        result = at >= 0 ? real_pwritev(fd, pieces, count, at) : real_writev(fd, pieces, count);
    }
    record(WRITTEN, slot->object, start, place, result, pieces, count, result > 0 ? (size_t)result : 0);
    return result;
}

static ssize_t write_any(int fd, const struct iovec *pieces, int count, off_t at) {
    begin();
    struct slot *slot = known(fd);
    if (slot && slot->what == WATCHED) return write_watched(slot, fd, pieces, count, at);
    if (at >= 0) return count == 1 ? real_pwrite(fd, pieces[0].iov_base, pieces[0].iov_len, at) : real_pwritev(fd, pieces, count, at);
    int is_socket = slot && slot->what == SOCKET;
    uint64_t start = is_socket ? tick() : 0;
    ssize_t result = count == 1 ? real_write(fd, pieces[0].iov_base, pieces[0].iov_len) : real_writev(fd, pieces, count);
    if (is_socket && result > 0) record(SENT, slot->object, start, slot->ports, result, pieces, count, (size_t)result);
    return result;
}

ssize_t write(int fd, const void *bytes, size_t length) {
    struct iovec piece = {(void *)bytes, length};
    return write_any(fd, &piece, 1, -1);
}
ssize_t writev(int fd, const struct iovec *pieces, int count) { return write_any(fd, pieces, count, -1); }
ssize_t pwrite(int fd, const void *bytes, size_t length, off_t at) {
    struct iovec piece = {(void *)bytes, length};
    return write_any(fd, &piece, 1, at);
}
ssize_t pwrite64(int fd, const void *bytes, size_t length, off_t at) { return pwrite(fd, bytes, length, at); }
ssize_t pwritev(int fd, const struct iovec *pieces, int count, off_t at) { return write_any(fd, pieces, count, at); }
ssize_t pwritev64(int fd, const struct iovec *pieces, int count, off_t at) { return write_any(fd, pieces, count, at); }

ssize_t send(int fd, const void *bytes, size_t length, int flags) {
    begin();
    struct slot *slot = known(fd);
    uint64_t start = tick();
    ssize_t result = real_send(fd, bytes, length, flags);
    struct iovec piece = {(void *)bytes, length};
    if (slot && slot->what == SOCKET && result > 0) record(SENT, slot->object, start, slot->ports, result, &piece, 1, (size_t)result);
    return result;
}
ssize_t sendto(int fd, const void *bytes, size_t length, int flags, const struct sockaddr *to, socklen_t to_length) {
    begin();
    struct slot *slot = known(fd);
    uint64_t start = tick();
    ssize_t result = real_sendto(fd, bytes, length, flags, to, to_length);
    struct iovec piece = {(void *)bytes, length};
    if (slot && slot->what == SOCKET && result > 0) record(SENT, slot->object, start, slot->ports, result, &piece, 1, (size_t)result);
    return result;
}
ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
    begin();
    struct slot *slot = known(fd);
    uint64_t start = tick();
    ssize_t result = real_sendmsg(fd, message, flags);
    if (slot && slot->what == SOCKET && result > 0)
        record(SENT, slot->object, start, slot->ports, result, message->msg_iov, (int)message->msg_iovlen, (size_t)result);
    return result;
}

static ssize_t read_any(int fd, void *bytes, size_t length, off_t at) {
    begin();
    struct slot *slot = slot_of(fd);
    if (slot && slot->what == WATCHED) {
        int order = ordered("read", slot->file);
        if (order > 0) {
            errno = order;
            return -1;
        }
    }
    return at >= 0 ? real_pread(fd, bytes, length, at) : real_read(fd, bytes, length);
}

ssize_t read(int fd, void *bytes, size_t length) { return read_any(fd, bytes, length, -1); }
ssize_t pread(int fd, void *bytes, size_t length, off_t at) { return read_any(fd, bytes, length, at); }
ssize_t pread64(int fd, void *bytes, size_t length, off_t at) { return read_any(fd, bytes, length, at); }

/* ---- size and flushes ---- */

static int cut_any(int fd, off_t size) {
    begin();
    struct slot *slot = slot_of(fd);
    if (!slot || slot->what != WATCHED) return real_ftruncate(fd, size);
    int order = ordered("cut", slot->file);
    uint64_t start = tick();
    if (order > 0) errno = order;
    int result = order > 0 ? -1 : real_ftruncate(fd, size);
    record(SIZED, slot->object, start, size, result, NULL, 0, 0);
    return result;
}

int ftruncate(int fd, off_t size) { return cut_any(fd, size); }
int ftruncate64(int fd, off_t size) { return cut_any(fd, size); }

static int allocate_any(int fd, int mode, off_t at, off_t length) {
    begin();
    struct slot *slot = slot_of(fd);
    int result = real_fallocate(fd, mode, at, length);
    /* Neither SQLite as it is built nor the daemon allocates. Whoever begins to has to teach the model of the disk. */
    if (slot && slot->what == WATCHED) abort();
    return result;
}

int fallocate(int fd, int mode, off_t at, off_t length) { return allocate_any(fd, mode, at, length); }
int fallocate64(int fd, int mode, off_t at, off_t length) { return allocate_any(fd, mode, at, length); }
int posix_fallocate(int fd, off_t at, off_t length) { return allocate_any(fd, 0, at, length) == 0 ? 0 : errno; }
int posix_fallocate64(int fd, off_t at, off_t length) { return allocate_any(fd, 0, at, length) == 0 ? 0 : errno; }

/*
 * As Linux does it since 4.13 (errseq_t): a failure is told once to each descriptor that was open then. One that is opened later, or asks
 * again, hears that all is well.
 */
static int failed(struct slot *slot, int is_ordered) {
    sigset_t before = enter();
    if (is_ordered) objects[slot->object].failures++;
    int is_news = slot->told != objects[slot->object].failures;
    slot->told = objects[slot->object].failures;
    leave(before);
    return is_news;
}

static int sync_any(int fd, int (*real)(int)) {
    begin();
    struct slot *slot = slot_of(fd);
    if (!slot || slot->what != WATCHED) return real(fd);
    int order = ordered("sync", slot->file);
    uint64_t start = tick();
    int result = 0;
    if (failed(slot, order > 0)) {
        errno = order > 0 ? order : EIO;
        result = -1;
    } else if (log_fd < 0) {
        result = real(fd);
    } else {
        /* Images are made from the log, so the machine's own disk is not waited for; but a flush takes its time. */
        usleep(200);
    }
    if (order != LIE_ONE) record(SYNCED, slot->object, start, 0, result, NULL, 0, 0);
    return result;
}

int fsync(int fd) { begin(); return sync_any(fd, real_fsync); }
int fdatasync(int fd) { begin(); return sync_any(fd, real_fdatasync); }

/* It promises nothing: neither sizes nor the disk's own cache. */
int sync_file_range(int fd, off_t at, off_t length, unsigned int flags) {
    begin();
    return real_sync_file_range(fd, at, length, flags);
}

/* A watched file that is mapped for writing would be written past this library. */
static void *map_any(void *address, size_t length, int protection, int flags, int fd, off_t at) {
    begin();
    struct slot *slot = slot_of(fd);
    if (slot && slot->what == WATCHED) record(MAPPED, slot->object, tick(), at, (int64_t)length, NULL, 0, 0);
    return real_mmap(address, length, protection, flags, fd, at);
}

void *mmap(void *address, size_t length, int protection, int flags, int fd, off_t at) {
    return map_any(address, length, protection, flags, fd, at);
}
void *mmap64(void *address, size_t length, int protection, int flags, int fd, off_t at) {
    return map_any(address, length, protection, flags, fd, at);
}
