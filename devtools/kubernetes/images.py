"""The images of a test cluster: Imago's, built from this checkout, and those of its dependencies.

They need no Docker and no registry: debootstrap installs Debian, pip the locked wheels, and static programs are copied.
All layers are cached by a hash of their inputs, so that a changed line of code only rebuilds one small layer.
"""

import contextlib
import fcntl
import hashlib
import importlib.metadata
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from devtools.kubernetes.binaries import cache_directory, find
from devtools.kubernetes.layers import Image, Layer, pack, pack_difference, packed
from devtools.kubernetes.rootfs import debian, run_in
from imago.nats.embedded import find_server

_ROOT = Path(__file__).parents[2]
_DISTRIBUTION = "imago-platform"
_PYTHON = ("ca-certificates", "python3")
_TESSERACT = ("tesseract-ocr", "tesseract-ocr-eng", "tesseract-ocr-fra")
_HOME = "opt/imago"

# The file system is read-only later, and compiling at each start takes longer than the start. A layer's files have no
# time, by which Python would otherwise take their bytecode for an outdated one.
_COMPILE = "-m compileall -q --invalidation-mode unchecked-hash"

# The extras of each image, as in the Dockerfile: only OCR contains Tesseract, and only vision the model.
TARGETS = {
    "api": ("meaning",),
    "worker-exif": (),
    "worker-ocr": ("ocr", "rapidocr"),
    "worker-vision": ("vision",),
    "operator": ("operator",),
}


def imago_images(tag: str) -> list[Image]:
    """Build Imago's images with the chart's default names."""
    with _alone():
        return [_imago_image(target, tag) for target in TARGETS]


def part_images() -> list[Image]:
    """Build the images of NATS, CoreDNS and KEDA."""
    # KEDA's manifests start the programs by their paths in KEDA's images; the chart finds NATS in PATH.
    programs = {"coredns": "coredns", "keda-operator": "keda", "keda-adapter": "keda-adapter"}
    with _alone():
        parts = [_program(f"localhost/{name}:imago", find(name), file) for name, file in programs.items()]
        return [_program("localhost/nats:imago", Path(find_server()), "usr/local/bin/nats-server"), *parts]


def pause_image(name: str) -> Image:
    """Build the pause image, whose idle process holds a pod's namespaces."""
    busybox = find("busybox")
    with _alone():
        layer = _cached(f"busybox-{_digest_of([busybox])}", lambda path: pack(path, [(busybox, "busybox")]))
    return Image(name, [layer], ["/busybox", "sleep", "2147483647"], user="65535:65535")


def _imago_image(target: str, tag: str) -> Image:
    """Build an image that shares its lowest layers with the others, so that a node unpacks them once."""
    system = debian(_PYTHON)
    layers = [_cached(system.name, lambda path: pack(path, [(system, "")]))]
    if target == "worker-ocr":
        layers.append(_tesseract_layer(system))
    layers += [*_packages_layers(system, TARGETS[target]), _code_layer(system)]
    environment = {
        "PATH": f"/{_HOME}/bin:/usr/local/bin:/usr/bin:/bin",
        "HOME": "/tmp",
        "HOST": "0.0.0.0",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
    }
    if target == "worker-vision":
        layers.append(_model_layer())
        environment["MODEL_DIR"] = "/opt/models"
    if target == "api":
        layers.append(_meaning_layer())
        environment["MODEL_DIR"] = "/opt/models"
    if target == "worker-exif":
        layers.append(_places_layer())
        environment["MODEL_DIR"] = "/opt/models"
    entrypoint = ["imago-operator"] if target == "operator" else ["imago"]
    return Image(f"localhost/imago-{target}:{tag}", layers, entrypoint, environment)


def _program(name: str, program: Path, file: str) -> Image:
    layer = _cached(f"{Path(file).name}-{_digest_of([program])}", lambda path: pack(path, [(program, file)]))
    return Image(name, [layer], [f"/{file}"], {"PATH": "/usr/local/bin"})


def _tesseract_layer(system: Path) -> Layer:
    whole = debian((*_PYTHON, *_TESSERACT))
    return _cached(f"{whole.name}-over-{system.name}", lambda path: pack_difference(path, whole, system))


def _packages_layers(system: Path, extras: Iterable[str]) -> list[Layer]:
    """Install the locked packages at /opt/imago: one layer with common packages, one with those of the extras."""
    common, required = _closure(()), _closure(extras)
    base = _installed([system], common)
    layers = [_packages_layer(base)]
    if required > common:
        layers.append(_packages_layer(_installed([system, base], required - common)))
    return layers


def _packages_layer(tree: Path) -> Layer:
    return _cached(tree.name, lambda path: pack(path, [(tree / _HOME, _HOME)]))


