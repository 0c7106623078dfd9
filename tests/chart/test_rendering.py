"""What the chart makes of its scenarios."""

from helm_python.chart import Chart, lint
from tests.support.manifests import Rendered, render, scenario

from imago.domain.lanes import SHARED_LANES, work_stream
from imago.domain.stages import WORKER_STAGES


def test_helm_finds_nothing_to_complain_of() -> None:
    report = lint("charts/imago", dict(scenario("production")), strict=True, namespace="pictures")
    assert not report["errors"]
    assert not [message for message in report["messages"] if message["severity"] >= 2]


def test_no_two_objects_have_one_name(rendered: Rendered) -> None:
    names = [(item["kind"], item["metadata"].get("namespace"), item["metadata"]["name"]) for item in rendered.objects]
    assert len(names) == len(set(names))


def test_keda_asks_for_exactly_the_consumers_that_the_topology_makes(chart: Chart) -> None:
    for name, scaled in render(chart, scenario("quickstart")).of("ScaledObject").items():
        asked = {(t["metadata"]["stream"], t["metadata"]["consumer"]) for t in scaled["spec"]["triggers"]}
        stages = WORKER_STAGES[name.removeprefix("imago-worker-")]
        assert asked == {(work_stream(lane), str(stage)) for lane in SHARED_LANES for stage in stages}
        assert len(scaled["spec"]["triggers"]) == len(asked)


def test_what_keda_scales_has_no_replicas(rendered: Rendered) -> None:
    for scaled in rendered.of("ScaledObject").values():
        assert "replicas" not in rendered.of("Deployment")[scaled["spec"]["scaleTargetRef"]["name"]]["spec"]
