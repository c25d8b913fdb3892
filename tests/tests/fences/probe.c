/* Loaded into a role, this makes forbidden calls from inside the role's fences. Every role watches a folder after its fences
 * are up, and inotify_init1 is replaced here. VALISE_TEST_PROBES has the probes, one a line, and the role ends after them.
 * With VALISE_TEST_ONCE, the name of a file, only the process that can delete that file makes them. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FDS 64

static struct sockaddr_in elsewhere = {.sin_family = AF_INET};

/* Tries a call with every descriptor. Returns the result of one that accepts it, otherwise of one that is a socket. */
#define EACH_FD(call)                                                     \
  ({                                                                      \
    long best = -1;                                                       \
    int best_errno = ENOTSOCK;                                            \
    for (int fd = 0; fd < FDS && best < 0; fd++) {                        \
      best = (call);                                                      \
      if (best < 0 && errno != EBADF && errno != ENOTSOCK) best_errno = errno; \
    }                                                                     \
    errno = best_errno;                                                   \
    best;                                                                 \
  })

static long probe(const char *name) {
  static char page[8192] __attribute__((aligned(4096)));
  static struct clone_args arguments = {.exit_signal = SIGCHLD};
  static struct msghdr message;
  static char byte;
  struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
  struct __user_cap_data_struct data[2] = {0};
  char *const none[] = {NULL};
  cpu_set_t cpus;
  long child;
  CPU_ZERO(&cpus);
  CPU_SET(0, &cpus);
  elsewhere.sin_port = htons(9);
  elsewhere.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  message.msg_name = &elsewhere;
  message.msg_namelen = sizeof elsewhere;
#define IS(word) (strcmp(name, word) == 0)
  if (IS("execve")) return syscall(SYS_execve, "/nonexistent", none, none);
  if (IS("ptrace")) return syscall(SYS_ptrace, 16 /* PTRACE_ATTACH */, -1, 0, 0);
  if (IS("process_vm_readv")) return syscall(SYS_process_vm_readv, getppid(), 0, 0, 0, 0, 0);
  if (IS("unshare")) return syscall(SYS_unshare, 0);
  if (IS("setns")) return syscall(SYS_setns, -1, 0);
  if (IS("mount")) return syscall(SYS_mount, "/nonexistent", "/nonexistent", "none", 0, 0);
  if (IS("bpf")) return syscall(SYS_bpf, -1, 0, 0);
  if (IS("keyctl")) return syscall(SYS_keyctl, -1, 0, 0, 0, 0);
  if (IS("io_uring_setup")) return syscall(SYS_io_uring_setup, 0, 0);
  if (IS("perf_event_open")) return syscall(SYS_perf_event_open, 0, 0, -1, -1, 0);
  if (IS("userfaultfd")) return syscall(SYS_userfaultfd, -1);
  if (IS("memfd_create")) return syscall(SYS_memfd_create, "probe", 0);
  if (IS("kill")) return syscall(SYS_kill, getppid(), 0);
  if (IS("pidfd_open")) return syscall(SYS_pidfd_open, getppid(), 0);
  if (IS("setpriority")) return syscall(SYS_setpriority, 0, getppid(), 0);
  if (IS("sched_setaffinity")) return syscall(SYS_sched_setaffinity, 0, sizeof cpus, &cpus);
  if (IS("setuid")) return syscall(SYS_setuid, getuid());
  if (IS("capset")) return syscall(SYS_capset, &header, data);
  if (IS("init_module")) return syscall(SYS_init_module, 0, 0, 0);
  if (IS("personality")) return syscall(SYS_personality, 0xffffffff);
  if (IS("listen")) return syscall(SYS_listen, 0, 1);
  if (IS("tiocsti")) return syscall(SYS_ioctl, 0, TIOCSTI, "x");
  if (IS("clone-namespace")) {
    child = syscall(SYS_clone, CLONE_NEWUTS | SIGCHLD, 0, 0, 0, 0);
    if (child == 0) _exit(0);
    return child;
  }

  if (IS("clone-process")) {
    child = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    if (child == 0) _exit(0);
    return child;
  }
  if (IS("clone3")) {
    child = syscall(SYS_clone3, &arguments, sizeof arguments);
    if (child == 0) _exit(0);
    return child;
  }
  if (IS("socket-inet")) return syscall(SYS_socket, AF_INET, SOCK_DGRAM, 0);
  if (IS("socket-inet6")) return syscall(SYS_socket, AF_INET6, SOCK_STREAM, 0);
  if (IS("socket-unix")) return syscall(SYS_socket, AF_UNIX, SOCK_DGRAM, 0);
  if (IS("socket-netlink")) return syscall(SYS_socket, AF_NETLINK, SOCK_RAW, 0);
  if (IS("mmap-code")) {
    child = syscall(SYS_mmap, 0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return child == -1 ? -1 : 0;
  }
  if (IS("mprotect-code")) return syscall(SYS_mprotect, page, 4096, PROT_READ | PROT_EXEC);
  if (IS("dumpable")) return syscall(SYS_prctl, PR_SET_DUMPABLE, 1, 0, 0, 0);
  if (IS("limit")) {
    unsigned long limit[2] = {64, 64};
    return syscall(SYS_prlimit64, 0, 7, limit, 0);
  }
  if (IS("others-limit")) return syscall(SYS_prlimit64, getppid(), 7, 0, page);
  if (IS("others-signal")) return syscall(SYS_tgkill, getppid(), getppid(), 0);
  if (IS("whom-to-signal")) return syscall(SYS_fcntl, 2, F_SETOWN, getpid());
  if (IS("interface")) return EACH_FD(syscall(SYS_ioctl, fd, 0x8913 /* SIOCGIFFLAGS */, page));
  if (IS("connect")) return EACH_FD(syscall(SYS_connect, fd, &elsewhere, sizeof elsewhere));
  if (IS("sendto")) return EACH_FD(syscall(SYS_sendto, fd, "x", 1, 0, &elsewhere, sizeof elsewhere));
  if (IS("sendmsg")) return EACH_FD(syscall(SYS_sendmsg, fd, &message, 0));
  if (IS("sendmmsg")) return EACH_FD(syscall(SYS_sendmmsg, fd, page, 1, 0));
  if (IS("recvfrom")) return EACH_FD(syscall(SYS_recvfrom, fd, &byte, 1, MSG_DONTWAIT, 0, 0));
  if (IS("recvmsg")) return EACH_FD(syscall(SYS_recvmsg, fd, &message, MSG_DONTWAIT));
  if (IS("recvmmsg")) return EACH_FD(syscall(SYS_recvmmsg, fd, page, 1, MSG_DONTWAIT, 0));
  if (strncmp(name, "read ", 5) == 0) return open(name + 5, O_RDONLY | O_NONBLOCK);
  if (strncmp(name, "write ", 6) == 0) return open(name + 6, O_WRONLY | O_NONBLOCK);
  errno = EINVAL;
  dprintf(2, "there is no probe %s\n", name);
  _exit(98);
}

int inotify_init1(int flags) {
  const char *once = getenv("VALISE_TEST_ONCE");
  char *probes = getenv("VALISE_TEST_PROBES");
  if (probes != NULL && (once == NULL || unlink(once) == 0)) {
    for (char *name = strtok(strdup(probes), "\n"); name != NULL; name = strtok(NULL, "\n")) {
      long answer = probe(name);
      dprintf(2, "probe %s: %d\n", name, answer < 0 ? errno : 0);
    }
    _exit(0);
  }
  return syscall(SYS_inotify_init1, flags);
}
