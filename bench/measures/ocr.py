"""OCR: the overhead of the stage over Tesseract, the throughput of two workers, and half scale."""

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path

from bench.bench import Bench
from bench.environment import ROOT
from bench.pictures import TEXT_EN, TEXT_FR, encoded, page
from bench.plots import Series
from bench.statistics import Sample, character_error_rate, ratio
from imago.imaging.ocr.trained_data import tessdata
from imago.imaging.sandbox.pool import ChildPool

_LANGUAGES = ["fra", "eng"]

# Each engine runs in its own process, which reports the CPU used between the first page and the last.
_BARE = """
import json, resource, sys, time
import tesserocr
pages, data, times = json.loads(sys.argv[1]), sys.argv[2], int(sys.argv[3])
api = tesserocr.PyTessBaseAPI(path=data + "/", lang="fra+eng", psm=tesserocr.PSM.AUTO)
def read(path):
    api.SetImageFile(path)
    api.SetSourceResolution(300)
    api.Recognize()
    text = api.GetUTF8Text()
    api.Clear()
    return text
texts = [read(path) for path in pages]
began = time.process_time()
for _ in range(times):
    for path in pages:
        read(path)
print(json.dumps({"cpu": time.process_time() - began, "texts": texts}))
"""
_STAGE = """
import json, sys, tempfile, time
from pathlib import Path
from imago.imaging.sandbox.tasks import ocr
pages, data, times = json.loads(sys.argv[1]), sys.argv[2], int(sys.argv[3])
folder = tempfile.mkdtemp()
def read(path):
    return ocr(source=path, page=folder + "/page.pgm", languages=["fra", "eng"], engine="tesserocr",
               tessdata_dir=data, max_pixels=50_000_000)["result"]["chosen"]["text"]
texts = [read(path) for path in pages]
began = time.process_time()
for _ in range(times):
    for path in pages:
        read(path)
print(json.dumps({"cpu": time.process_time() - began, "texts": texts}))
"""

# The same with OCR_HALF_SCALE.
_HALVING = _STAGE.replace("max_pixels=", "half_scale=True, max_pixels=")


def measure(bench: Bench) -> None:
    """Measure the OCR stage."""
    bench.report.section("OCR")
    folder = bench.folder / "ocr"
    folder.mkdir(exist_ok=True)
    pages = []
    for name, text in (("fr", TEXT_FR), ("en", TEXT_EN)):
        path = folder / f"{name}.jpg"
        path.write_bytes(encoded(page(text).convert("RGB"), "JPEG", quality=90))
        pages.append(path)
    _against_bare(bench, pages)
    _two_workers(bench, pages[0])
    _half_scale(bench, folder)


def _against_bare(bench: Bench, pages: list[Path]) -> None:
    stage, bare, texts = [], [], {}
    times = bench.size(3, 12)
    for _ in range(bench.rounds):
        for program, costs in ((_STAGE, stage), (_BARE, bare)):
            answer = _run(program, pages, times)
            costs.append(answer["cpu"] / times / len(pages) * 1000)
            texts[program] = answer["texts"]
    report = bench.report
    report.add("a page of 800 × 600: the stage, CPU ms", Sample(tuple(stage)))
    report.add("a page of 800 × 600: bare Tesseract, CPU ms", Sample(tuple(bare)))
    report.add("the stage's CPU over bare Tesseract's", ratio(stage, bare), relation="<=", target=1.05)
    for name, program in (("the stage", _STAGE), ("bare Tesseract", _BARE)):
        errors = [
            character_error_rate(truth, text) for truth, text in zip((TEXT_FR, TEXT_EN), texts[program], strict=True)
        ]
        report.add(f"character error rate of {name}, percent", 100 * sum(errors) / len(errors))
    report.note(
        "Bare: the same library (the wheel's Tesseract), opened once, given the path of the same JPEG, one thread, "
        "languages fra+eng, automatic layout. The stage itself decodes, rotates and converts the page to "
        "grayscale first, and detects the language afterwards."
    )


def _run(program: str, pages: list[Path], times: int) -> dict:  # type: ignore[type-arg]
    command = [
        sys.executable,
        "-c",
        program,
        json.dumps([str(path) for path in pages]),
        str(tessdata(None)),
        str(times),
    ]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={"OMP_THREAD_LIMIT": "1", "PATH": "/usr/bin:/bin"},
    )
    return dict(json.loads(done.stdout))