def _installed(below: Sequence[Path], names: frozenset[str]) -> Path:
    """Return the tree of the files that pip adds to the trees below."""
    lock = _locked(names)
    digest = hashlib.sha256("\n".join([*(tree.name for tree in below), lock, _COMPILE]).encode()).hexdigest()[:16]
    tree = _cache() / f"packages-{digest}"
    if tree.exists():
        return tree
    with tempfile.TemporaryDirectory(dir=_cache()) as scratch:
        requirements = Path(scratch) / "requirements.lock"
        requirements.write_text(lock)
        # The host's pip, copied to a separate folder, because Debian's minimal Python has none.
        shutil.copytree(Path(importlib.metadata.distribution("pip").locate_file("pip")), Path(scratch) / "pip" / "pip")
        install = "python -m pip install --quiet --no-cache-dir --no-deps --no-compile --require-hashes"
        script = (
            f"[ -x /{_HOME}/bin/python ] || python3 -m venv --without-pip /{_HOME}; "
            f"PYTHONPATH=/mnt/pip /{_HOME}/bin/{install} -r /mnt/requirements.lock; "
            f"/{_HOME}/bin/python {_COMPILE} /{_HOME}/lib || true"
        )
        mounts = [(Path(scratch) / "pip", "/mnt/pip"), (requirements, "/mnt/requirements.lock")]
        changes = Path(scratch) / "changes"
        run_in(below, changes, ["sh", "-ec", script], mounts=mounts)
        changes.rename(tree)
    return tree


def _code_layer(system: Path) -> Layer:
    """Build this checkout's wheel and unpack it next to the packages."""
    sources = [path for folder in ("services", "operator") for path in sorted((_ROOT / folder).rglob("*"))]
    sources = [path for path in sources if path.is_file() and "__pycache__" not in path.parts]
    digest = hashlib.sha256(f"{_digest_of([_ROOT / 'pyproject.toml', *sources])} {_COMPILE}".encode()).hexdigest()[:16]
    version = next((system / "usr/lib").glob("python3.[0-9]*")).name

    def make(path: Path) -> Layer:
        with tempfile.TemporaryDirectory(dir=_cache()) as scratch:
            build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", scratch]
            subprocess.run(build, cwd=_ROOT, check=True, capture_output=True)
            tree, bytecode = Path(scratch) / "tree", Path(scratch) / "bytecode"
            packages = tree / _HOME / "lib" / version / "site-packages"
            shutil.unpack_archive(str(next(Path(scratch).glob("*.whl"))), str(packages), "zip")
            _write_scripts(packages, tree / _HOME / "bin")
            run_in([system, tree], bytecode, ["sh", "-ec", f"/usr/bin/{version} {_COMPILE} /{_HOME}/lib"])
            return pack(path, [(tree / _HOME, _HOME), (bytecode / _HOME, _HOME)])

    return _cached(f"code-{version}-{digest}", make)


def _write_scripts(packages: Path, folder: Path) -> None:
    folder.mkdir()
    text = next(packages.glob("*.dist-info/entry_points.txt")).read_text()
    for name, module, function in re.findall(r"^(\S+) = (\S+):(\S+)$", text, re.MULTILINE):
        script = folder / name
        script.write_text(
            f"#!/{_HOME}/bin/python\nimport sys\nfrom {module} import {function}\nsys.exit({function}())\n"
        )
        script.chmod(0o755)


def _model_layer() -> Layer:
    from imago.ai.offline.models.store import ensure_classifier, ensure_detector

    models = [ensure(None).parent for ensure in (ensure_classifier, ensure_detector)]
    files = [file for model in models for file in sorted(model.glob("*.*"))]

    def make(path: Path) -> Layer:
        with tempfile.TemporaryDirectory(dir=_cache()) as scratch:
            for file in files:
                # In the cache only its owner can read the model; in the image another user must be able to.
                readable = Path(scratch) / file.parent.name / file.name
                readable.parent.mkdir(mode=0o755, exist_ok=True)
                shutil.copyfile(file, readable)
                readable.chmod(0o644)
            return pack(path, [(Path(scratch) / model.name, f"opt/models/{model.name}") for model in models])

    return _cached(f"readable-models-{_digest_of(files)}", make)


def _places_layer() -> Layer:
    from imago.geocoding.build import places_path

    file = places_path(None)
    return _cached(
        f"places-{_digest_of([file])}", lambda path: pack(path, [(file, "opt/models/geonames/places.sqlite")])
    )


def _meaning_layer() -> Layer:
    from imago.ai.offline.meaning.vectors import ensure_vectors

    file = ensure_vectors(None)
    return _cached(
        f"meaning-{_digest_of([file])}", lambda path: pack(path, [(file, f"opt/models/meaning/{file.name}")])
    )


def _closure(extras: Iterable[str]) -> frozenset[str]:
    """Return the names of all packages that Imago requires with these extras."""
    found: set[str] = set()
    _gather(_DISTRIBUTION, frozenset(extras), found)
    return frozenset(found)


def _locked(names: frozenset[str]) -> str:
    """Return the part of the lock file that pins these packages, with their hashes."""
    blocks = re.split(r"\n(?=\S)", (_ROOT / "requirements" / "dev.lock").read_text().strip())
    return "\n".join(block for block in blocks if canonicalize_name(block.split("==")[0].split("[")[0]) in names) + "\n"


def _gather(name: str, extras: frozenset[str], found: set[str]) -> None:
    for text in importlib.metadata.requires(name) or []:
        requirement = Requirement(text)
        applies = [
            requirement.marker is None or requirement.marker.evaluate({"extra": each}) for each in extras or {""}
        ]
        dependency = canonicalize_name(requirement.name)
        if any(applies) and (dependency not in found or requirement.extras):
            found.add(dependency)
            _gather(dependency, frozenset(requirement.extras), found)


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Prevent concurrent runs from building the same files."""
    with (_cache() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _cached(key: str, make: Callable[[Path], Layer]) -> Layer:
    path = _cache() / f"layer-{key}.tar"
    return packed(path) or make(path)


def _cache() -> Path:
    directory = cache_directory() / "images"
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def _digest_of(files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.name}\n{file.stat().st_size}\n".encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]
