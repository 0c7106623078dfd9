"""Workers of a client's own lane, from templates."""

from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import yaml

from imago_operator.resource import Ref
from imago_operator.workers import DEPLOYMENT, SCALED_OBJECT, TemplatesInvalid, build_workers, read_templates
from tests.support.operator import write_templates

CLIENT = UUID("6f1c0b9e-3f3c-4e2e-9d57-0b1f6a2c7d11")
REF = Ref("photos", "atelier", "uid")


@pytest.fixture
def templates(tmp_path: Path) -> tuple[dict[str, Any], ...]:
    """Templates of the form that the chart renders."""
    return read_templates(write_templates(tmp_path / "templates"))


def built(templates: Any, *, max_replicas: int = 3) -> Any:
    return build_workers(templates, REF, client=CLIENT, max_replicas=max_replicas, namespace="imago")


def test_deployments_come_before_what_scales_them(templates: Any) -> None:
    assert [worker.kind for worker in built(templates)] == [DEPLOYMENT] * 3 + [SCALED_OBJECT] * 3


def test_placeholders_are_filled_wherever_they_stand_and_numbers_are_numbers(templates: Any) -> None:
    workers = built(templates)
    assert "$(" not in yaml.safe_dump([worker.body for worker in workers])
    assert {worker.name for worker in workers} == {
        f"imago-worker-{kind}-6f1c0b9e3f3c4e2e" for kind in ("exif", "ocr", "vision")
    }
    scaled = workers[-1].body["spec"]
    assert scaled["maxReplicaCount"] == 3
    assert scaled["triggers"][0]["metadata"]["stream"] == f"IMAGO_WORK_{CLIENT.hex}"


def test_labels_tell_whose_they_are_on_objects_and_pods_and_not_in_selectors(templates: Any) -> None:
    for worker in built(templates):
        labels = worker.body["metadata"]["labels"]
        assert labels["imago.dev/client-id"] == str(CLIENT)
        assert (labels["imago.dev/client-namespace"], labels["imago.dev/client-name"]) == ("photos", "atelier")
        assert worker.body["metadata"]["namespace"] == "imago"
        if worker.kind is DEPLOYMENT:
            spec = worker.body["spec"]
            assert spec["template"]["metadata"]["labels"]["imago.dev/client-id"] == str(CLIENT)
            assert "imago.dev/client-id" not in spec["selector"]["matchLabels"], "a selector can never be changed"


def test_the_checksum_changes_with_what_is_built_and_not_by_itself(templates: Any) -> None:
    def checksums(**options: Any) -> list[str]:
        return [
            worker.body["metadata"]["annotations"]["imago.dev/template-checksum"]
            for worker in built(templates, **options)
        ]

    assert checksums() == checksums()
    assert checksums()[:3] == checksums(max_replicas=4)[:3], "pods aren't rolled for another number of them"
    assert not set(checksums()[3:]) & set(checksums(max_replicas=4)[3:])


def test_a_kind_that_the_release_has_switched_off_has_no_template(tmp_path: Path) -> None:
    folder = write_templates(tmp_path / "templates")
    (folder / "vision.yaml").unlink()
    assert len(read_templates(folder)) == 4
    for path in folder.iterdir():
        path.unlink()
    with pytest.raises(TemplatesInvalid, match="no templates"):
        read_templates(folder)


@pytest.mark.parametrize("text", ["kind: [", "kind: Deployment\napiVersion: apps/v1", "kind: Secret\napiVersion: v1"])
def test_what_is_no_pair_of_worker_and_scaler_is_refused_with_the_files_name(tmp_path: Path, text: str) -> None:
    folder = write_templates(tmp_path / "templates")
    (folder / "ocr.yaml").write_text(text)
    with pytest.raises(TemplatesInvalid, match=r"ocr\.yaml"):
        read_templates(folder)
