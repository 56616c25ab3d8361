/* A clock of a machine that nobody set: everything that asks for the time of day gets another. Loaded before libc (LD_PRELOAD).
 *
 *   SYNDDB_CLOCK_AHEAD   so many seconds; negative for a clock that is behind
 *
 * Monotonic clocks are right, as they are on such a machine: what waits, waits as long as it means to.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *now) {
    int result = (int)syscall(SYS_clock_gettime, clock, now);
    const char *ahead = getenv("SYNDDB_CLOCK_AHEAD");
    if (result == 0 && clock == CLOCK_REALTIME && ahead != NULL) now->tv_sec += atol(ahead);
    return result;
}
