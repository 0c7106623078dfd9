"""Run a command in new network, mount, process and other namespaces, so that a node leaves nothing behind.

The kernel does most of the cleanup: every process in the namespace dies with the command, and mounts, addresses and
iptables rules disappear with their namespaces. Overlays on /run and /var receive the files of containerd and the
kubelet. The kubelet would set three sysctls of the whole machine, so files with the expected values are mounted over
them. Control groups and the directory of the run have the process id in their names. They are removed at the end or,
after a SIGKILL, by the next run.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import psutil

from devtools.kubernetes.binaries import Missing, cache_directory, find
from imago.bootstrap.supervisor import die_with_parent

NODE_ADDRESS = "10.250.0.1"
_NODE_NETWORK = f"{NODE_ADDRESS}/24"
_SERVICE_CIDR = "10.96.0.0/16"
_CGROUPS = Path("/sys/fs/cgroup")
_PREFIX = "imago-test-"
_VARIABLE = "IMAGO_TEST_NAMESPACES"
_UNSHARE = [
    *("--net", "--mount", "--propagation=private", "--pid", "--ipc", "--uts"),
    *("--fork", "--kill-child", "--mount-proc"),
]
# The values that the kubelet expects.
_SYSCTLS = {"vm/overcommit_memory": "1", "kernel/panic": "10", "kernel/panic_on_oops": "1"}


def inside() -> bool:
    """Return whether `run` started this process."""
    return _VARIABLE in os.environ


def cgroup_name() -> str:
    """Return the control group of this run's pods."""
    return os.environ[_VARIABLE]


def run_directory() -> Path:
    """Return this run's temporary directory for images, containers and logs."""
    return _directory(cgroup_name())


def check() -> None:
    """Raise Missing if namespaces, control groups or required programs are not available."""
    if sys.platform != "linux":
        raise Missing("a node needs Linux")
    if os.geteuid() != 0:
        raise Missing("a node needs root: containers, mounts and iptables rules")
    if not _hierarchies():
        raise Missing("a node needs control groups mounted at /sys/fs/cgroup")
    for name in ("unshare", "ip", "iptables", "conntrack"):
        find(name)
    tried = subprocess.run(["unshare", *_UNSHARE, "ip", "link", "add", "node0", "type", "veth"], capture_output=True)
    if tried.returncode != 0:
        raise Missing(f"namespaces can't be created here: {tried.stderr.decode().strip()}")
    probe = _PREFIX + f"{os.getpid()}-probe"
    try:
        _make_cgroups(probe)
    except OSError as error:
        raise Missing(f"control groups can't be created here: {error}") from None
    finally:
        _remove_cgroups(probe)


def run(command: Sequence[str]) -> int:
    """Run a command in new namespaces and return its exit code; raise Missing."""
    check()
    remove_stale()
    name = f"{_PREFIX}{os.getpid()}"
    try:
        _directory(name).mkdir(parents=True)
        _make_cgroups(name)
        process = subprocess.Popen(
            ["unshare", *_UNSHARE, sys.executable, "-m", __name__, *command],
            env={**os.environ, _VARIABLE: name},
            preexec_fn=die_with_parent,
        )
        # Ctrl-C already reaches the command, which is in the foreground group; SIGTERM is forwarded.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda *_: _terminate_child(process.pid))
        return process.wait()
    finally:
        _remove_cgroups(name)
        shutil.rmtree(_directory(name), ignore_errors=True)


def remove_stale() -> None:
    """Remove the control groups and directories of killed runs."""
    for place in (*_hierarchies(), _directory("")):
        for left in place.glob(f"{_PREFIX}*"):
            owner = left.name.removeprefix(_PREFIX).partition("-")[0]
            if owner.isdecimal() and not psutil.pid_exists(int(owner)):
                _remove_cgroups(left.name)
                shutil.rmtree(_directory(left.name), ignore_errors=True)


def _directory(name: str) -> Path:
    return cache_directory() / "runs" / name


def _terminate_child(pid: int) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        for child in psutil.Process(pid).children():
            child.send_signal(signal.SIGTERM)


def _hierarchies() -> list[Path]:
    """Return the parent directories of control groups: one with cgroup v2, one per controller with v1."""
    if (_CGROUPS / "cgroup.controllers").is_file():
        return [_CGROUPS]
    return [found.parent for found in _CGROUPS.glob("*/cgroup.procs")]


def _make_cgroups(name: str) -> None:
    for hierarchy in _hierarchies():
        group = hierarchy / name
        group.mkdir()
        if hierarchy == _CGROUPS:
            controllers = " ".join(f"+{each}" for each in (_CGROUPS / "cgroup.controllers").read_text().split())
            (_CGROUPS / "cgroup.subtree_control").write_text(controllers)
            (group / "cgroup.subtree_control").write_text(controllers)
        elif hierarchy.name == "cpu":
            # The weight that the kubelet sets on a dedicated node. By default all pods together would get the share of
            # one process.
            (group / "cpu.shares").write_text(str(1024 * (os.cpu_count() or 1)))
        elif hierarchy.name == "cpuset":
            # With cgroup v1 a new group has no CPUs and memory nodes until they are assigned.
            for file in ("cpuset.cpus", "cpuset.mems"):
                (group / file).write_text((hierarchy / file).read_text())


def _remove_cgroups(name: str) -> None:
    deadline = time.monotonic() + 10
    for hierarchy in _hierarchies():
        while (hierarchy / name).exists():
            for directory, _, _ in os.walk(hierarchy / name, topdown=False):
                # Killed processes take a moment to leave their group.
                with contextlib.suppress(OSError):
                    Path(directory).rmdir()
            if time.monotonic() > deadline:
                sys.stderr.write(f"the control group {hierarchy / name} could not be removed\n")
                break
            time.sleep(0.05)


def _prepare() -> None:
    """Set up the network of a node, and mount files over the sysctls that the kubelet sets."""
    for arguments in (
        "link set lo up",
        "link add node0 type veth peer name node1",
        f"address add {_NODE_NETWORK} dev node0",
        "link set node0 up",
        "link set node1 up",
        # Packets to a Service need a route before kube-proxy's rules redirect them to a pod. There is no other route:
        # nothing leaves this namespace.
        f"route add {_SERVICE_CIDR} dev node0",
    ):
        subprocess.run(["ip", *arguments.split()], check=True)
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    layer = run_directory() / "var"
    for part in ("upper", "work"):
        (layer / part).mkdir(parents=True)
    options = f"lowerdir=/var,upperdir={layer / 'upper'},workdir={layer / 'work'}"
    subprocess.run(["mount", "-t", "overlay", "-o", options, "overlay", "/var"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run"], check=True)
    for name, value in _SYSCTLS.items():
        file = Path("/run") / name.replace("/", ".")
        file.write_text(f"{value}\n")
        subprocess.run(["mount", "--bind", str(file), f"/proc/sys/{name}"], check=True)


def _first_process(command: Sequence[str]) -> int:
    """Act as init of the namespace: run the command, reap orphans, and exit with the command's code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    child = subprocess.Popen(command, preexec_fn=_default_interrupt)

    def hand_on(_number: int, _frame: FrameType | None) -> None:
        # As Ctrl-C does, so that the command shuts down in order.
        child.send_signal(signal.SIGINT)

    signal.signal(signal.SIGTERM, hand_on)
    while True:
        pid, status = os.wait()
        if pid == child.pid:
            return os.waitstatus_to_exitcode(status)


def _default_interrupt() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


if __name__ == "__main__":
    _prepare()
    code = _first_process(sys.argv[1:])
    sys.exit(code if code >= 0 else 128 - code)
