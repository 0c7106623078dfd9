"""Photos of installed packages and images of nothing, with what is true of them."""

from pathlib import Path
from typing import Any

from devtools.photos import ASTRONAUT, CAT, COFFEE, FLOWER, ROCKET, SKIMAGE

# What the photos show, as names of objects.
PHOTOS: dict[Path, list[str]] = {
    CAT: ["cat"],
    COFFEE: ["cup", "spoon"],
    ASTRONAUT: ["person"],
    ROCKET: ["rocket"],
    FLOWER: ["flower"],
    SKIMAGE / "motorcycle_left.png": ["motorcycle"],
    SKIMAGE / "camera.png": ["person", "camera"],
}

# Textures, a chessboard and stars.
NOTHING = tuple(
    SKIMAGE / name
    for name in ("brick.png", "grass.png", "gravel.png", "chessboard_RGB.png", "hubble_deep_field.jpg", "color.png")
)

NAMES: dict[str, dict[str, list[str]]] = {
    "cat": {"same": ["chat", "tabby", "tabby cat", "chat tigré", "egyptian cat"], "kinds": ["animal"]},
    "cup": {
        "same": ["tasse", "espresso", "coffee mug", "mug", "mug à café", "expresso"],
        "kinds": ["drink", "boisson", "tableware", "vaisselle", "food", "nourriture"],
    },
    "spoon": {"same": ["cuillère", "wooden spoon", "ladle"], "kinds": ["cutlery", "couverts"]},
    "person": {"same": ["personne", "people", "personnes", "a person", "une personne"], "kinds": []},
    "rocket": {"same": ["fusée", "missile"], "kinds": ["vehicle", "véhicule"]},
    "flower": {"same": ["fleur", "daisy", "marguerite", "dahlia"], "kinds": ["plant", "plante"]},
    "motorcycle": {"same": ["moto", "motorbike", "motor scooter", "moped"], "kinds": ["vehicle", "véhicule"]},
    "camera": {"same": ["appareil photo", "tripod", "trépied", "reflex camera"], "kinds": []},
}

# Natural queries and the objects whose photos they should find; nonsense should find nothing.
QUERIES: tuple[tuple[str, str, str], ...] = (
    ("cat", "en", "cat"),
    ("chat", "fr", "cat"),
    ("matou", "fr", "cat"),
    ("kitten", "en", "cat"),
    ("café", "fr", "cup"),
    ("hot drink", "en", "cup"),
    ("une personne", "fr", "person"),
    ("someone smiling", "en", "person"),
    ("fusée", "fr", "rocket"),
    ("space launch", "en", "rocket"),
    ("fleurs", "fr", "flower"),
    ("flower", "en", "flower"),
    ("moto", "fr", "motorcycle"),
    ("motorbike", "en", "motorcycle"),
)
NONSENSE = ("xqzvbw", "flimzorb grunk", "trucmuchon bidulette", "qwertyuiop", "zzzzzz", "0x7f3a9c", "blorptastic")

# Name, latitude, longitude, names that are right, country.
PLACES: tuple[tuple[str, float, float, list[str], str], ...] = (
    ("eiffel", 48.8584, 2.2945, ["Paris"], "FR"),
    ("bellecour", 45.7578, 4.8320, ["Lyon"], "FR"),
    ("papeete", -17.5380, -149.5680, ["Papeete"], "PF"),
    ("bruges", 51.2083, 3.2247, ["Brugge", "Bruges"], "BE"),
    ("colosseum", 41.8902, 12.4922, ["Roma", "Rome"], "IT"),
    ("cn-tower", 43.6426, -79.3871, ["Toronto"], "CA"),
    ("opera", -33.8568, 151.2153, ["Sydney"], "AU"),
    ("agra", 27.1751, 78.0421, ["Agra", "Tajganj"], "IN"),
)


def described(names: list[str]) -> dict[str, Any]:
    """Return the labels of a photo of objects."""
    return {"kind": "photo" if names else "nothing", "objects": [{"name": name} for name in names]}
