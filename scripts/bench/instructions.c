/* Lets tidegate run under valgrind: preloaded by instructions.sh, for nothing else.
 *
 * Valgrind runs one thread at a time, under a lock that it gives back around system calls that may
 * block. It does not know that io_uring_enter(2) may (3.19), so a thread that sleeps there stops all
 * others for good. Here such a call waits by ppoll(2), which it does know, and enters the ring
 * when something is complete. glommio's liburing and the io-uring crate both come by syscall(3).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/io_uring.h>
#include <poll.h>
#include <stdarg.h>
#include <sys/syscall.h>
#include <time.h>

static long kernel(long number, const long arg[6])
{
    register long r10 __asm__("r10") = arg[3];
    register long r8 __asm__("r8") = arg[4];
    register long r9 __asm__("r9") = arg[5];
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "0"(number), "D"(arg[0]), "S"(arg[1]), "d"(arg[2]), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}

static long returned(long result)
{
    if (result >= 0 || result < -4095)
        return result;
    errno = (int)-result;
    return -1;
}

/* How long a call with a time limit waits: less than it may, for ppoll is not woken by all that completes.
 * What the server does after that, it does on its way to sleep. */
static const struct timespec SHORT = {.tv_nsec = 10 * 1000 * 1000};

static const struct timespec *timeout(const long arg[6])
{
    return arg[3] & IORING_ENTER_EXT_ARG ? &SHORT : NULL;
}

/* io_uring_enter(fd, to_submit, min_complete, flags, ...) with min_complete > 0: submits, waits, reaps.
 * It may return with fewer than min_complete, as the call itself may after a signal. */
static long enter_and_wait(long arg[6])
{
    struct pollfd ring = {.fd = (int)arg[0], .events = POLLIN};
    const struct timespec *time = timeout(arg);
    long submitted = 0;
    int complete;

    arg[2] = 0;
    if (arg[1] > 0)
        submitted = kernel(SYS_io_uring_enter, arg);
    if (submitted < 0)
        return returned(submitted);
    complete = ppoll(&ring, 1, time, NULL);
    if (complete == 0)
        errno = ETIME;
    if (complete <= 0)
        return submitted > 0 ? submitted : -1;
    arg[1] = 0;
    arg[3] |= IORING_ENTER_GETEVENTS;
    kernel(SYS_io_uring_enter, arg);
    return submitted;
}

long syscall(long number, ...)
{
    long arg[6];
    va_list list;

    va_start(list, number);
    for (int i = 0; i < 6; i++)
        arg[i] = va_arg(list, long);
    va_end(list);
    if (number == SYS_io_uring_enter && (unsigned)arg[2] > 0)
        return enter_and_wait(arg);
    return returned(kernel(number, arg));
}
