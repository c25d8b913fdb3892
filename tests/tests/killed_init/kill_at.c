/* kill_at N PROGRAM ARGUMENT...: runs a program and kills it as it enters its N-th system call that changes something.
 * Exits with 99 if it killed the program, otherwise with the program's status. This needs unsafe code, so it is not in Rust. */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <linux/ptrace.h>
#include <unistd.h>

static int changes(unsigned long long call, const unsigned long long *arguments)
{
	switch (call) {
	case SYS_openat:
		return (arguments[2] & (O_CREAT | O_TRUNC)) != 0;
	case SYS_mkdirat: case SYS_renameat: case SYS_renameat2: case SYS_unlinkat: case SYS_fsync: case SYS_fdatasync:
	case SYS_write: case SYS_pwrite64: case SYS_fchmod: case SYS_fchmodat: case SYS_fchown: case SYS_fchownat:
	case SYS_ftruncate: case SYS_fallocate: case SYS_fsetxattr:
#ifdef SYS_mkdir
	case SYS_mkdir: case SYS_rename: case SYS_unlink: case SYS_rmdir: case SYS_chmod: case SYS_chown: case SYS_open:
#endif
		return 1;
	default:
		return 0;
	}
}

int main(int argc, char **argv)
{
	long left = argc > 2 ? atol(argv[1]) : 0;
	pid_t child = fork();
	if (child == 0) {
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		raise(SIGSTOP);
		execv(argv[2], argv + 2);
		_exit(127);
	}
	int status;
	waitpid(child, &status, 0);
	ptrace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL);
	ptrace(PTRACE_SYSCALL, child, 0, 0);
	while (waitpid(child, &status, 0) == child) {
		if (WIFEXITED(status))
			return WEXITSTATUS(status);
		if (!WIFSTOPPED(status))
			return 98;
		int signal = WSTOPSIG(status);
		if (signal == (SIGTRAP | 0x80)) {
			struct ptrace_syscall_info info;
			if (ptrace(PTRACE_GET_SYSCALL_INFO, child, sizeof info, &info) < 0)
				return 98;
			if (info.op == PTRACE_SYSCALL_INFO_ENTRY && changes(info.entry.nr, info.entry.args) && --left == 0) {
				kill(child, SIGKILL);
				waitpid(child, &status, 0);
				return 99;
			}
			signal = 0;
		} else if (signal == SIGTRAP) {
			signal = 0;
		}
		ptrace(PTRACE_SYSCALL, child, 0, signal);
	}
	return 98;
}
