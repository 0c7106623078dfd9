"""The system calls that a child process may make, and their numbers on each architecture.

A list of allowed calls, because the kernel gains new ones with every release. What the interpreter and the libraries of
the tasks use was found by tracing them; the tests run every task under this list.
"""

# Files: only descriptors, reading, and the state of names. Opening is allowed with some arguments only (`seccomp`).
_FILES = (
    "read", "write", "readv", "writev", "pread64", "pwrite64", "preadv", "pwritev", "lseek", "close", "close_range",
    "fstat", "newfstatat", "statx", "stat", "lstat", "access", "faccessat", "faccessat2", "readlink", "readlinkat",
    "getdents64", "getcwd", "dup", "dup2", "dup3", "ftruncate", "fadvise64", "fsync", "fdatasync",
    "statfs", "fstatfs",
)  # fmt: skip

_MEMORY = ("mmap", "munmap", "mremap", "mprotect", "madvise", "brk", "membarrier", "mincore", "get_mempolicy")

_THREADS = (
    "futex", "set_robust_list", "get_robust_list", "rseq", "set_tid_address", "arch_prctl", "gettid", "getpid",
    "getppid", "exit", "exit_group", "sched_yield", "sched_getaffinity", "sched_getparam", "sched_getscheduler",
    "sched_get_priority_max", "sched_get_priority_min", "getcpu", "restart_syscall",
)  # fmt: skip

_SIGNALS = ("rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack", "pause", "setitimer")

_TIME = (
    "clock_gettime", "clock_getres", "clock_nanosleep", "nanosleep", "gettimeofday", "time", "times", "poll", "ppoll",
    "select", "pselect6",
)  # fmt: skip

_FACTS = (
    "getuid", "geteuid", "getgid", "getegid", "getresuid", "getresgid", "getpgrp", "getrusage", "getrlimit", "sysinfo",
    "uname", "getrandom",
)  # fmt: skip

# The tasks and their files come over a socket. Nothing can be sent with these.
_RECEIVING = ("recvmsg", "recvfrom")

ALLOWED = (*_FILES, *_MEMORY, *_THREADS, *_SIGNALS, *_TIME, *_FACTS, *_RECEIVING)

# In addition, for an engine that runs a command: its process, and temporary files. Not `setsid`: a command must stay in
# the group of processes that is killed with the child.
FOR_COMMANDS = (
    "fork", "vfork", "execve", "wait4", "waitid", "pipe", "pipe2", "unlink", "unlinkat", "epoll_create1", "epoll_ctl",
    "epoll_wait", "epoll_pwait", "umask", "chdir",
)  # fmt: skip

