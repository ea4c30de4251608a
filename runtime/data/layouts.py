"""Sets of joints: names, which ones a mirror swaps, how they are linked, and how far apart people place them."""

from __future__ import annotations

from dataclasses import dataclass

COCO_SIGMAS = {
    "nose": 0.026, "eye": 0.025, "ear": 0.035, "shoulder": 0.079, "elbow": 0.072,
    "wrist": 0.062, "hip": 0.107, "knee": 0.087, "ankle": 0.089,
}  # fmt: skip
"""Spread of human annotators relative to the square root of the area, as the COCO evaluation fixes it."""

# Head top and neck as CrowdPose evaluates them; COCO has neither.
KNOWN_SIGMAS = {**COCO_SIGMAS, "head": 0.079, "head_top": 0.079, "neck": 0.079}

DEFAULT_SIGMA = 0.067
"""For a joint that no benchmark names: the mean of the 17 sigmas of COCO."""

UPPER = ("nose", "eye", "ear", "shoulder", "elbow", "wrist", "neck", "head")
LOWER = ("hip", "knee", "ankle")

COCO_17 = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
    "right_ankle",
)  # fmt: skip
LSP_14 = (
    "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "right_wrist", "right_elbow",
    "right_shoulder", "left_shoulder", "left_elbow", "left_wrist", "neck", "head_top",
)  # fmt: skip


@dataclass(frozen=True)
class KeypointLayout:
    """The joints of one kind of instance. `flip[k]` is the joint that joint k becomes in a mirror."""

    names: tuple[str, ...]
    flip: tuple[int, ...]
    skeleton: tuple[tuple[int, int], ...] = ()
    sigmas: tuple[float, ...] = ()

    @classmethod
    def of(cls, names: tuple[str, ...], skeleton: tuple[tuple[int, int], ...] = ()) -> KeypointLayout:
        """Mirror pairs from `left`/`right` in the names, sigmas from the names where a benchmark has them."""
        places = {name: i for i, name in enumerate(names)}
        flip = tuple(places.get(_mirrored(name), i) for i, name in enumerate(names))
        return cls(names, flip, skeleton, tuple(KNOWN_SIGMAS.get(_sideless(name), DEFAULT_SIGMA) for name in names))

    @classmethod
    def unnamed(cls, joints: int) -> KeypointLayout:
        """A layout for files that do not name their joints: known by number (COCO 17, LSP 14), else `joint 1`, ..."""
        known = {17: COCO_17, 14: LSP_14}.get(joints)
        return cls.of(known or tuple(f"joint {i + 1}" for i in range(joints)))

    def half(self, upper: bool) -> tuple[int, ...]:
        """The joints of the upper or the lower half of a body; empty for other things."""
        words = UPPER if upper else LOWER
        return tuple(i for i, name in enumerate(self.names) if _sideless(name).split("_")[0] in words)


def _sideless(name: str) -> str:
    words = name.lower().replace("-", "_").replace(" ", "_").split("_")
    return "_".join(word for word in words if word not in ("left", "right", "l", "r"))


def _mirrored(name: str) -> str:
    for one, other in (("left", "right"), ("Left", "Right"), ("LEFT", "RIGHT")):
        if one in name:
            return name.replace(one, other)
        if other in name:
            return name.replace(other, one)
    for one, other in (("l_", "r_"), ("L_", "R_")):
        if name.startswith(one):
            return other + name[2:]
        if name.startswith(other):
            return one + name[2:]
    return name
