"""Work messages, and the names of streams and subjects."""

from uuid import uuid4

import pytest

from imago.core.jobs.stages import Stage
from imago.core.outbox.subjects import lane_of_stream, work_stream, work_subject
from imago.core.outbox.work_message import BadMessage, WorkMessage


def test_a_lane_can_be_recovered_from_the_name_of_its_stream() -> None:
    for lane in ("standard", "premium", uuid4().hex):
        assert lane_of_stream(work_stream(lane)) == lane
    assert work_stream("premium") == "IMAGO_WORK_PREMIUM"
    assert lane_of_stream("OTHER") is None
    assert lane_of_stream("IMAGO_WORK_nonsense") is None


def test_work_subjects_contain_lane_stage_and_client() -> None:
    client = uuid4()
    assert work_subject("standard", Stage.OCR, client) == f"imago.work.standard.ocr.{client.hex}"


def test_a_work_message_survives_serialization() -> None:
    message = WorkMessage(uuid4(), uuid4(), Stage.OCR, 2, 3)
    assert WorkMessage.from_json(message.to_json()) == message
    assert message.message_id == f"{message.image}:ocr:2:3"


@pytest.mark.parametrize("payload", [None, [], {}, {"v": 2}, {"v": 1, "image": 3}, {"v": 1, "image": "x"}])
def test_a_malformed_work_message_is_rejected(payload: object) -> None:
    with pytest.raises(BadMessage):
        WorkMessage.from_json(payload)