# The numbers of these calls, as in the kernel's arch/x86/entry/syscalls/syscall_64.tbl and
# include/uapi/asm-generic/unistd.h. A call that an architecture doesn't have is missing there.
NUMBERS = {
    "x86_64": {
        "read": 0, "write": 1, "open": 2, "close": 3, "stat": 4, "fstat": 5, "lstat": 6, "poll": 7, "lseek": 8,
        "mmap": 9, "mprotect": 10, "munmap": 11, "brk": 12, "rt_sigaction": 13, "rt_sigprocmask": 14,
        "rt_sigreturn": 15, "ioctl": 16, "pread64": 17, "pwrite64": 18, "readv": 19, "writev": 20, "access": 21,
        "pipe": 22, "select": 23, "sched_yield": 24, "mremap": 25, "mincore": 27, "madvise": 28, "dup": 32,
        "dup2": 33, "pause": 34, "nanosleep": 35, "setitimer": 38, "getpid": 39, "recvfrom": 45, "recvmsg": 47,
        "clone": 56, "fork": 57, "vfork": 58, "execve": 59, "exit": 60, "wait4": 61, "kill": 62, "uname": 63,
        "fcntl": 72, "fsync": 74, "fdatasync": 75, "ftruncate": 77, "getcwd": 79, "chdir": 80, "unlink": 87,
        "readlink": 89, "umask": 95, "gettimeofday": 96, "getrlimit": 97, "getrusage": 98, "sysinfo": 99,
        "times": 100, "getuid": 102, "getgid": 104, "geteuid": 107, "getegid": 108, "getppid": 110, "getpgrp": 111,
        "getresuid": 118, "getresgid": 120, "sigaltstack": 131, "statfs": 137, "fstatfs": 138,
        "sched_getparam": 143, "sched_getscheduler": 145, "sched_get_priority_max": 146,
        "sched_get_priority_min": 147, "prctl": 157, "arch_prctl": 158, "gettid": 186, "time": 201, "futex": 202,
        "sched_getaffinity": 204, "getdents64": 217, "set_tid_address": 218, "restart_syscall": 219, "fadvise64": 221,
        "clock_gettime": 228, "clock_getres": 229, "clock_nanosleep": 230, "exit_group": 231, "epoll_wait": 232,
        "epoll_ctl": 233, "tgkill": 234, "get_mempolicy": 239, "waitid": 247, "openat": 257, "newfstatat": 262,
        "unlinkat": 263, "readlinkat": 267, "faccessat": 269, "pselect6": 270, "ppoll": 271, "set_robust_list": 273,
        "get_robust_list": 274, "epoll_pwait": 281, "epoll_create1": 291, "dup3": 292, "pipe2": 293, "preadv": 295,
        "pwritev": 296, "prlimit64": 302, "getcpu": 309, "seccomp": 317, "getrandom": 318, "membarrier": 324,
        "statx": 332, "rseq": 334, "clone3": 435, "close_range": 436, "openat2": 437, "faccessat2": 439,
    },
    "aarch64": {
        "getcwd": 17, "epoll_create1": 20, "epoll_ctl": 21, "epoll_pwait": 22, "dup": 23, "dup3": 24, "fcntl": 25,
        "ioctl": 29, "unlinkat": 35, "statfs": 43, "fstatfs": 44, "ftruncate": 46, "faccessat": 48, "chdir": 49,
        "openat": 56, "close": 57, "pipe2": 59, "getdents64": 61, "lseek": 62, "read": 63, "write": 64, "readv": 65,
        "writev": 66, "pread64": 67, "pwrite64": 68, "preadv": 69, "pwritev": 70, "pselect6": 72, "ppoll": 73,
        "readlinkat": 78, "newfstatat": 79, "fstat": 80, "fsync": 82, "fdatasync": 83, "exit": 93, "exit_group": 94,
        "waitid": 95, "set_tid_address": 96, "futex": 98, "set_robust_list": 99, "get_robust_list": 100,
        "nanosleep": 101, "setitimer": 103, "clock_gettime": 113, "clock_getres": 114, "clock_nanosleep": 115,
        "sched_getscheduler": 120, "sched_getparam": 121, "sched_getaffinity": 123, "sched_yield": 124,
        "sched_get_priority_max": 125, "sched_get_priority_min": 126, "restart_syscall": 128, "kill": 129,
        "tgkill": 131, "sigaltstack": 132, "rt_sigaction": 134, "rt_sigprocmask": 135, "rt_sigreturn": 139,
        "getresuid": 148, "getresgid": 150, "times": 153, "uname": 160, "getrlimit": 163,
        "getrusage": 165, "umask": 166, "prctl": 167, "getcpu": 168, "gettimeofday": 169, "getpid": 172,
        "getppid": 173, "getuid": 174, "geteuid": 175, "getgid": 176, "getegid": 177, "gettid": 178, "sysinfo": 179,
        "recvfrom": 207, "recvmsg": 212, "brk": 214, "munmap": 215, "mremap": 216, "clone": 220, "execve": 221,
        "mmap": 222, "fadvise64": 223, "mprotect": 226, "mincore": 232, "madvise": 233, "get_mempolicy": 236,
        "wait4": 260, "prlimit64": 261, "seccomp": 277, "getrandom": 278, "membarrier": 283, "statx": 291,
        "rseq": 293, "clone3": 435, "close_range": 436, "openat2": 437, "faccessat2": 439,
    },
}  # fmt: skip

# Newer calls have higher numbers, and libraries expect ENOSYS for a call that the kernel doesn't know.
NEWEST_NUMBER = 450
