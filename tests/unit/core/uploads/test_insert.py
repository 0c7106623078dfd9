"""The combined charge of a batch of uploads."""

from hypothesis import given
from hypothesis import strategies as st

from imago.core.uploads.insert import Charge, combined_charge

SMALL = st.integers(0, 20)


@given(used_bytes=SMALL, used_images=SMALL, charges=st.lists(st.builds(Charge, SMALL, SMALL, SMALL, SMALL), min_size=1))
def test_a_combined_charge_fits_exactly_if_its_charges_fit_one_after_the_other(
    used_bytes: int, used_images: int, charges: list[Charge]
) -> None:
    combined = combined_charge(charges)
    fits = used_bytes <= combined["max_used_bytes"] and used_images <= combined["max_used_images"]

    one_by_one, storage_bytes, images = True, used_bytes, used_images
    for charge in charges:
        one_by_one &= storage_bytes + charge.size_bytes <= charge.max_bytes and images + 1 <= charge.max_images
        storage_bytes, images = storage_bytes + charge.added_bytes, images + 1

    assert fits == one_by_one
    assert (used_bytes + combined["added_bytes"], used_images + combined["added_images"]) == (storage_bytes, images)
