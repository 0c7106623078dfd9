"""The rules of the domain, one by one."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imago.core.clients import keys
from imago.core.clients.model import PLAN_LIMITS, Plan, Usage
from imago.core.clients.quotas import quota_exceeded
from imago.core.clients.scopes import tenant_scopes
from imago.core.errors import QuotaExceeded
from imago.core.images.model import clean_name, original_key, thumbnail_key
from imago.core.images.tags import normalize_tag, normalize_tags
from imago.core.images.text_folding import fold, query_words
from imago.core.jobs.failures import LONGEST_NAK, PermanentFailure, Throttled, TransientFailure, backoff
from imago.core.jobs.rules import (
    Die,
    Drop,
    GiveUp,
    Park,
    RetryInStream,
    StageState,
    Start,
    Wait,
    decide_claim,
    decide_failure,
)
from imago.core.jobs.stages import ImageStatus, Stage, StageStatus, image_status, planned_stages
from imago.core.lanes.chooser import LaneChooser
from imago.core.lanes.model import WorkerLanes, lane_label, lane_of_stream, valid_lane, work_stream, work_subject
from imago.core.outbox.work_message import BadMessage, WorkMessage

NOW = datetime(2026, 1, 1, tzinfo=UTC)
D, P, R, X, S = StageStatus.DONE, StageStatus.PENDING, StageStatus.RUNNING, StageStatus.DEAD, StageStatus.SKIPPED


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        ([P, P, P, P], ImageStatus.PENDING),
        ([P, P, S, S], ImageStatus.PENDING),
        ([R, P, P, P], ImageStatus.PROCESSING),
        ([D, D, D, StageStatus.RETRYING], ImageStatus.PROCESSING),
        ([D, D, D, D], ImageStatus.DONE),
        ([D, S, S, S], ImageStatus.DONE),
        ([D, X, D, S], ImageStatus.PARTIAL),
        ([X, X, X, X], ImageStatus.FAILED),
        ([X, S, S, S], ImageStatus.FAILED),
        ([X, X, P, X], ImageStatus.PROCESSING),
    ],
)
def test_an_images_status_follows_from_its_stages(statuses: list[StageStatus], expected: ImageStatus) -> None:
    assert image_status(statuses) is expected


def test_the_thumbnail_always_runs_and_disabled_stages_are_skipped() -> None:
    planned = planned_stages([Stage.OCR, Stage.VISION], disabled=[Stage.OCR])
    assert planned == {Stage.THUMBNAIL: P, Stage.EXIF: S, Stage.OCR: S, Stage.VISION: P}


def _state(status: StageStatus, *, run: int = 1, attempts: int = 0, lease: int | None = None, due: int | None = None):
    moment = lambda seconds: None if seconds is None else NOW + timedelta(seconds=seconds)
    return StageState(status, run, attempts, moment(lease), moment(due))


@pytest.mark.parametrize(
    ("state", "run", "expected"),
    [
        (_state(P), 1, Start()),
        (_state(P, run=2), 1, Drop("another run")),
        (_state(D), 1, Drop("ended")),
        (_state(X), 1, Drop("ended")),
        (_state(R, attempts=1, lease=7), 1, Wait(timedelta(seconds=7))),
        (_state(R, attempts=1, lease=-1), 1, Start()),
        (_state(StageStatus.RETRYING, attempts=1, due=9), 1, Wait(timedelta(seconds=9))),
        (_state(StageStatus.RETRYING, attempts=1, due=90), 1, Drop("parked")),
        (_state(StageStatus.RETRYING, attempts=1, due=-1), 1, Start()),
        (_state(R, attempts=3, lease=-1), 1, GiveUp()),
    ],
)
def test_a_worker_starts_waits_drops_or_gives_up(state: StageState, run: int, expected: object) -> None:
    assert decide_claim(state, run=run, now=NOW, max_tries=3) == expected


def _decide(failure, attempts: int):
    base, cap = timedelta(seconds=1), timedelta(seconds=300)
    return decide_failure(failure, attempts=attempts, max_tries=3, base=base, cap=cap)


def test_a_permanent_failure_dies_at_its_first_try() -> None:
    assert _decide(PermanentFailure("a", "b"), 1) == Die()


def test_a_transient_failure_dies_with_its_last_try_and_not_before() -> None:
    assert isinstance(_decide(TransientFailure("a", "b"), 2), RetryInStream | Park)
    assert _decide(TransientFailure("a", "b"), 3) == Die()


def test_a_throttled_try_is_parked_for_the_providers_delay_and_not_counted() -> None:
    delay = timedelta(seconds=2)
    assert _decide(Throttled("a", "b", delay), 3) == Park(delay, counted=False)


def test_a_wait_longer_than_a_nak_may_last_goes_to_the_outbox() -> None:
    long = timedelta(hours=10)
    decisions = {
        type(decide_failure(TransientFailure("a", "b"), attempts=9, max_tries=99, base=long, cap=long))
        for _ in range(50)
    }
    assert Park in decisions


@given(st.integers(1, 100))
def test_backoff_grows_to_its_cap_and_never_beyond(attempt: int) -> None:
    cap = timedelta(seconds=60)
    delay = backoff(attempt, base=timedelta(seconds=2), cap=cap)
    assert timedelta(0) <= delay <= min(cap, timedelta(seconds=2) * 2 ** min(attempt - 1, 32))


def test_the_longest_nak_is_the_thirty_seconds_of_the_design() -> None:
    assert timedelta(seconds=30) == LONGEST_NAK


def test_premium_comes_first_and_standard_gets_one_choice_in_eight() -> None:
    chooser = LaneChooser()
    choices = [chooser.choose(["standard", "premium"]) for _ in range(80)]
    assert choices.count("standard") == 10
    assert choices[:7] == ["premium"] * 7


def test_a_clients_own_lane_shares_with_premium_and_nobody_starves() -> None:
    chooser, own = LaneChooser(), uuid4().hex
    choices = [chooser.choose(["standard", "premium", own]) for _ in range(80)]
    assert {lane: choices.count(lane) for lane in ("standard", "premium", own)} == {
        "standard": 10,
        "premium": 35,
        own: 35,
    }


def test_lanes_name_their_streams_and_back() -> None:
    own = uuid4().hex
    for lane in ("standard", "premium", own):
        assert lane_of_stream(work_stream(lane)) == lane
        assert valid_lane(lane)
    assert work_stream("premium") == "IMAGO_WORK_PREMIUM"
    assert lane_of_stream("OTHER") is None
    assert lane_of_stream("IMAGO_WORK_nonsense") is None
    assert lane_label(own) == "dedicated"


def test_work_subjects_hold_lane_stage_and_client() -> None:
    client = uuid4()
    assert work_subject("standard", Stage.OCR, client) == f"imago.work.standard.ocr.{client.hex}"


def test_worker_lanes_are_read_in_order_and_typos_refused() -> None:
    lanes = WorkerLanes.parse("premium, standard,*")
    assert (lanes.named, lanes.any_dedicated) == (("premium", "standard"), True)
    for wrong in ("premum", "", "standard,>"):
        with pytest.raises(ValueError):
            WorkerLanes.parse(wrong)


def test_a_key_is_read_back_and_every_typo_is_refused() -> None:
    key = keys.generate()
    text = key.reveal()
    assert keys.parse(text) == key
    for index in range(len(text)):
        wrong = text[:index] + ("x" if text[index] != "x" else "y") + text[index + 1 :]
        assert keys.parse(wrong) is None, f"a typo at {index} went unnoticed"


def test_a_key_shows_its_secret_nowhere_but_where_it_is_revealed() -> None:
    key = keys.generate()
    assert key.secret not in repr(key)
    assert key.secret not in str([key])


@given(st.text(max_size=200))
def test_no_text_breaks_the_reading_of_keys(text: str) -> None:
    assert keys.parse(text) is None


def test_a_work_message_is_read_back() -> None:
    message = WorkMessage(uuid4(), uuid4(), Stage.OCR, 2, 3)
    assert WorkMessage.from_json(message.to_json()) == message
    assert message.message_id == f"{message.image}:ocr:2:3"


@pytest.mark.parametrize("payload", [None, [], {}, {"v": 2}, {"v": 1, "image": 3}, {"v": 1, "image": "x"}])
def test_a_message_of_another_form_is_refused(payload: object) -> None:
    with pytest.raises(BadMessage):
        WorkMessage.from_json(payload)


@pytest.mark.parametrize(
    ("given_name", "kept"),
    [
        ("photo.jpg", "photo.jpg"),
        ("../../etc/passwd", "passwd"),
        ("C:\\dir\\a.png", "a.png"),
        ("a\r\nSet-Cookie: x.jpg", "aSet-Cookie: x.jpg"),
        ("\0\x1b[31m.gif", "[31m.gif"),
        ("", "image"),
        (None, "image"),
        ("e\u0301te\u0301.jpg", "été.jpg"),
        ("x" * 999, "x" * 255),
    ],
)
def test_a_name_is_kept_without_what_could_hurt(given_name: str | None, kept: str) -> None:
    assert clean_name(given_name) == kept


def test_object_keys_hold_uuids_alone() -> None:
    client, image = uuid4(), uuid4()
    assert original_key("", client, image) == f"{client}/{image}/original"
    assert thumbnail_key("/pre/fix/", client, image) == f"pre/fix/{client}/{image}/thumbnail"


def test_tags_are_folded_deduplicated_and_bounded() -> None:
    assert normalize_tags(["Chat", " chat ", "E\u0301TE\u0301", "", "\0"]) == ("chat", "été")
    assert len(normalize_tags([f"t{index}" for index in range(999)])) == 64
    assert len(normalize_tag("x" * 999)) == 64


def test_search_folds_accents_case_and_punctuation_alike_in_texts_and_queries() -> None:
    assert fold("L'Été à Noël — Œuvre_1.JPG") == "l ete a noel œuvre 1 jpg"
    assert query_words('"été" OR (noël*) NEAR & | !') == ("ete", "or", "noel", "near")


def test_a_client_cant_hold_the_platforms_scopes() -> None:
    for scope in ("admin", "clients:manage", "nonsense"):
        with pytest.raises(ValueError):
            tenant_scopes(["images:read", scope])


def test_the_plans_have_the_limits_of_the_design() -> None:
    free, premium = PLAN_LIMITS[Plan.FREE], PLAN_LIMITS[Plan.PREMIUM]
    assert (free.requests_per_minute, free.burst, free.storage_bytes, free.images) == (60, 20, 2**30, 1000)
    assert (premium.requests_per_minute, premium.burst, premium.storage_bytes) == (6000, 1000, 2**40)


def test_a_quota_refusal_tells_the_numbers() -> None:
    problem = quota_exceeded(Usage(100, 3), PLAN_LIMITS[Plan.FREE], needed_bytes=7)
    assert isinstance(problem, QuotaExceeded)
    assert problem.extra["storage_used_bytes"] == 100
    assert problem.extra["needed_bytes"] == 7
