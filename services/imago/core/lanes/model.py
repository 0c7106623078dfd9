"""Lanes: the queue priorities of work."""

from uuid import UUID

STANDARD = "standard"
PREMIUM = "premium"
SHARED_LANES: tuple[str, ...] = (PREMIUM, STANDARD)

# Requests a dedicated lane for a client; the lane itself is named by `client_token`.
DEDICATED = "dedicated"


def client_token(client: UUID) -> str:
    """Return a client's uuid without dashes: the name of its dedicated lane, and a token in subjects."""
    return client.hex


def is_dedicated(lane: str) -> bool:
    """Return whether the lane is dedicated to one client."""
    return lane not in SHARED_LANES


def lane_label(lane: str) -> str:
    """Return the lane as a metric label; dedicated lanes share one label, which bounds the number of series."""
    return DEDICATED if is_dedicated(lane) else lane


def is_lane(name: str) -> bool:
    """Return whether the name is a shared lane or a client's uuid without dashes."""
    if name in SHARED_LANES:
        return True
    try:
        return UUID(hex=name).hex == name
    except ValueError:
        return False


def resolve_lane(choice: str, *, plan_lane: str, client: UUID) -> str:
    """Return the lane for a choice: `dedicated` is the client's own lane, the empty string the lane of its plan.

    Raises ValueError for any other name, including another client's dedicated lane.
    """
    own = client_token(client)
    lanes = {"": plan_lane, DEDICATED: own, own: own, STANDARD: STANDARD, PREMIUM: PREMIUM}
    if choice not in lanes:
        raise ValueError(f"not a lane of this client: {choice!r}")
    return lanes[choice]
