/* Preloaded into redis-server: shifts its wall clock by the microseconds that the file $STRESS_CLOCK holds (one int64, mapped).
   gettimeofday, clock_gettime(CLOCK_REALTIME) and time are shifted; monotonic clocks are not. Raw system calls only: libfaketime
   asks the allocator, which asks the clock, and dies under jemalloc. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t *shift;
static int tried;

static int64_t offset(void) {
    if (!shift && !tried) {
        const char *path = getenv("STRESS_CLOCK");
        tried = 1;
        int file = path ? open(path, O_RDONLY) : -1;
        if (file >= 0) {
            void *page = mmap(0, sizeof(int64_t), PROT_READ, MAP_SHARED, file, 0);
            if (page != MAP_FAILED) shift = page;
            close(file);
        }
    }
    return shift ? *shift : 0;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = syscall(SYS_clock_gettime, clock, now);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        int64_t us = (int64_t)now->tv_sec * 1000000 + now->tv_nsec / 1000 + offset();
        now->tv_sec = us / 1000000;
        now->tv_nsec = (us % 1000000) * 1000;
    }
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec found;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &found);
    if (now) {
        now->tv_sec = found.tv_sec;
        now->tv_usec = found.tv_nsec / 1000;
    }
    return 0;
}

time_t time(time_t *out) {
    struct timespec found;
    clock_gettime(CLOCK_REALTIME, &found);
    if (out) *out = found.tv_sec;
    return found.tv_sec;
}
