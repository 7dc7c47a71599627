/* Ends the process, or lets the disk be full, at one of the calls that change files in one folder. Loaded by LD_PRELOAD.

   fault_arm(folder, at, mode) counts from then on. At call number `at` (from 1; 0 only counts) mode 'k' ends the process
   before the call, 'h' in the middle of a write, 't' asks it to stop, and 'f' lets this call and all later ones that need room fail with
   ENOSPC. Mode 't' sends SIGTERM before the call, and 'T' SIGINT before it and before the next. fault_calls() gives the number of calls so far. The counter is shared with children. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static char folder[PATH_MAX];
static long at;
static char mode;
static long *calls;

void fault_arm(const char *where, long number, char how) {
    if (!calls)
        calls = mmap(NULL, sizeof *calls, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    *calls = 0;
    at = number;
    mode = how;
    if (!where || !realpath(where, folder))
        folder[0] = 0;
}

long fault_calls(void) { return calls ? *calls : 0; }

static int inside(const char *path) {
    size_t n = strlen(folder);
    char real[PATH_MAX], parent[PATH_MAX];
    if (!n || !path)
        return 0;
    snprintf(parent, sizeof parent, "%s", path);
    if (!realpath(parent, real)) { /* it does not exist yet: its folder counts */
        char *slash = strrchr(parent, '/');
        if (slash == parent)
            slash[1] = 0;
        else if (slash)
            *slash = 0;
        else
            strcpy(parent, ".");
        if (!realpath(parent, real))
            return 0;
    }
    return !strncmp(real, folder, n) && (!real[n] || real[n] == '/');
}

static int inside_fd(int fd) {
    char link[64], path[PATH_MAX];
    if (!folder[0])
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n < 0)
        return 0;
    path[n] = 0;
    size_t length = strlen(folder);
    return !strncmp(path, folder, length) && (!path[length] || path[length] == '/');
}

/* Counts a call; returns 1 if it has to fail because the disk is full, and 2 if it has to end half-way. */
static int reached(int needs_room) {
    long now = __atomic_add_fetch(calls, 1, __ATOMIC_SEQ_CST);
    if (!at || now < at)
        return 0;
    if (mode == 'k' && now == at)
        raise(SIGKILL);
    if (mode == 't' && now == at)
        raise(SIGTERM);
    if (mode == 'h' && now == at)
        return 2;
    if (mode == 't' && now == at)
        raise(SIGTERM);
    if (mode == 'T' && (now == at || now == at + 1))
        raise(SIGINT);
    return mode == 'f' && needs_room;
}

static int fails(int needs_room) {
    int what = reached(needs_room);
    if (what == 2)
        raise(SIGKILL);
    if (what)
        errno = ENOSPC;
    return what;
}

#define NEXT(name) __typeof__(name) *next = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

ssize_t write(int fd, const void *data, size_t size) {
    NEXT(write);
    if (inside_fd(fd)) {
        int what = reached(1);
        if (what == 2) {
            next(fd, data, size / 2);
            raise(SIGKILL);
        }
        if (what) {
            errno = ENOSPC;
            return -1;
        }
    }
    return next(fd, data, size);
}

ssize_t writev(int fd, const struct iovec *parts, int n) {
    NEXT(writev);
    return inside_fd(fd) && fails(1) ? -1 : next(fd, parts, n);
}

static int opened(int dir, const char *path, int flags, mode_t permissions) {
    if ((flags & (O_CREAT | O_TRUNC)) && inside(path) && fails(flags & O_CREAT && access(path, F_OK)))
        return -1;
    return syscall(SYS_openat, dir, path, flags, permissions);
}

#define PERMISSIONS                                                                                                    \
    mode_t permissions = 0;                                                                                            \
    if (flags & (O_CREAT | __O_TMPFILE)) {                                                                             \
        va_list rest;                                                                                                  \
        va_start(rest, flags);                                                                                         \
        permissions = va_arg(rest, mode_t);                                                                            \
        va_end(rest);                                                                                                  \
    }
int open(const char *path, int flags, ...) { PERMISSIONS return opened(AT_FDCWD, path, flags, permissions); }
int open64(const char *path, int flags, ...) { PERMISSIONS return opened(AT_FDCWD, path, flags, permissions); }
int openat(int dir, const char *path, int flags, ...) { PERMISSIONS return opened(dir, path, flags, permissions); }
int openat64(int dir, const char *path, int flags, ...) { PERMISSIONS return opened(dir, path, flags, permissions); }

#define ON_PATHS(name, path, room, parameters, arguments)                                                              \
    int name parameters {                                                                                              \
        NEXT(name);                                                                                                    \
        return inside(path) && fails(room) ? -1 : next arguments;                                                      \
    }
ON_PATHS(rename, to, 1, (const char *from, const char *to), (from, to))
ON_PATHS(renameat, to, 1, (int a, const char *from, int b, const char *to), (a, from, b, to))
ON_PATHS(unlink, path, 0, (const char *path), (path))
ON_PATHS(unlinkat, path, 0, (int dir, const char *path, int flags), (dir, path, flags))
ON_PATHS(mkdir, path, 1, (const char *path, mode_t permissions), (path, permissions))
ON_PATHS(mkdirat, path, 1, (int dir, const char *path, mode_t permissions), (dir, path, permissions))
ON_PATHS(rmdir, path, 0, (const char *path), (path))
ON_PATHS(link, to, 1, (const char *from, const char *to), (from, to))
ON_PATHS(symlink, to, 1, (const char *from, const char *to), (from, to))
ON_PATHS(truncate, path, 0, (const char *path, off_t size), (path, size))
ON_PATHS(truncate64, path, 0, (const char *path, off64_t size), (path, size))

#define ON_FILES(name, room, parameters, arguments)                                                                    \
    int name parameters {                                                                                              \
        NEXT(name);                                                                                                    \
        return inside_fd(fd) && fails(room) ? -1 : next arguments;                                                     \
    }
ON_FILES(fsync, 1, (int fd), (fd))
ON_FILES(fdatasync, 1, (int fd), (fd))
ON_FILES(ftruncate, 0, (int fd, off_t size), (fd, size))
ON_FILES(ftruncate64, 0, (int fd, off64_t size), (fd, size))
