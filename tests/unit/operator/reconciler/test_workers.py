"""Building the workers of a dedicated lane from templates."""

from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import yaml

from imago_operator.reconciler.workers import DEPLOYMENT, SCALED_OBJECT, TemplatesInvalid, build_workers, read_templates
from imago_operator.resource import ResourceRef
from tests.support.operator import write_templates

CLIENT = UUID("6f1c0b9e-3f3c-4e2e-9d57-0b1f6a2c7d11")
REF = ResourceRef("photos", "atelier", "uid")


@pytest.fixture
def templates(tmp_path: Path) -> tuple[dict[str, Any], ...]:
    """Templates like those that the chart renders."""
    return read_templates(write_templates(tmp_path / "templates"))


def built(templates: Any, *, max_replicas: int = 3) -> Any:
    return build_workers(templates, REF, client=CLIENT, max_replicas=max_replicas, namespace="imago")


def test_deployments_come_before_their_scaled_objects(templates: Any) -> None:
    assert [worker.kind for worker in built(templates)] == [DEPLOYMENT] * 3 + [SCALED_OBJECT] * 3


def test_placeholders_are_replaced_everywhere_and_numbers_stay_numbers(templates: Any) -> None:
    workers = built(templates)
    assert "$(" not in yaml.safe_dump([worker.body for worker in workers])
    assert {worker.name for worker in workers} == {
        f"imago-worker-{kind}-6f1c0b9e3f3c4e2e" for kind in ("exif", "ocr", "vision")
    }
    scaled = workers[-1].body["spec"]
    assert scaled["maxReplicaCount"] == 3
    assert scaled["triggers"][0]["metadata"]["stream"] == f"IMAGO_WORK_{CLIENT.hex}"


def test_objects_and_pods_but_not_selectors_have_the_labels_of_the_resource(templates: Any) -> None:
    for worker in built(templates):
        labels = worker.body["metadata"]["labels"]
        assert labels["imago.dev/client-id"] == str(CLIENT)
        assert (labels["imago.dev/client-namespace"], labels["imago.dev/client-name"]) == ("photos", "atelier")
        assert worker.body["metadata"]["namespace"] == "imago"
        if worker.kind is DEPLOYMENT:
            spec = worker.body["spec"]
            assert spec["template"]["metadata"]["labels"]["imago.dev/client-id"] == str(CLIENT)
            assert "imago.dev/client-id" not in spec["selector"]["matchLabels"], "a selector is immutable"


def test_the_checksum_changes_only_with_the_manifest(templates: Any) -> None:
    def checksums(**options: Any) -> list[str]:
        return [
            worker.body["metadata"]["annotations"]["imago.dev/template-checksum"]
            for worker in built(templates, **options)
        ]

    assert checksums() == checksums()
    assert checksums()[:3] == checksums(max_replicas=4)[:3], "a change of maxReplicas restarts no pods"
    assert not set(checksums()[3:]) & set(checksums(max_replicas=4)[3:])


def test_a_disabled_stage_has_no_template(tmp_path: Path) -> None:
    folder = write_templates(tmp_path / "templates")
    (folder / "vision.yaml").unlink()
    assert len(read_templates(folder)) == 4
    for path in folder.iterdir():
        path.unlink()
    with pytest.raises(TemplatesInvalid, match="no templates"):
        read_templates(folder)


@pytest.mark.parametrize("text", ["kind: [", "kind: Deployment\napiVersion: apps/v1", "kind: Secret\napiVersion: v1"])
def test_anything_but_a_deployment_and_a_scaled_object_is_rejected_with_the_name_of_the_file(
    tmp_path: Path, text: str
) -> None:
    folder = write_templates(tmp_path / "templates")
    (folder / "ocr.yaml").write_text(text)
    with pytest.raises(TemplatesInvalid, match=r"ocr\.yaml"):
        read_templates(folder)
