/* Holds a write lease on a file until its standard input ends: an open that does not wait gets EAGAIN meanwhile. */

#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

int main(int count, char **names)
{
	signal(SIGIO, SIG_IGN);
	int fd = count == 2 ? open(names[1], O_RDWR) : -1;
	if (fd < 0 || fcntl(fd, F_SETLEASE, F_WRLCK) != 0) {
		perror("lease");
		return 1;
	}
	puts("held");
	fflush(stdout);
	char byte;
	while (read(0, &byte, 1) > 0)
		;
	return 0;
}
