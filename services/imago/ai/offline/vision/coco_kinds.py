"""Which classes of ImageNet are of the same kind as the detector's kinds of objects."""

from collections.abc import Mapping

from imago.ai.offline.vision.imagenet_groups import GROUPS
from imago.core.images.recognition.concepts import KINDS, vocabulary

_GROUPS = {vocabulary()[group.concept].english: group.classes for group in GROUPS}
_NAMES = {vocabulary()[kind].english: kind for kind in KINDS}

_CLASSES = {
    "person": (981, 982, 983),
    "traffic light": (920,),
    "parking meter": (704,),
    "bench": (703,),
    "dog": (269, 270, 271, 272, 273, 274, 275),
    "cow": (347,),
    "sheep": (350,),
    "zebra": (340,),
    "backpack": (414,),
    "umbrella": (879,),
    "handbag": (636, 748),
    "tie": (457, 906),
    "skis": (795,),
    "tennis racket": (752,),
    "wine glass": (572,),
    "spoon": (910,),
    "bowl": (659, 809),
    "banana": (954,),
    "apple": (948,),
    "orange": (950,),
    "broccoli": (937,),
    "hot dog": (934,),
    "pizza": (963,),
    "chair": (423, 559, 765),
    "couch": (831,),
    "potted plant": (738,),
    "bed": (520, 564),
    "table": (526, 532),
    "toilet": (861,),
    "television": (664, 782, 851),
    "laptop": (620, 681),
    "computer mouse": (673,),
    "remote control": (761,),
    "keyboard": (508,),
    "mobile phone": (487,),
    "microwave oven": (651,),
    "oven": (827,),
    "toaster": (859,),
    "sink": (896,),
    "refrigerator": (760,),
    "vase": (883,),
    "teddy bear": (850,),
    "hair dryer": (589,),
}
_SAME_GROUP = {
    **{name: name for name in ("bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat")},
    **{name: name for name in ("bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear")},
    **{name: name for name in ("bottle", "cup", "clock")},
    "sports ball": "ball",
}

CLASSES_OF_KINDS: Mapping[int, frozenset[int]] = {
    kind: frozenset(_CLASSES.get(name, ())) | _GROUPS.get(_SAME_GROUP.get(name, ""), frozenset())
    for name, kind in _NAMES.items()
}

# Kinds that are seldom both in a picture, so that the detector and the classifier contradict each other.
ANIMAL_KINDS = frozenset(range(_NAMES["bird"], _NAMES["giraffe"] + 1))
VEHICLE_KINDS = frozenset(range(_NAMES["bicycle"], _NAMES["boat"] + 1))

# What is never without a person.
SPORTS_KINDS = frozenset(
    _NAMES[name]
    for name in (
        "skis",
        "snowboard",
        "skateboard",
        "surfboard",
        "tennis racket",
        "baseball bat",
        "baseball glove",
        "tie",
    )
)
# Kinds that the detector takes for each other or for something else more often than the others.
CONFUSED_KINDS = frozenset(
    _NAMES[name] for name in ("bicycle", "bus", "truck", "boat", "bottle", "cup", "bowl", "table", "oven", "teddy bear")
)

_GROUP_OF = {
    **dict.fromkeys(ANIMAL_KINDS, "animal"),
    **dict.fromkeys(VEHICLE_KINDS, "vehicle"),
    **{_NAMES[name]: "food" for name in ("sandwich", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake")},
    **{_NAMES[name]: "fruit" for name in ("banana", "apple", "orange")},
    **{_NAMES[name]: "furniture" for name in ("chair", "couch", "bed", "table")},
}
GROUPS_OF_KINDS: Mapping[int, int] = {
    kind: next(each.concept for each in GROUPS if vocabulary()[each.concept].english == group)
    for kind, group in _GROUP_OF.items()
}
