"""Groups of ImageNet's 1000 classes, for tags that the classifier is confident about.

The classifier confuses a tabby with an Egyptian cat, but seldom a cat with a dog. So probabilities are summed over
groups: two cats of 0.3 and 0.4 make a cat of 0.7. Groups may contain each other (a cat is an animal). The class numbers
are those of ILSVRC 2012, in the order of all published weights.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from imago.core.images.recognition.concepts import FIRST_GROUP, vocabulary

_IDS = {concept.english: concept.id for concept in vocabulary().values() if concept.id >= FIRST_GROUP}


@dataclass(frozen=True)
class ImageNetGroup:
    """A group's concept and its classes."""

    concept: int
    classes: frozenset[int]


def _group(english: str, *parts: int | range | Iterable[int]) -> ImageNetGroup:
    classes: set[int] = set()
    for part in parts:
        classes.update([part] if isinstance(part, int) else part)
    return ImageNetGroup(_IDS[english], frozenset(classes))


def _between(first: int, last: int) -> range:
    return range(first, last + 1)


GROUPS: tuple[ImageNetGroup, ...] = (
    _group("animal", _between(0, 397)),
    _group("fish", _between(0, 6), _between(389, 397)),
    _group("bird", _between(7, 24), _between(80, 100), _between(127, 146)),
    _group("reptile", _between(33, 68)),
    _group("amphibian", _between(25, 32)),
    _group("spider", _between(72, 77)),
    _group("insect", _between(300, 326)),
    _group("butterfly", _between(321, 326)),
    _group("dog", _between(151, 268)),
    _group("cat", _between(281, 285)),
    _group("big cat", _between(286, 293)),
    _group("fox", _between(277, 280)),
    _group("bear", _between(294, 297)),
    _group("rabbit", _between(330, 332)),
    _group("horse", 339, 603),
    _group("monkey", _between(365, 384)),
    _group("elephant", 101, 385, 386),
    _group("sheep", 348, 349),
    _group("cow", 345, 346, 690),
    _group(
        "vehicle",
        (403, 404, 405, 407, 408, 417, 436, 444, 450, 466, 468, 472, 484, 510, 511, 537, 547, 554, 555, 561, 565, 569),
        (573, 575, 576, 586, 595, 603, 609, 612, 621, 625, 627, 628, 654, 656, 660, 661, 665, 670, 671, 675, 690, 705),
        (717, 724, 734, 751, 757, 779, 780, 802, 803, 812, 814, 817, 820, 829, 833, 847, 856, 864, 866, 867, 870, 871),
        (874, 880, 895, 908, 913, 914),
    ),
    _group("car", 407, 436, 468, 511, 609, 627, 656, 661, 717, 734, 751, 817, 581, 479, 475),
    _group("truck", 555, 569, 675, 717, 864, 867),
    _group("bus", 654, 779, 874),
    _group("train", 466, 547, 565, 705, 820, 829),
    _group("bicycle", 444, 671, 870, 880),
    _group("motorcycle", 665, 670),
    _group("airplane", 404, 895, 908),
    _group("boat", 472, 484, 510, 554, 576, 625, 628, 724, 780, 814, 871, 913, 914, 536),
    _group("rocket", 657, 744, 812),
    _group(
        "building",
        (425, 437, 442, 449, 483, 497, 498, 500, 538, 580, 634, 663, 668, 698, 727, 743, 762, 832, 853, 858, 900, 915),
        (410, 415, 424, 454, 467, 509, 582, 624, 788, 860, 865, 873),
    ),
    _group("church", 442, 497, 663),
    _group("castle", 483, 698),
    _group("bridge", 821, 839, 888),
    _group("shop", 415, 424, 454, 467, 509, 582, 788, 860, 865),
    _group("furniture", 423, 453, 493, 495, 516, 520, 526, 532, 548, 553, 559, 564, 703, 765, 831, 857, 894),
    _group(
        "food",
        _between(924, 969),
        (504, 923, 809, 813, 521, 987, 947),
    ),
    _group("fruit", _between(948, 957)),
    _group("vegetable", _between(936, 946)),
    _group("dessert", 927, 928, 929, 960),
    _group("bread", 930, 931, 932, 961),
    _group("coffee", 504, 505, 550, 967),
    _group("cup", 504, 968, 967),
    _group("bottle", 440, 720, 737, 898, 907, 455),
    _group("flower", 984, 985, 986, 989, 883, 738),
    _group("mushroom", 947, 991, 992, 993, 994, 995, 996, 997),
    _group("landscape", _between(970, 980)),
    _group("mountain", 970, 979, 980, 972),
    _group("sea", 973, 975, 976, 977, 978, 460),
    _group("beach", 977, 978),
    _group("computer", 508, 527, 590, 620, 664, 673, 681, 782, 810),
    _group("screen", 664, 782, 851, 916, 681, 620),
    _group("telephone", 487, 528, 707),
    _group("camera", 732, 759, 622),
    _group("clock", 409, 530, 531, 826, 892, 604, 835),
    _group(
        "musical instrument",
        (401, 402, 420, 432, 486, 513, 541, 546, 558, 566, 577, 579, 593, 594, 641, 642, 683, 684, 687, 699, 776, 822),
        (875, 881, 889),
    ),
    _group("ball", 429, 430, 522, 574, 722, 768, 805, 852, 890),
    _group(
        "clothing",
        (399, 400, 411, 433, 445, 459, 474, 501, 568, 578, 601, 608, 610, 614, 617, 639, 652, 655, 689, 697, 735, 775),
        (834, 841, 842, 869, 906, 457, 451),
    ),
    _group("shoe", 502, 514, 630, 770, 774),
    _group("hat", 439, 452, 515, 808, 518, 560, 667),
    _group("document", 549, 921, 922, 917, 918, 446, 916),
    _group("sign", 919, 704, 781),
    _group("tool", 473, 477, 491, 512, 587, 596, 726, 740, 784, 792, 462, 845),
    _group("toy", 850, 611, 719, 843),
)
