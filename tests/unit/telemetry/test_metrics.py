"""Labels are bounded, gauges that one process sets for all are taken back, and formats are what scrapers ask for."""

import math
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import Gauge
from prometheus_client.registry import CollectorRegistry
from pydantic import ValidationError

from imago.core.jobs.stages import Stage
from imago.core.lanes.worker_lanes import WorkerLanes
from imago.settings import Settings
from imago.telemetry import metrics
from imago.telemetry.snapshot import Snapshot


@pytest.fixture
def named() -> Iterator[None]:
    metrics.set_client_labels(("atelier", "studio"))
    yield
    metrics.set_client_labels(())


def test_only_named_clients_have_a_label_of_their_own(named: None) -> None:
    assert metrics.client_label("atelier") == "atelier"
    assert metrics.client_label("somebody else") == "other"
    assert metrics.client_labels() == ("atelier", "studio", "other")


def test_at_most_fifty_clients_can_be_named() -> None:
    assert len(Settings(metrics_clients=",".join(f"client-{n}" for n in range(50))).metrics_clients) == 50
    with pytest.raises(ValidationError, match="METRICS_CLIENTS takes 50 names at most"):
        Settings(metrics_clients=",".join(f"client-{n}" for n in range(51)))


def test_a_snapshot_drops_what_is_gone_and_forgets_all_of_it() -> None:
    registry = CollectorRegistry()
    labelled = Gauge("lanes", "Lanes.", ["lane"], registry=registry)
    plain = Gauge("objects", "Objects.", registry=registry)
    snapshot = Snapshot(labelled, plain)
    snapshot.replace(labelled, {("standard",): 3, ("premium",): 1})
    snapshot.replace(labelled, {("standard",): 2})
    snapshot.replace(plain, {(): 7})
    assert registry.get_sample_value("lanes", {"lane": "standard"}) == 2
    assert registry.get_sample_value("lanes", {"lane": "premium"}) is None
    assert registry.get_sample_value("objects") == 7
    snapshot.clear()
    assert registry.get_sample_value("lanes", {"lane": "standard"}) is None
    forgotten = registry.get_sample_value("objects")
    assert forgotten is not None
    assert math.isnan(forgotten)


def test_the_format_is_what_the_scraper_asks_for() -> None:
    text, plain = metrics.exposition("")
    assert plain.startswith("text/plain")
    assert not text.endswith(b"# EOF\n")
    text, open_metrics = metrics.exposition("application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
    assert open_metrics.startswith("application/openmetrics-text")
    assert text.endswith(b"# EOF\n")


def test_a_workers_slots_are_shown_for_each_stage_and_lane_that_it_serves() -> None:
    metrics.init_worker_series("vision", [Stage.VISION], jobs=7, lanes=WorkerLanes.parse("standard,*"))
    capacity = {
        (sample.labels["stage"], sample.labels["lane"]): sample.value
        for family in metrics.STAGE_CAPACITY.collect()
        for sample in family.samples
    }
    assert {key: value for key, value in capacity.items() if key[0] == "vision"} == {
        ("vision", "standard"): 7,
        ("vision", "dedicated"): 7,
    }


def test_what_alerts_ask_the_increase_of_is_there_before_it_first_happens() -> None:
    metrics.init_api_series()
    metrics.init_worker_series("ocr", [Stage.OCR], jobs=1, lanes=WorkerLanes.parse("standard"))
    shown = metrics.exposition()[0].decode()
    for series in (
        'imago_http_requests_total{method="POST",route="/images/upload",status="503"} 0.0',
        'imago_ai_budget_exhausted_total{kind="summarize",policy="reject"} 0.0',
        'imago_ai_budget_exhausted_total{kind="ocr",policy="hold"} 0.0',
        'imago_child_exits_total{cause="SIGKILL"} 0.0',
    ):
        assert series in shown


def test_an_observation_in_a_trace_points_to_it_where_openmetrics_is_asked_for() -> None:
    with TracerProvider().get_tracer("tests").start_as_current_span("a request") as span:
        metrics.HTTP_SECONDS.labels("GET", "/exemplary").observe(0.02, exemplar=metrics.exemplar())
    trace = f"{span.get_span_context().trace_id:032x}"
    shown = metrics.exposition("application/openmetrics-text; version=1.0.0")[0].decode()
    (line,) = (line for line in shown.splitlines() if trace in line)
    assert 'route="/exemplary"' in line
    assert f'# {{trace_id="{trace}"}} 0.02' in line
    assert trace not in metrics.exposition("text/plain")[0].decode()
