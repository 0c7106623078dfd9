"""Groups of ImageNet's 1000 classes, for tags that the classifier is confident about.

The classifier confuses a tabby with an Egyptian cat, but seldom a cat with a dog. So probabilities are summed over
groups: two cats of 0.3 and 0.4 make a cat of 0.7. Groups may contain each other (a cat is an animal). The class numbers
are those of ILSVRC 2012, in the order of all published weights.
"""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class ImageNetGroup:
    """A kind of object, its names in English and French, and its classes."""

    english: str
    french: str
    classes: frozenset[int]

    def name(self, language: str) -> str:
        """Return the group's name in French or English."""
        return self.french if language == "fr" else self.english


def _group(english: str, french: str, *parts: int | range | Iterable[int]) -> ImageNetGroup:
    classes: set[int] = set()
    for part in parts:
        classes.update([part] if isinstance(part, int) else part)
    return ImageNetGroup(english, french, frozenset(classes))


def _between(first: int, last: int) -> range:
    return range(first, last + 1)


GROUPS: tuple[ImageNetGroup, ...] = (
    _group("animal", "animal", _between(0, 397)),
    _group("fish", "poisson", _between(0, 6), _between(389, 397)),
    _group("bird", "oiseau", _between(7, 24), _between(80, 100), _between(127, 146)),
    _group("reptile", "reptile", _between(33, 68)),
    _group("amphibian", "amphibien", _between(25, 32)),
    _group("spider", "araignée", _between(72, 77)),
    _group("insect", "insecte", _between(300, 326)),
    _group("butterfly", "papillon", _between(321, 326)),
    _group("dog", "chien", _between(151, 268)),
    _group("cat", "chat", _between(281, 285)),
    _group("big cat", "félin", _between(286, 293)),
    _group("fox", "renard", _between(277, 280)),
    _group("bear", "ours", _between(294, 297)),
    _group("rabbit", "lapin", _between(330, 332)),
    _group("horse", "cheval", 339, 603),
    _group("monkey", "singe", _between(365, 384)),
    _group("elephant", "éléphant", 101, 385, 386),
    _group("sheep", "mouton", 348, 349),
    _group("cow", "vache", 345, 346, 690),
    _group(
        "vehicle",
        "véhicule",
        (403, 404, 405, 407, 408, 417, 436, 444, 450, 466, 468, 472, 484, 510, 511, 537, 547, 554, 555, 561, 565, 569),
        (573, 575, 576, 586, 595, 603, 609, 612, 621, 625, 627, 628, 654, 656, 660, 661, 665, 670, 671, 675, 690, 705),
        (717, 724, 734, 751, 757, 779, 780, 802, 803, 812, 814, 817, 820, 829, 833, 847, 856, 864, 866, 867, 870, 871),
        (874, 880, 895, 908, 913, 914),
    ),
    _group("car", "voiture", 407, 436, 468, 511, 609, 627, 656, 661, 717, 734, 751, 817, 581, 479, 475),
    _group("truck", "camion", 555, 569, 675, 717, 864, 867),
    _group("bus", "bus", 654, 779, 874),
    _group("train", "train", 466, 547, 565, 705, 820, 829),
    _group("bicycle", "vélo", 444, 671, 870, 880),
    _group("motorcycle", "moto", 665, 670),
    _group("aeroplane", "avion", 404, 895, 908),
    _group("boat", "bateau", 472, 484, 510, 554, 576, 625, 628, 724, 780, 814, 871, 913, 914, 536),
    _group("rocket", "fusée", 657, 744, 812),
    _group(
        "building",
        "bâtiment",
        (425, 437, 442, 449, 483, 497, 498, 500, 538, 580, 634, 663, 668, 698, 727, 743, 762, 832, 853, 858, 900, 915),
        (410, 415, 424, 454, 467, 509, 582, 624, 788, 860, 865, 873),
    ),
    _group("church", "église", 442, 497, 663),
    _group("castle", "château", 483, 698),
    _group("bridge", "pont", 821, 839, 888),
    _group("shop", "magasin", 415, 424, 454, 467, 509, 582, 788, 860, 865),
    _group("furniture", "meuble", 423, 453, 493, 495, 516, 520, 526, 532, 548, 553, 559, 564, 703, 765, 831, 857, 894),
    _group(
        "food",
        "nourriture",
        _between(924, 969),
        (504, 923, 809, 813, 521, 987, 947),
    ),
    _group("fruit", "fruit", _between(948, 957)),
    _group("vegetable", "légume", _between(936, 946)),
    _group("dessert", "dessert", 927, 928, 929, 960),
    _group("bread", "pain", 930, 931, 932, 961),
    _group("coffee", "café", 504, 505, 550, 967),
    _group("cup", "tasse", 504, 968, 967),
    _group("bottle", "bouteille", 440, 720, 737, 898, 907, 455),
    _group("flower", "fleur", 984, 985, 986, 989, 883, 738),
    _group("mushroom", "champignon", 947, 991, 992, 993, 994, 995, 996, 997),
    _group("landscape", "paysage", _between(970, 980)),
    _group("mountain", "montagne", 970, 979, 980, 972),
    _group("sea", "mer", 973, 975, 976, 977, 978, 460),
    _group("beach", "plage", 977, 978),
    _group("computer", "ordinateur", 508, 527, 590, 620, 664, 673, 681, 782, 810),
    _group("screen", "écran", 664, 782, 851, 916, 681, 620),
    _group("telephone", "téléphone", 487, 528, 707),
    _group("camera", "appareil photo", 732, 759, 622),
    _group("clock", "horloge", 409, 530, 531, 826, 892, 604, 835),
    _group(
        "musical instrument",
        "instrument de musique",
        (401, 402, 420, 432, 486, 513, 541, 546, 558, 566, 577, 579, 593, 594, 641, 642, 683, 684, 687, 699, 776, 822),
        (875, 881, 889),
    ),
    _group("ball", "ballon", 429, 430, 522, 574, 722, 768, 805, 852, 890),
    _group(
        "clothing",
        "vêtement",
        (399, 400, 411, 433, 445, 459, 474, 501, 568, 578, 601, 608, 610, 614, 617, 639, 652, 655, 689, 697, 735, 775),
        (834, 841, 842, 869, 906, 457, 451),
    ),
    _group("shoe", "chaussure", 502, 514, 630, 770, 774),
    _group("hat", "chapeau", 439, 452, 515, 808, 518, 560, 667),
    _group("document", "document", 549, 921, 922, 917, 918, 446, 916),
    _group("sign", "panneau", 919, 704, 781),
    _group("tool", "outil", 473, 477, 491, 512, 587, 596, 726, 740, 784, 792, 462, 845),
    _group("toy", "jouet", 850, 611, 719, 843),
)

