/* Preloaded into the simulation's own process: time stands still at what the simulation set, random bytes follow from its
   seed, syncfs reaches a disk that is served through FUSE, and memory is counted. The file whose name is in VALISE_SIM_CLOCK
   stays mapped:

   offset  0  u64  seed; while it is 0, time and random bytes are the real ones
           8  u64  blocks of 8 random bytes that were drawn
          16  i64  wall clock, microseconds since 1970
          24  i64  monotonic clock, microseconds; the time since the host's start too
          32  i64  the thread whose memory is counted
          40  i64  bytes that this thread has taken and not given back
          48  i64  the most of them */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

/* Defined below under its own name: its declaration takes any arguments. */
long forward_syscall(long number, ...) __asm__("syscall");

static volatile struct {
	uint64_t seed;
	uint64_t drawn;
	int64_t utc_us;
	int64_t mono_us;
	int64_t counted;
	int64_t held;
	int64_t held_most;
} *sim;

static void *real(void **found, const char *name)
{
	if (!*found)
		*found = dlsym(RTLD_NEXT, name);
	if (!*found)
		abort();
	return *found;
}

#define REAL(type, name) static void *found; __typeof__(type) call = (__typeof__(type))real(&found, name)

__attribute__((constructor)) static void map_sim(void)
{
	const char *path = getenv("VALISE_SIM_CLOCK");
	int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
	if (fd < 0)
		abort();
	void *map = mmap(NULL, sizeof *sim, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		abort();
	sim = map;
}

static int is_virtual(void)
{
	return sim && sim->seed != 0;
}

int clock_gettime(clockid_t id, struct timespec *time)
{
	REAL(int (*)(clockid_t, struct timespec *), "clock_gettime");
	int64_t us;
	if (!is_virtual())
		return call(id, time);
	switch (id) {
	case CLOCK_REALTIME:
		us = sim->utc_us;
		break;
	case CLOCK_MONOTONIC:
	case CLOCK_BOOTTIME:
		us = sim->mono_us;
		break;
	default:
		return call(id, time);
	}
	time->tv_sec = us / 1000000;
	time->tv_nsec = us % 1000000 * 1000;
	return 0;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone)
{
	struct timespec now;
	(void)zone;
	clock_gettime(CLOCK_REALTIME, &now);
	time->tv_sec = now.tv_sec;
	time->tv_usec = now.tv_nsec / 1000;
	return 0;
}

time_t time(time_t *at)
{
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	if (at)
		*at = now.tv_sec;
	return now.tv_sec;
}

/* Who sleeps finds that the time has passed. */
static int has_slept(const struct timespec *span)
{
	int64_t us = span->tv_sec * 1000000 + (span->tv_nsec + 999) / 1000;
	if (!is_virtual())
		return 0;
	sim->utc_us += us;
	sim->mono_us += us;
	return 1;
}

int nanosleep(const struct timespec *span, struct timespec *left)
{
	REAL(int (*)(const struct timespec *, struct timespec *), "nanosleep");
	return has_slept(span) ? 0 : call(span, left);
}

int clock_nanosleep(clockid_t id, int flags, const struct timespec *span, struct timespec *left)
{
	REAL(int (*)(clockid_t, int, const struct timespec *, struct timespec *), "clock_nanosleep");
	return flags == 0 && has_slept(span) ? 0 : call(id, flags, span, left);
}

/* SplitMix64 at any place of its sequence. */
static uint64_t block(uint64_t number)
{
	uint64_t z = sim->seed + (number + 1) * UINT64_C(0x9e3779b97f4a7c15);
	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

/* Threads that serve a disk go on while the simulation's own draws. */
static int is_drawing(void)
{
	char name[16];
	return is_virtual() && prctl(PR_GET_NAME, name) == 0 && strncmp(name, "fuser", 5) != 0;
}

static ssize_t draw(void *to, size_t bytes)
{
	uint64_t number = __atomic_fetch_add(&sim->drawn, (bytes + 7) / 8, __ATOMIC_RELAXED);
	for (size_t at = 0; at < bytes; at += 8) {
		uint64_t next = block(number++);
		memcpy((char *)to + at, &next, bytes - at < 8 ? bytes - at : 8);
	}
	return (ssize_t)bytes;
}

ssize_t getrandom(void *to, size_t bytes, unsigned int flags)
{
	REAL(ssize_t (*)(void *, size_t, unsigned int), "getrandom");
	return is_drawing() ? draw(to, bytes) : call(to, bytes, flags);
}

int getentropy(void *to, size_t bytes)
{
	REAL(int (*)(void *, size_t), "getentropy");
	if (!is_drawing())
		return call(to, bytes);
	if (bytes > 256) {
		errno = EIO;
		return -1;
	}
	draw(to, bytes);
	return 0;
}

/* Some versions of the crate getrandom make the call so. */
long forward_syscall(long number, ...)
{
	REAL(long (*)(long, long, long, long, long, long, long), "syscall");
	long word[6];
	va_list words;
	va_start(words, number);
	for (int i = 0; i < 6; i++)
		word[i] = va_arg(words, long);
	va_end(words);
	if (number == SYS_getrandom && is_drawing())
		return draw((void *)word[0], (size_t)word[1]);
	return call(number, word[0], word[1], word[2], word[3], word[4], word[5]);
}

/* The kernel does not pass syncfs on to FUSE. The attribute is that of tests/src/sim/disk/mod.rs. */
int syncfs(int fd)
{
	REAL(int (*)(int), "syncfs");
	struct statfs fs;
	if (fstatfs(fd, &fs) == 0 && fs.f_type == 0x65735546)
		return fsetxattr(fd, "user.valise.syncfs", "", 0, 0);
	return call(fd);
}

/* The C library's own, whatever else is preloaded. */
void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);
void __libc_free(void *);

static void count(int64_t bytes)
{
	static __thread int64_t thread __attribute__((tls_model("initial-exec")));
	if (!sim || !sim->counted)
		return;
	if (!thread)
		thread = gettid();
	if (sim->counted != thread)
		return;
	sim->held += bytes;
	if (sim->held > sim->held_most)
		sim->held_most = sim->held;
}

static void *counted(void *block)
{
	if (block)
		count((int64_t)malloc_usable_size(block));
	return block;
}

void *malloc(size_t bytes)
{
	return counted(__libc_malloc(bytes));
}

void *calloc(size_t many, size_t bytes)
{
	return counted(__libc_calloc(many, bytes));
}

void *realloc(void *block, size_t bytes)
{
	int64_t before = block ? (int64_t)malloc_usable_size(block) : 0;
	void *now = __libc_realloc(block, bytes);
	if (now || bytes == 0)
		count((now ? (int64_t)malloc_usable_size(now) : 0) - before);
	return now;
}

void *memalign(size_t to, size_t bytes)
{
	return counted(__libc_memalign(to, bytes));
}

void *aligned_alloc(size_t to, size_t bytes)
{
	return memalign(to, bytes);
}

int posix_memalign(void **block, size_t to, size_t bytes)
{
	void *found = memalign(to, bytes);
	if (!found)
		return ENOMEM;
	*block = found;
	return 0;
}

void free(void *block)
{
	if (block)
		count(-(int64_t)malloc_usable_size(block));
	__libc_free(block);
}
