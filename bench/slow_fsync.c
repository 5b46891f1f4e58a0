/* Preloaded into Postgres: every fsync and fdatasync sleeps first, like a cloud's network
 * disk, for as many microseconds as a file shared with the bench says just now. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static volatile uint32_t *delay_us;

__attribute__((constructor)) static void find_delay(void) {
    const char *path = getenv("BENCH_FSYNC_DELAY");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *shared = mmap(NULL, sizeof *delay_us, PROT_READ, MAP_SHARED, file, 0);
    if (shared != MAP_FAILED) delay_us = shared;
    close(file);
}

static void sleep_first(void) {
    uint32_t us = delay_us ? *delay_us : 0;
    struct timespec wait = {us / 1000000, (us % 1000000) * 1000L};
    if (us) nanosleep(&wait, NULL);
}

int fsync(int file) {
    static int (*real)(int);
    if (!real) real = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    sleep_first();
    return real(file);
}

int fdatasync(int file) {
    static int (*real)(int);
    if (!real) real = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    sleep_first();
    return real(file);
}