# French names of single classes that are often photographed. For the other ones the group's name is used. Formatting
# would put each entry on its own line.
# fmt: off
FRENCH_CLASS_NAMES: dict[int, str] = {
    1: "poisson rouge", 2: "grand requin blanc", 7: "coq", 8: "poule", 9: "autruche", 15: "rouge-gorge", 18: "pie",
    22: "pygargue à tête blanche", 24: "chouette lapone", 99: "oie", 100: "cygne noir", 130: "flamant rose",
    145: "manchot", 107: "méduse", 113: "escargot", 207: "golden retriever", 208: "labrador",
    235: "berger allemand", 258: "samoyède", 269: "loup", 277: "renard roux", 281: "chat tigré",
    285: "mau égyptien", 288: "léopard", 291: "lion", 292: "tigre", 294: "ours brun", 296: "ours blanc",
    301: "coccinelle", 309: "abeille", 310: "fourmi", 323: "monarque", 333: "hamster", 335: "écureuil",
    340: "zèbre", 344: "hippopotame", 355: "lama", 366: "gorille", 388: "panda géant", 402: "guitare acoustique",
    404: "avion de ligne", 407: "ambulance", 417: "montgolfière", 425: "grange", 437: "phare",
    466: "train à grande vitesse", 468: "taxi", 470: "bougie", 483: "château", 487: "téléphone portable",
    497: "église", 504: "tasse à café", 508: "clavier", 511: "cabriolet", 546: "guitare électrique",
    555: "camion de pompiers", 562: "fontaine", 579: "piano à queue", 620: "ordinateur portable", 657: "missile",
    668: "mosquée", 671: "vtt", 672: "tente", 698: "palais", 703: "banc", 762: "restaurant", 779: "bus scolaire",
    780: "goélette", 812: "navette spatiale", 820: "locomotive à vapeur", 829: "tramway", 832: "stupa",
    839: "pont suspendu", 850: "ours en peluche", 852: "balle de tennis", 879: "parapluie", 883: "vase",
    889: "violon", 920: "feu de circulation", 922: "menu", 928: "glace", 930: "baguette", 933: "cheeseburger",
    934: "hot-dog", 937: "brocoli", 945: "poivron", 947: "champignon", 949: "fraise", 950: "orange", 951: "citron",
    953: "ananas", 954: "banane", 963: "pizza", 966: "vin rouge", 967: "expresso", 970: "montagne",
    973: "récif corallien", 974: "geyser", 975: "rive de lac", 978: "plage", 979: "vallée", 980: "volcan",
    985: "marguerite", 987: "maïs",
}
# fmt: on
