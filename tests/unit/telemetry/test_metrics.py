"""Labels are bounded, gauges of a lost lease are removed, and the format is the one that the scraper requests."""

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
def labelled() -> Iterator[None]:
    metrics.set_client_labels(("atelier", "studio"))
    yield
    metrics.set_client_labels(())


def test_only_clients_in_the_setting_have_their_own_label(labelled: None) -> None:
    assert metrics.client_label("atelier") == "atelier"
    assert metrics.client_label("unknown") == "other"
    assert metrics.client_labels() == ("atelier", "studio", "other")


def test_at_most_fifty_clients_can_have_a_label() -> None:
    assert len(Settings(metrics_clients=",".join(f"client-{n}" for n in range(50))).metrics_clients) == 50
    with pytest.raises(ValidationError, match="METRICS_CLIENTS takes at most 50 names"):
        Settings(metrics_clients=",".join(f"client-{n}" for n in range(51)))


def test_a_snapshot_removes_series_without_a_value_and_clears_all() -> None:
    registry = CollectorRegistry()
    by_lane = Gauge("lanes", "Lanes.", ["lane"], registry=registry)
    plain = Gauge("objects", "Objects.", registry=registry)
    snapshot = Snapshot(by_lane, plain)
    snapshot.replace(by_lane, {("standard",): 3, ("premium",): 1})
    snapshot.replace(by_lane, {("standard",): 2})
    snapshot.replace(plain, {(): 7})
    assert registry.get_sample_value("lanes", {"lane": "standard"}) == 2
    assert registry.get_sample_value("lanes", {"lane": "premium"}) is None
    assert registry.get_sample_value("objects") == 7
    snapshot.clear()
    assert registry.get_sample_value("lanes", {"lane": "standard"}) is None
    cleared = registry.get_sample_value("objects")
    assert cleared is not None
    assert math.isnan(cleared)


def test_the_format_is_the_one_that_the_scraper_requests() -> None:
    text, plain = metrics.exposition("")
    assert plain.startswith("text/plain")
    assert not text.endswith(b"# EOF\n")
    text, open_metrics = metrics.exposition("application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
    assert open_metrics.startswith("application/openmetrics-text")
    assert text.endswith(b"# EOF\n")


def test_the_slots_of_a_worker_are_set_for_each_stage_and_lane_that_it_serves() -> None:
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


def test_counters_of_alerts_exist_before_their_first_increment() -> None:
    metrics.init_api_series()
    metrics.init_worker_series("ocr", [Stage.OCR], jobs=1, lanes=WorkerLanes.parse("standard"))
    exposed = metrics.exposition()[0].decode()
    for series in (
        'imago_http_requests_total{method="POST",route="/images/upload",status="503"} 0.0',
        'imago_ai_budget_exhausted_total{kind="summarize",policy="reject"} 0.0',
        'imago_ai_budget_exhausted_total{kind="ocr",policy="hold"} 0.0',
        'imago_child_exits_total{cause="SIGKILL"} 0.0',
    ):
        assert series in exposed


def test_an_observation_has_its_trace_as_exemplar_in_openmetrics() -> None:
    with TracerProvider().get_tracer("tests").start_as_current_span("a request") as span:
        metrics.HTTP_SECONDS.labels("GET", "/exemplary").observe(0.02, exemplar=metrics.exemplar())
    trace = f"{span.get_span_context().trace_id:032x}"
    exposed = metrics.exposition("application/openmetrics-text; version=1.0.0")[0].decode()
    (line,) = (line for line in exposed.splitlines() if trace in line)
    assert 'route="/exemplary"' in line
    assert f'# {{trace_id="{trace}"}} 0.02' in line
    assert trace not in metrics.exposition("text/plain")[0].decode()