def _two_workers(bench: Bench, page_: Path) -> None:
    rates: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(bench.rounds):
        for size in rates:
            rates[size].append(bench.run(_pool_rate(size, page_, bench.folder, bench.size(8, 40))))
    bench.report.add("pages/s with one child process", Sample(tuple(rates[1])))
    bench.report.add("pages/s with two", Sample(tuple(rates[2])))
    bench.report.add("two over one", ratio(rates[2], rates[1]), relation=">=", target=1.8)


async def _pool_rate(size: int, page_: Path, folder: Path, count: int) -> float:
    pool = ChildPool(size=size, memory_mb=2048, cpu_seconds=600)

    async def read(number: int) -> None:
        arguments = {
            "languages": _LANGUAGES,
            "engine": "tesserocr",
            "tessdata_dir": str(tessdata(None)),
            "max_pixels": 50_000_000,
        }
        target = folder / f"pool-{number}.pgm"
        await pool.run("ocr", arguments, timeout=300, reads={"source": page_}, writes={"page": target})

    try:
        await asyncio.gather(*(read(number) for number in range(size)))
        began = time.perf_counter()
        await asyncio.gather(*(read(number) for number in range(count)))
        return count / (time.perf_counter() - began)
    finally:
        await pool.close()
        for left in folder.glob("pool-*.pgm"):
            left.unlink()


def _half_scale(bench: Bench, folder: Path) -> None:
    """Compare reading at full and at half scale, for several letter sizes."""
    sizes, costs, errors = (24, 32, 48, 64, 96), {1.0: [], 0.5: []}, {1.0: [], 0.5: []}
    for size in sizes:
        # Always the same text, on a page that grows with the letters.
        scale = size / 24
        image = page(TEXT_FR, width=int(900 * scale), height=int(700 * scale), size=size)
        for factor in (1.0, 0.5):
            path = folder / f"letters-{size}-{factor}.png"
            path.write_bytes(encoded(image.resize((int(image.width * factor), int(image.height * factor)), 1), "PNG"))
            answer = _run(_BARE, [path], 1)
            costs[factor].append(answer["cpu"] * 1000)
            errors[factor].append(100 * character_error_rate(TEXT_FR, answer["texts"][0]))
            bench.report.add(f"letters of {size} px at scale {factor:g}: CPU ms", costs[factor][-1])
            bench.report.add(
                f"letters of {size} px at scale {factor:g}: character error rate, percent", errors[factor][-1]
            )
    _by_the_stage(bench, folder, sizes)
    kept = [size for size, full, half in zip(sizes, errors[1.0], errors[0.5], strict=True) if half - full <= 0.5]
    bench.report.note(
        "Half scale keeps the character error rate within 0.5 points for letters of "
        f"{', '.join(map(str, kept)) or 'no'} px."
    )
    bench.report.plot_bars(
        "ocr-scale",
        "Reading at full and at half scale",
        "CPU ms",
        [Series("full", costs[1.0]), Series("half", costs[0.5])],
        [f"{size} px" for size in sizes],
    )


def _by_the_stage(bench: Bench, folder: Path, sizes: tuple[int, ...]) -> None:
    """Measure the stage with OCR_HALF_SCALE, which decides by each page's smallest line."""
    for size in sizes:
        pages = [folder / f"letters-{size}-1.0.png"]
        costs: dict[str, list[float]] = {_STAGE: [], _HALVING: []}
        errors = {}
        for _ in range(bench.rounds):
            for program, spent in costs.items():
                answer = _run(program, pages, 1)
                spent.append(answer["cpu"])
                errors[program] = 100 * character_error_rate(TEXT_FR, answer["texts"][0])
        bench.report.add(
            f"letters of {size} px, OCR_HALF_SCALE: the stage's CPU, part of that without",
            ratio(costs[_HALVING], costs[_STAGE]),
        )
        bench.report.add(
            f"letters of {size} px, OCR_HALF_SCALE: points of character error rate more",
            errors[_HALVING] - errors[_STAGE],
            relation="<=",
            target=0.5,
        )
