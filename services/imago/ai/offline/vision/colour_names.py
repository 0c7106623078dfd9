"""The names of colours."""

FRENCH = {
    "black": "noir",
    "white": "blanc",
    "gray": "gris",
    "red": "rouge",
    "orange": "orange",
    "brown": "marron",
    "beige": "beige",
    "yellow": "jaune",
    "green": "vert",
    "turquoise": "turquoise",
    "blue": "bleu",
    "purple": "violet",
    "pink": "rose",
    "black and white": "noir et blanc",
}
