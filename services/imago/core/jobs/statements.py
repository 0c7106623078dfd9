"""The statements of a claim and of its end, which every stage of every image runs, for `claims` and `work`."""

from typing import Any

import sqlalchemy as sa

from imago.core.jobs.stages import ImageStatus, StageStatus
from imago.db.prepared import PreparedStatement
from imago.db.tables import image_stages, images, stage_results

STAGE = PreparedStatement(
    sa.select(image_stages).where(
        image_stages.c.image_id == sa.bindparam("of_image"), image_stages.c.stage == sa.bindparam("of_stage")
    )
)
CLAIM = PreparedStatement(
    sa.update(image_stages)
    .where(image_stages.c.image_id == sa.bindparam("of_image"), image_stages.c.stage == sa.bindparam("of_stage"))
    .values(
        status=StageStatus.RUNNING,
        due_at=None,
        **{name: sa.bindparam(name) for name in ("claim", "attempts", "lease_until", "started_at")},
    )
)
BEGIN_IMAGE = PreparedStatement(
    sa.update(images)
    .where(images.c.id == sa.bindparam("of_image"))
    .values(status=ImageStatus.PROCESSING, started_at=sa.bindparam("started_at"))
)
# A claim that is still its worker's; see `claims.mine`.
MINE = (
    image_stages.c.image_id == sa.bindparam("of_image"),
    image_stages.c.stage == sa.bindparam("of_stage"),
    image_stages.c.run == sa.bindparam("of_run"),
    image_stages.c.claim == sa.bindparam("of_claim"),
    image_stages.c.status == StageStatus.RUNNING,
)
# In the text, because a value of its own would not be part of what is kept of the statement.
_COMMA: Any = sa.literal_column("','")

_others = image_stages.alias("others")
EXTEND = PreparedStatement(sa.update(image_stages).where(*MINE).values(lease_until=sa.bindparam("lease_until")))
END = PreparedStatement(
    sa.update(image_stages)
    .where(*MINE)
    .values(
        status=StageStatus.DONE,
        done_at=sa.bindparam("done_at"),
        lease_until=None,
        error_code=None,
        error_text=None,
    )
    # With how the image's other stages stand, by commas.
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
STORE = PreparedStatement(
    sa.insert(stage_results), columns=("image_id", "stage", "run", "client_id", "data", "created_at")
)
