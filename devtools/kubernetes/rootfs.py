"""Debian root file systems for images, created by debootstrap and cached between runs."""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from devtools.kubernetes.binaries import Missing, cache_directory, find

_ARCHIVE_KINDS = "$(REPO_URI) $(CODENAME) $(COMPONENT)"
# The host's network configuration and certificates, for programs in the root file system.
_HOST_FILES = ("/etc/resolv.conf", "/etc/hosts", "/etc/ssl/certs", "/etc/pip.conf")


def release() -> str:
    """Return the code name of this machine's Debian or Ubuntu release, which the images use too."""
    lines = Path("/etc/os-release").read_text().splitlines()
    values = dict(line.split("=", 1) for line in lines if "=" in line)
    name = values.get("VERSION_CODENAME", "").strip('"')
    if not name:
        raise Missing("debootstrap needs the code name of this machine's Debian or Ubuntu release, and there is none")
    return name


def debian(packages: Sequence[str]) -> Path:
    """Return a minimal Debian with additional packages, from the mirror of this machine."""
    digest = hashlib.sha256("\n".join([release(), *sorted(packages)]).encode()).hexdigest()[:16]
    directory = cache_directory() / "images" / f"debian-{digest}"
    if directory.exists():
        return directory
    part = directory.with_name(f"{directory.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    include = f"--include={','.join(packages)}"
    command = [find("debootstrap"), "--variant=minbase", include, release(), str(part), _mirror()]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        raise Missing(f"debootstrap failed: {done.stdout[-500:]}")
    for left in ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/man", "usr/share/locale"):
        shutil.rmtree(part / left, ignore_errors=True)
    for log in (part / "var/log").rglob("*.log"):
        log.unlink()
    part.rename(directory)
    return directory


def run_in(
    base: Sequence[Path], changes: Path, command: Sequence[str], *, mounts: Sequence[tuple[Path, str]] = ()
) -> None:
    """Run a command in an overlay of directories; it writes to `changes`.

    `mounts` are read-only. All mounts are in a new namespace, which ends with the command.
    """
    work, merged = changes.with_name(f"{changes.name}.work"), changes.with_name(f"{changes.name}.merged")
    for directory in (changes, work, merged):
        directory.mkdir(parents=True, exist_ok=True)
    lower = ":".join(map(str, reversed(base)))
    script = [f"mount -t overlay overlay -o lowerdir={lower},upperdir={changes},workdir={work} {merged}"]
    links = [link for link in os.environ.get("PIP_FIND_LINKS", "").split() if link.startswith("/")]
    hosts = [(Path(file), file) for file in (*_HOST_FILES, *links) if Path(file).exists()]
    for source, target in [*hosts, *mounts]:
        place = merged / target.lstrip("/")
        make = f"mkdir -p {place}" if source.is_dir() else f"mkdir -p {place.parent}; [ -e {place} ] || touch {place}"
        script.append(f"{make}; mount --bind {source.resolve()} {place}; mount -o remount,bind,ro {place}")
    script += [f"mount -t proc proc {merged}/proc", f'exec chroot {merged} "$@"']
    shell = ["unshare", "--mount", "--propagation=private", "sh", "-ec", "; ".join(script), "sh"]
    # Pass pip's settings, but not the host's paths.
    environment = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_", "REQUESTS_"))}
    environment |= {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [*shell, *command], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    shutil.rmtree(work, ignore_errors=True)
    shutil.rmtree(merged, ignore_errors=True)
    assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout[-3000:]}"


def _mirror() -> str:
    listing = subprocess.run(
        ["apt-get", "indextargets", "--format", _ARCHIVE_KINDS, "Created-By: Packages"], capture_output=True, text=True
    )
    for line in listing.stdout.splitlines():
        address, _, rest = line.partition(" ")
        if rest == f"{release()} main":
            return address
    raise Missing(f"apt has no mirror of {release()} configured")
