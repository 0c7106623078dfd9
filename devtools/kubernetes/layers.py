"""Builds image layers and archives without Docker, in the format of `docker save` and `ctr images import`."""

import filecmp
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

_CHUNK = 2**20


@dataclass(frozen=True)
class Layer:
    """An uncompressed layer in a file, and its digest."""

    path: Path
    digest: str


@dataclass(frozen=True)
class Image:
    """An image with its full name and its layers, from bottom to top."""

    name: str
    layers: Sequence[Layer]
    entrypoint: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    user: str = "10001:10001"


def pack(path: Path, entries: Iterable[tuple[Path, str]]) -> Layer:
    """Write a reproducible layer of files and directories, each with its path in the image."""
    part = path.with_name(f"{path.name}.part")
    with tarfile.open(part, "w", format=tarfile.PAX_FORMAT) as tar:
        for source, name in entries:
            _add(tar, source, name.strip("/"))
    part.replace(path)
    return _describe(path)


def pack_difference(path: Path, tree: Path, below: Path) -> Layer:
    """Write a layer with the files that a tree adds or changes; removed files get no whiteout."""
    part = path.with_name(f"{path.name}.part")
    with tarfile.open(part, "w", format=tarfile.PAX_FORMAT) as tar:
        for source in sorted(tree.rglob("*")):
            name = source.relative_to(tree)
            if not _same(source, below / name):
                _add(tar, source, str(name), deep=False)
    part.replace(path)
    return _describe(path)


def packed(path: Path) -> Layer | None:
    """Return a layer that exists already, or None."""
    digest = path.with_suffix(".digest")
    return Layer(path, digest.read_text()) if path.exists() and digest.exists() else None


def write_archive(stream: IO[bytes], images: Sequence[Image]) -> None:
    """Write images as one archive that contains each shared layer once."""
    manifest, written = [], set()
    with tarfile.open(fileobj=stream, mode="w|") as tar:
        for image in images:
            config = _config(image)
            name = f"{hashlib.sha256(config).hexdigest()}.json"
            files = [f"{layer.digest}.tar" for layer in image.layers]
            manifest.append({"Config": name, "RepoTags": [image.name], "Layers": files})
            if name not in written:
                _add_bytes(tar, name, config)
            for layer, file in zip(image.layers, files, strict=True):
                if file not in written:
                    written.add(file)
                    tar.add(layer.path, file)
            written.add(name)
        _add_bytes(tar, "manifest.json", json.dumps(manifest).encode())


def _describe(path: Path) -> Layer:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    path.with_suffix(".digest").write_text(digest.hexdigest())
    return Layer(path, digest.hexdigest())


def _same(one: Path, other: Path) -> bool:
    if not os.path.lexists(other):
        return False
    if one.is_symlink() or other.is_symlink():
        return one.is_symlink() and other.is_symlink() and one.readlink() == other.readlink()
    if one.is_file():
        return other.is_file() and filecmp.cmp(one, other, shallow=False)
    return other.is_dir() == one.is_dir()


def _add(tar: tarfile.TarFile, source: Path, name: str, *, deep: bool = True) -> None:
    info = tar.gettarinfo(source, name or ".")
    info.mtime = 0
    info.uname = info.gname = ""
    if info.isreg():
        with source.open("rb") as file:
            tar.addfile(info, file)
        return
    tar.addfile(info)
    if deep and info.isdir():
        for entry in sorted(source.iterdir()):
            _add(tar, entry, f"{name}/{entry.name}" if name else entry.name)


def _add_bytes(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def _config(image: Image) -> bytes:
    config = {
        "architecture": _architecture(),
        "os": "linux",
        "config": {
            "Entrypoint": list(image.entrypoint),
            "Env": [f"{name}={value}" for name, value in image.environment.items()],
            "User": image.user,
            "WorkingDir": "/",
        },
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer.digest}" for layer in image.layers]},
        "history": [{"created_by": "imago's cluster tests"} for _ in image.layers],
    }
    return json.dumps(config, sort_keys=True).encode()


def _architecture() -> str:
    return {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
