"""Scaling: a simulated day of uploads, with KEDA's formula and the measured stage costs."""

from bench.bench import Bench
from bench.keda import Scaling
from bench.plots import Series
from bench.simulation import Lane, Stage, arrivals, simulate

# CPU seconds per image, from docs/performance.md, if this run did not measure them (`make bench ARGS=scale`).
_COSTS = {"exif": 0.05, "ocr": 0.45, "vision": 0.10}

# The lanes of a platform with a few large clients and many small ones: uploads a day.
_LANES = {"standard": 100_000, "premium": 20_000}

# The chart's defaults: lagThreshold, and a worker's maximum of replicas.
_SCALING = {"exif": (50, 4), "ocr": (4, 10), "vision": (20, 6)}
_BURST, _BURST_AT, _BURST_SECONDS = 50.0, 15 * 3600, 300


def measure(bench: Bench) -> None:
    """Simulate the day and report its figures."""
    report = bench.report
    costs = {kind: report.figures.get(f"imago: worker {kind}, CPU s per image", cost) for kind, cost in _COSTS.items()}
    report.section("A day, simulated")
    for kind, cost in costs.items():
        report.add(f"{kind} worker: CPU s per uploaded image", cost)
    lanes: dict[str, Lane] = {}
    for name, per_day in _LANES.items():
        for least, label in ((0, "from zero"), (1, "one kept warm")):
            lane = _day(per_day, least, costs)
            lanes[f"{name}, {label}"] = lane
            report.add(f"{name}, {label}: uploads", len(lane.waits))
            report.add(f"{name}, {label}: upload to done, p50 s", lane.p(0.5))
            report.add(f"{name}, {label}: upload to done, p95 s", lane.p(0.95))
            report.add(f"{name}, {label}: upload to done, p99 s", lane.p(0.99))
            report.add(f"{name}, {label}: greatest lag", max(lane.lag))
            report.add(f"{name}, {label}: most replicas of all stages", max(lane.replicas))
            report.add(f"{name}, {label}: mean replicas of all stages", sum(lane.replicas) / len(lane.replicas))
    minutes = min(len(lane.lag) for lane in lanes.values())
    hours = [minute / 60 for minute in range(minutes)]
    for what, unit in (("lag", "messages"), ("replicas", "pods")):
        series = [Series(name, getattr(lane, what)[:minutes]) for name, lane in lanes.items()]
        report.plot_lines(f"scale-{what}", f"A day with a burst of 50 times: {what}", ("hour", unit), series, hours)
    report.note(
        f"{_BURST:g} times the mean rate for {_BURST_SECONDS} s at {_BURST_AT // 3600}:00. lagThreshold and most "
        "replicas are the chart's defaults, each lane has its own pods; polling 30 s, cooldown 300 s, 20 s from "
        "requesting a pod to its first message, one core per pod. Further limits are in docs/scaling.md."
    )


def _day(per_day: int, least: int, costs: dict[str, float]) -> Lane:
    uploads = arrivals(per_day, burst=_BURST, burst_at=_BURST_AT, burst_seconds=_BURST_SECONDS, seed=per_day)
    stages = {
        kind: Stage(cost, Scaling(target=_SCALING[kind][0], least=least, most=_SCALING[kind][1]))
        for kind, cost in costs.items()
    }
    return simulate(uploads, stages)
