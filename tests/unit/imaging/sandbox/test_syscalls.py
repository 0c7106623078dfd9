"""The numbers of system calls are those of the kernel's headers."""

import re
from pathlib import Path

import pytest

from imago.imaging.sandbox.seccomp import conditional_rules
from imago.imaging.sandbox.syscalls import ALLOWED, FOR_COMMANDS, NEWEST_NUMBER, NUMBERS

HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),
}

CONDITIONAL = conditional_rules(commands=True)

# What ARM64 has only in a form with more arguments, or not at all.
ONLY_X86 = {
    "stat", "lstat", "access", "readlink", "dup2", "arch_prctl", "pause", "time", "poll", "select", "getpgrp", "open",
    "fork", "vfork", "pipe", "unlink", "epoll_wait",
}  # fmt: skip


@pytest.mark.parametrize("machine", HEADERS)
def test_the_numbers_are_those_of_the_headers(machine: str) -> None:
    if not HEADERS[machine].exists():
        pytest.skip("the kernel's headers are not installed (`make setup` installs linux-libc-dev)")
    text = re.sub(r"__NR3264_", "__NR_", HEADERS[machine].read_text())
    known = {name: int(number) for name, number in re.findall(r"#define __NR_(\w+)\s+(\d+)", text)}
    if machine == "aarch64":
        # Its header names the old forms of some calls after the new ones.
        known["newfstatat"] = known.pop("fstatat")
    assert {name: known[name] for name in NUMBERS[machine]} == NUMBERS[machine]


def test_every_call_in_a_list_has_a_number() -> None:
    listed = {*ALLOWED, *CONDITIONAL, *FOR_COMMANDS, "seccomp", "clone3", "openat2"}
    assert set(NUMBERS["x86_64"]) == listed
    assert set(NUMBERS["aarch64"]) == listed - ONLY_X86
    assert max(*NUMBERS["x86_64"].values(), *NUMBERS["aarch64"].values()) < NEWEST_NUMBER


def test_no_list_has_a_call_that_reaches_others() -> None:
    forbidden = {
        "socket", "connect", "bind", "sendto", "sendmsg", "ptrace", "process_vm_readv", "process_vm_writev", "mount",
        "keyctl", "bpf", "io_uring_setup", "unshare", "setns", "memfd_create", "pidfd_open", "userfaultfd", "rename",
        "chmod", "link", "symlink", "mkdir", "setuid", "setrlimit", "setsid", "setpgid", "tkill",
        "rt_sigqueueinfo", "execveat",
    }  # fmt: skip
    assert forbidden.isdisjoint({*ALLOWED, *CONDITIONAL, *FOR_COMMANDS})
    assert {"execve", "fork", "vfork"}.isdisjoint({*ALLOWED, *CONDITIONAL})
