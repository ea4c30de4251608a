"""Data that is handed over in Python: map-style sets of torch, or loaders of such."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from nasdsl.runtime.data.errors import DataError
from nasdsl.runtime.data.given_samples import KINDS, Given
from nasdsl.runtime.data.given_values import ROUNDING, is_image, numbers_of, vector_of
from nasdsl.runtime.data.images import Size, spread
from nasdsl.runtime.data.labels import IGNORE
from nasdsl.runtime.data.readers import hold_out
from nasdsl.runtime.data.splits import DataSplits, Normalised

if TYPE_CHECKING:
    from torch.utils.data import DataLoader, Dataset

LOOKED_AT = 16
"""So many samples tell what images are like: pixels, or numbers that somebody has normalised."""
TASKS = ("classification", "segmentation", "detection", "regression")
"""Tasks whose samples can be handed over."""

Statistics = tuple[Sequence[float], Sequence[float]]


class Data:
    """Data of the user's own. What takes data takes `(train, val)` and `(train, val, test)` as well, which is this with
    nothing else said.

    A set is map-style: `len(set)`, and `set[i]` gives an image and its target; a list of such pairs is one. A
    `DataLoader` gives its set, its `collate_fn`, its sampler and, unless the call says otherwise, the size of its
    batches; its `num_workers` become threads.

    Images are Pillow's, arrays (H, W) or (H, W, C) of 8 bits, or tensors (C, H, W) of 8 bits or of floats in 0..1. What
    has another size than the network's input is resized as files are. Floats beyond 0..1 are taken as normalised: no
    normalisation is added, and no augmentation that paints. By task, targets are

    - classification: a class, from 0;
    - segmentation: the class of each pixel (H, W), a tensor, array or image; 255 is none;
    - detection: a record of `boxes` (n, 4), x1, y1, x2, y2 in pixels of the image, and `labels` (n,), from 0; it may
      have `crowd` (or `iscrowd`) and `area`;
    - regression: a number, or a vector of them. What is learnt from may be a vector of features as well.

    Random numbers that a set draws by itself are its own affair: a run that was interrupted goes on with others.

    Args:
        train, val: sets, or loaders. Without `val` a fixed 20 % of `train` validates.
        test: what `evaluate` measures on, and no training or search sees; by default `val`.
        classes: names of the classes (of the targets, in regression), or how many there are. Left out, the set's own
            `classes`, or as many as its labels have.
        features: what the columns of a vector are called.
        normalised: whether images have been normalised already, or by which mean and deviation of each channel, which
            is then kept with weights, so that other images can be treated alike. Left out, a few images are looked at.

    Raises:
        DataError: what is given is no map-style set, or a split is empty.
    """

    def __init__(
        self,
        train: Dataset[Any] | DataLoader[Any] | Sequence[tuple[Any, Any]],
        val: Dataset[Any] | DataLoader[Any] | Sequence[tuple[Any, Any]] | None = None,
        test: Dataset[Any] | DataLoader[Any] | Sequence[tuple[Any, Any]] | None = None,
        *,
        classes: Sequence[str] | int | None = None,
        features: Sequence[str] | None = None,
        normalised: bool | Statistics | None = None,
    ) -> None:
        self.train = Given.of(train, "train")
        self.val = None if val is None else Given.of(val, "validation")
        self.test = None if test is None else Given.of(test, "test")
        if isinstance(classes, str) or isinstance(features, str):
            raise DataError("`classes` and `features` are lists of names")
        self.classes = tuple(classes) if isinstance(classes, Sequence) else classes
        self.features = None if features is None else tuple(features)
        self._named: dict[str, tuple[str, ...]] = {}
        self.normalised = normalised if isinstance(normalised, bool | None) else _statistics(normalised)

    @classmethod
    def of(cls, value: Any) -> Data:
        """Of what a caller handed over: data, a set, a loader, or two or three of these.

        Raises:
            DataError: it is none of these.
        """
        if isinstance(value, cls):
            return value
        parts = isinstance(value, tuple) or (isinstance(value, list) and value and all(map(_is_set, value)))
        if parts:
            if not 1 <= len(value) <= 3:
                raise DataError(f"data is `(train, val)` or `(train, val, test)`, and these are {len(value)} parts")
            return cls(*value)
        return cls(value)

    @property
    def batch(self) -> int | None:
        """Of the loader that trains, if there is one."""
        return self.train.batch

    @property
    def workers(self) -> int:
        return self.train.workers

    def __repr__(self) -> str:
        parts = {"train": self.train, "val": self.val, "test": self.test}
        told = ", ".join(f"{name} {len(part):,}" for name, part in parts.items() if part is not None)
        return f"Data({self.train.name}: {told})"

    def identity(self) -> str:
        """What a run's folder says of the data: the same for sets of the same kinds, lengths, classes and labels."""
        text = hashlib.sha256()
        for part in (self.train, self.val):
            known = None if part is None else part.known_labels()
            told = None if part is None else (part.name, len(part), known if known is None else known.tolist())
            text.update(repr(told).encode())
        text.update(repr((self.classes, self.features, self.normalised)).encode())
        return f"{self!r} from Python ({text.hexdigest()[:16]})"

    def splits(self, task: str, size: Size, channels: int, test: bool = False) -> DataSplits:
        """The samples as a task takes them.

        Args:
            size, channels: of the network's input.
            test: put `test`, where there is one, in the place of `val`.

        Raises:
            DataError: the task's samples cannot be handed over, or a sample is not as the task has them.
        """
        if task not in TASKS:
            raise DataError(
                f"data for {task} is read from files, and not handed over in Python",
                help=f"what can be handed over is for {', '.join(TASKS)}",
            )
        train, val = self._two(self.test if test and self.test is not None else self.val)
        kind = KINDS[task]
        shown, target = train.sample(0)
        vector = task == "regression" and not is_image(shown)
        if vector:
            size, channels = (1, 1), len(vector_of(shown, train.where(0)))
            if self.features is not None and len(self.features) != channels:
                raise DataError(f"{len(self.features)} features are named, and the samples have {channels}")
        if task not in self._named:  # each target may have to be read for it
            self._named[task] = self._classes(task, train, target)
        classes = self._named[task]
        normalised = None if vector else self._normalised(train, channels)
        sets = [kind(part, classes, size, channels, vector, normalised is not None) for part in (train, val)]
        several = "rows" if vector else "images"
        what = f"{train.name}: {len(train):,} train and {len(val):,} validation {several}"
        details: dict[str, Any] = {}
        if task == "detection":
            details["category_ids"] = list(range(len(classes)))
        if vector and self.features is not None:
            details["features"] = list(self.features)
        return DataSplits(
            train=sets[0],
            val=sets[1],
            task=task,
            classes=classes,
            channels=channels,
            size=size,
            description=f"{what}, {len(classes)} {'targets' if task == 'regression' else 'classes'}",
            ignore_index=IGNORE if task == "segmentation" else None,
            details=details,
            normalised=normalised,
        )

    def _two(self, val: Given | None) -> tuple[Given, Given]:
        if val is not None:
            return self.train, val
        labels = self.train.known_labels()
        kinds = None if labels is None or labels.ndim != 1 else [(label,) for label in labels.tolist()]
        parts = hold_out(range(len(self.train)), 0, kinds)
        if self.train.sampler is not None:
            raise DataError(
                f"a part of the training set is to validate, and its loader draws by a {self.train.sampler_name}",
                help="give a set or a loader to validate on",
            )
        train, held = (self.train.part(rows) for rows in parts)
        return train, held

    def _classes(self, task: str, train: Given, target: Any) -> tuple[str, ...]:
        """What the outputs are called."""
        if task == "regression":
            number = len(numbers_of(target, train.where(0)))
            if self.classes is None:
                return ("target",) if number == 1 else tuple(f"target {i + 1}" for i in range(number))
            names = self.classes if isinstance(self.classes, tuple) else tuple(map(str, range(self.classes)))
            if len(names) != number:
                raise DataError(f"{len(names)} targets are named, and the samples have {number}")
            return names
        if isinstance(self.classes, tuple):
            return self.classes
        if self.classes is None:
            own = train.own_classes()
            if own is not None:
                return own
        number = self.classes if self.classes is not None else train.highest_label(task) + 1
        return tuple(map(str, range(number)))

    def _normalised(self, train: Given, channels: int) -> Normalised | None:
        """By what the images were normalised; None where they are pixels."""
        if self.normalised is False:
            return None
        if isinstance(self.normalised, tuple):
            mean, std = self.normalised
            if len(mean) != channels or len(std) != channels:
                raise DataError(f"`normalised` has {len(mean)} and {len(std)} numbers, and images {channels} channels")
            return Normalised(mean, std)
        looked = spread(len(train), LOOKED_AT) if self.normalised is None else []
        beyond = any(_is_beyond(train.sample(index)[0]) for index in looked)
        return Normalised(None, None) if beyond or self.normalised else None


def _is_set(value: Any) -> bool:
    """Whether something is a set of torch's, or a loader of one, and no sample."""
    from torch.utils.data import DataLoader, Dataset

    return isinstance(value, Dataset | DataLoader)


def _is_beyond(image: Any) -> bool:
    """Whether an image is of floats, some of them darker than black or brighter than white."""
    if not isinstance(image, Tensor) or not image.is_floating_point() or not image.numel():
        return False
    return not (float(image.min()) >= -ROUNDING and float(image.max()) <= 1 + ROUNDING)


def _statistics(given: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    try:
        mean, std = (tuple(float(value) for value in part) for part in given)
    except (TypeError, ValueError):
        raise DataError("`normalised` is True, False, or mean and deviation of each channel") from None
    if not all(value > 0 for value in std):
        raise DataError("`normalised` has a deviation that is not above 0")
    return mean, std
