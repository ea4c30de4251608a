"""What a network finds in one image, in that image's own pixels; what is true of an image has the same form."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nasdsl.runtime.data.layouts import KeypointLayout


@dataclass(frozen=True)
class Names:
    """What classes and joints are called, by their numbers."""

    classes: tuple[str, ...]
    joints: KeypointLayout | None = None

    def of(self, label: int) -> str:
        """A class's name; one that is not known goes by its number."""
        return self.classes[label] if 0 <= label < len(self.classes) else f"class {label}"


@dataclass(frozen=True)
class FoundClasses:
    """Of an image: the likeliest classes and their probabilities, by falling probability."""

    labels: NDArray[np.int64]
    scores: NDArray[np.float64]


@dataclass(frozen=True)
class FoundMask:
    """The class of each pixel (H, W); `IGNORE` (255) in what is true is no class."""

    labels: NDArray[np.uint8]


@dataclass(frozen=True)
class FoundBoxes:
    """Boxes (n, 4), x1, y1, x2, y2, where pixel i covers [i, i + 1); their classes (n,), and scores (n,), falling."""

    boxes: NDArray[np.float64]
    labels: NDArray[np.int64]
    scores: NDArray[np.float64]


@dataclass(frozen=True)
class FoundJoints:
    """The joints of one instance (K, 2), x, y, where whole numbers are middles of pixels, and how sure each is (K,)."""

    points: NDArray[np.float64]
    scores: NDArray[np.float64]


Found = FoundClasses | FoundMask | FoundBoxes | FoundJoints
