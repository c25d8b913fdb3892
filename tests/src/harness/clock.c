/* Preloaded into a program under test. Its wall clock runs ahead by the number of seconds in a file, whose name is in
   VALISE_TEST_CLOCK. The file stays mapped, so that a test can move the clock of a running process behind its sandbox. */

#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t *ahead_s;

__attribute__((constructor)) static void map_offset(void)
{
	const char *path = getenv("VALISE_TEST_CLOCK");
	int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	if (fd < 0)
		abort();
	void *map = mmap(NULL, sizeof *ahead_s, PROT_READ, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		abort();
	ahead_s = map;
	close(fd);
}

int clock_gettime(clockid_t id, struct timespec *time)
{
	long result = syscall(SYS_clock_gettime, id, time);
	if (result == 0 && id == CLOCK_REALTIME)
		time->tv_sec += *ahead_s;
	return (int)result;
}
