"""The prepared statements of claims and completions, which run for every stage of every image."""

from typing import Any

import sqlalchemy as sa

from imago.core.jobs.stages import ImageStatus, StageStatus
from imago.db.prepared import PreparedStatement
from imago.db.tables import image_stages, images, stage_results

# A stage whose claim is still valid; `claims.claim_values` returns the values.
CLAIM_IS_VALID = (
    image_stages.c.image_id == sa.bindparam("of_image"),
    image_stages.c.stage == sa.bindparam("of_stage"),
    image_stages.c.run == sa.bindparam("of_run"),
    image_stages.c.claim == sa.bindparam("of_claim"),
    image_stages.c.status == StageStatus.RUNNING,
)
# A literal in the text: the text of a prepared statement must not depend on a bound value.
_COMMA: Any = sa.literal_column("','")
_others = image_stages.alias("others")

SELECT_CLAIMED_STAGE = PreparedStatement(sa.select(image_stages).where(*CLAIM_IS_VALID))
CLAIM_STAGE = PreparedStatement(
    sa.update(image_stages)
    .where(image_stages.c.image_id == sa.bindparam("of_image"), image_stages.c.stage == sa.bindparam("of_stage"))
    .values(
        status=StageStatus.RUNNING,
        due_at=None,
        **{name: sa.bindparam(name) for name in ("claim", "attempts", "lease_until", "started_at")},
    )
)
START_IMAGE = PreparedStatement(
    sa.update(images)
    .where(images.c.id == sa.bindparam("of_image"))
    .values(status=ImageStatus.PROCESSING, started_at=sa.bindparam("started_at"))
)
EXTEND_CLAIM = PreparedStatement(
    sa.update(image_stages).where(*CLAIM_IS_VALID).values(lease_until=sa.bindparam("lease_until"))
)
# Returns the statuses of the image's other stages, separated by commas.
END_STAGE = PreparedStatement(
    sa.update(image_stages)
    .where(*CLAIM_IS_VALID)
    .values(
        status=StageStatus.DONE,
        done_at=sa.bindparam("done_at"),
        lease_until=None,
        error_code=None,
        error_text=None,
    )
    .returning(
        image_stages.c.image_id,
        image_stages.c.stage,
        image_stages.c.claim,
        sa.select(sa.func.aggregate_strings(_others.c.status, _COMMA))
        .where(_others.c.image_id == sa.bindparam("of_image"), _others.c.stage != sa.bindparam("of_stage"))
        .scalar_subquery()
        .label("others"),
    )
)
INSERT_RESULT = PreparedStatement(
    sa.insert(stage_results), columns=("image_id", "stage", "run", "client_id", "data", "words", "created_at")
)
