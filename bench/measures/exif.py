"""EXIF: bytes read and time per image, against piexif and exiftool on whole files."""

import contextlib
import io
import resource
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import piexif

from bench.bench import Bench
from bench.pictures import corpus, photo_900k
from bench.statistics import Sample
from imago.imaging.metadata.exif import read_exif


class _Counting(io.FileIO):
    """A file that counts the bytes read."""

    total = 0

    def readinto(self, buffer: bytearray | memoryview, /) -> int:
        count = super().readinto(buffer) or 0
        _Counting.total += count
        return count


def measure(bench: Bench) -> None:
    """Measure the readers over the corpus and a large photo with EXIF."""
    report = bench.report
    report.section("EXIF")
    folder = bench.folder / "exif"
    folder.mkdir(exist_ok=True)
    large = folder / "large.jpg"
    large.write_bytes(_with_exif(photo_900k()))
    files = [*corpus(), large]
    _Counting.total = 0
    for path in files:
        with _Counting(path) as stream:
            read_exif(io.BufferedReader(stream, 4096))
    read_by_us = _Counting.total / len(files)
    size = sum(path.stat().st_size for path in files) / len(files)
    report.add("files", len(files))
    report.add("bytes per file", size)
    report.add("bytes read per file: imago", read_by_us)
    report.add("bytes read per file: piexif on the whole file", size)
    ours, theirs = [], []
    for _ in range(bench.rounds):
        ours.append(_cpu_ms(_read_ours, files, 5))
        theirs.append(_cpu_ms(_read_piexif, files, 5))
    report.add("CPU ms per file: imago", Sample(tuple(ours)))
    report.add("CPU ms per file: piexif on the whole file", Sample(tuple(theirs)))
    report.add("900 KB photo, CPU ms: imago", _cpu_ms(_read_ours, [large], 200))
    report.add("900 KB photo, CPU ms: piexif on the whole file", _cpu_ms(_read_piexif, [large], 200))
    if shutil.which("exiftool"):
        report.add("CPU ms per file: exiftool, all files in one run", Sample(tuple(_exiftool(files) for _ in range(3))))
        report.add("CPU ms per file: exiftool, a process a file", Sample(tuple(_exiftool([large]) for _ in range(3))))


def _read_ours(path: Path) -> None:
    with path.open("rb") as stream:
        read_exif(stream)


def _read_piexif(path: Path) -> None:
    # Unreadable files count too.
    with contextlib.suppress(Exception):
        piexif.load(path.read_bytes())


def _cpu_ms(read: Callable[[Path], None], files: list[Path], times: int) -> float:
    began = time.process_time()
    for _ in range(times):
        for path in files:
            read(path)
    return (time.process_time() - began) / times / len(files) * 1000


def _exiftool(files: list[Path]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        ["exiftool", "-json", "-n", *map(str, files)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / len(files) * 1000


def _with_exif(jpeg: bytes) -> bytes:
    tags = {
        "0th": {piexif.ImageIFD.Make: b"Canon", piexif.ImageIFD.Model: b"EOS 5D"},
        "Exif": {piexif.ExifIFD.ISOSpeedRatings: 100, piexif.ExifIFD.MakerNote: bytes(20_000)},
        "GPS": {piexif.GPSIFD.GPSLatitudeRef: b"N", piexif.GPSIFD.GPSLatitude: ((48, 1), (51, 1), (0, 1))},
    }
    target = io.BytesIO()
    piexif.insert(piexif.dump(tags), jpeg, target)
    return target.getvalue()
