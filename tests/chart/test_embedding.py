"""The stage embed exists in the chart only with a model, and settings reach the processes that they are for."""

from typing import Any

import pytest
import yaml
from helm_python.chart import Chart
from helm_python.errors import HelmError

from tests.support.manifests import Rendered, containers, environment, merged, render, scenario

DIRECTORY = "/var/lib/imago/embedding"


@pytest.fixture(scope="module")
def with_model(chart: Chart) -> Rendered:
    """The chart with a model."""
    return render(chart, scenario("embedding"))


def variables(rendered: Rendered, name: str) -> dict[str, Any]:
    return environment(containers(rendered.of("Deployment")[f"imago-{name}"]["spec"]["template"])[-1])


def test_without_a_model_nothing_of_the_stage_is_rendered(chart: Chart) -> None:
    rendered = render(chart, scenario("quickstart"))
    # The schema of an ImagoReprocess names all stages.
    objects = [item for item in rendered.objects if item["kind"] != "CustomResourceDefinition"]
    assert "embed" not in str(objects).lower()


def test_the_worker_has_its_own_deployment_trigger_and_budget(with_model: Rendered) -> None:
    assert containers(with_model.of("Deployment")["imago-worker-embed"]["spec"]["template"])[-1]["args"] == [
        "worker",
        "embed",
    ]
    triggers = with_model.of("ScaledObject")["imago-worker-embed"]["spec"]["triggers"]
    assert {trigger["metadata"]["consumer"] for trigger in triggers} == {"embed"}
    assert "imago-worker-embed" in with_model.of("PodDisruptionBudget")


@pytest.mark.parametrize("name", ["api", "worker-embed"])
def test_the_model_is_mounted_read_only_where_it_is_opened(with_model: Rendered, name: str) -> None:
    pod = with_model.of("Deployment")[f"imago-{name}"]["spec"]["template"]
    mounts = {mount["name"]: mount for mount in containers(pod)[-1]["volumeMounts"]}
    assert mounts["embedding-model"] == {
        "name": "embedding-model",
        "mountPath": DIRECTORY,
        "readOnly": True,
        "subPath": "siglip2",
    }
    volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
    assert volumes["embedding-model"]["persistentVolumeClaim"] == {"claimName": "clip", "readOnly": True}
    assert variables(with_model, name)["EMBED_MODEL_DIR"] == DIRECTORY


def test_all_that_create_consumers_know_of_the_stage(with_model: Rendered) -> None:
    assert variables(with_model, "operator")["EMBED_MODEL_DIR"] == DIRECTORY
    (migrate,) = (job for name, job in with_model.of("Job").items() if name.startswith("imago-migrate"))
    topology = environment(migrate["spec"]["template"]["spec"]["containers"][0])
    assert topology["EMBED_MODEL_DIR"] == DIRECTORY


def test_policies_let_the_worker_reach_what_the_other_workers_reach(with_model: Rendered) -> None:
    for name, policy in with_model.of("NetworkPolicy").items():
        for expression in policy["spec"]["podSelector"].get("matchExpressions", []):
            if "worker-exif" in expression["values"]:
                assert "worker-embed" in expression["values"], name


def test_a_stage_without_a_volume_is_refused(chart: Chart) -> None:
    values = merged(scenario("quickstart"), {"workers": {"embed": {"enabled": True}}})
    with pytest.raises(HelmError, match=r"workers\.embed\.model\.volume"):
        render(chart, values)


def test_settings_of_recognition_text_and_search_reach_their_processes(with_model: Rendered) -> None:
    expected = {
        "api": {"SEARCH_BY_MEANING": "false", "OCR_ENGINE": "tesserocr", "OCR_INSTALLED_LANGUAGES": "fra+deu"},
        "worker-exif": {"GEOCODE": "off"},
        "worker-ocr": {"OCR_ENGINE": "tesserocr", "OCR_LANGUAGES": "fra", "OCR_MAX_PAGES": "3"},
        "worker-vision": {"MODERATION": "score", "VISION_DETECTOR": "none"},
    }
    for name, settings in expected.items():
        assert settings.items() <= variables(with_model, name).items(), name


@pytest.mark.parametrize("name", ["OCR_ENGINE", "MODERATION", "GEOCODE", "SEARCH_BY_MEANING", "EMBED_MODEL_DIR"])
def test_a_setting_has_one_place_in_the_values(chart: Chart, name: str) -> None:
    values = merged(scenario("quickstart"), yaml.safe_load(f"settings: {{{name}: x}}"))
    with pytest.raises(HelmError, match="don't meet the specifications of the schema"):
        render(chart, values)
