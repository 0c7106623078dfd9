"""Names of countries, and countries by what people write."""

import pytest

from imago.core.images.lists import countries
from imago.core.images.lists.countries import country_name, country_names, find_country, load_countries


def test_a_country_has_a_name_in_both_languages() -> None:
    assert country_names("DE") == ("Germany", "Allemagne")
    assert country_name("DE", "fr") == "Allemagne"
    assert country_name("DE", "ja") == "Germany"
    assert country_name("XX", "en") == "XX"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        *(("FR", "FR"), ("fr", "FR"), ("FRA", "FR"), ("France", "FR"), ("  france ", "FR"), ("Allemagne", "DE")),
        *(("germany", "DE"), ("Etats-Unis", "US"), ("États-Unis", "US"), ("united states", "US"), ("USA", "US")),
        *(("UK", "GB"), ("Royaume-Uni", "GB"), ("Côte d’Ivoire", "CI"), ("cote d'ivoire", "CI"), ("Re", "RE")),
        *(
            ("Turkey", "TR"),
            ("Czech Republic", "CZ"),
            ("République tchèque", "CZ"),
            ("Hong Kong", "HK"),
            ("Birmanie", "MM"),
        ),
    ],
)
def test_a_country_is_found_by_its_code_and_its_names(text: str, code: str) -> None:
    assert find_country(text) == code


@pytest.mark.parametrize(
    "text", ["", " ", "EU", "ZZ", "Région indéterminée", "Atlantis", "F", "FRANCEE", "001", "\0", "%"]
)
def test_anything_else_is_no_country(text: str) -> None:
    assert find_country(text) is None


def test_loaded_countries_are_found_without_reading_their_names_again(monkeypatch: pytest.MonkeyPatch) -> None:
    load_countries()
    monkeypatch.setattr(countries, "Locale", None)
    assert find_country("Allemagne") == "DE"
