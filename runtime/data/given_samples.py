"""Sets that are handed over in Python, and their samples as a task takes them: images in the network's size, targets
that can be stacked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nasdsl.compiler.diagnostics import cause
from nasdsl.runtime.data.errors import DataError
from nasdsl.runtime.data.given_values import (
    Boxes,
    boxes_of,
    cut,
    inside,
    label_of,
    mask_inside,
    mask_of,
    numbers_of,
    pixels_of,
    resized,
    vector_of,
)
from nasdsl.runtime.data.images import Size, inner_size, mean_colour
from nasdsl.runtime.data.labels import IGNORE


@dataclass(frozen=True)
class Given:
    """A set, or a part of it, with what its loader said.

    Attributes:
        rows: of the set; None is all.
        collate: makes a batch of samples; None where it does no more than stack them.
        sampler: gives the order of an epoch; None where it is that of the set, or by chance.
    """

    dataset: Any
    split: str
    rows: tuple[int, ...] | None = None
    batch: int | None = None
    workers: int = 0
    collate: Callable[[list[Any]], Any] | None = None
    sampler: Any = None

    @classmethod
    def of(cls, value: Any, split: str) -> Given:
        """
        Raises:
            DataError: it is no map-style set, or a loader of what is none.
        """
        from torch.utils.data import BatchSampler, DataLoader, RandomSampler, SequentialSampler, default_collate

        if not isinstance(value, DataLoader):
            return cls(_map_style(value, split), split)
        dataset = _map_style(value.dataset, split)
        if value.batch_sampler is not None and type(value.batch_sampler) is not BatchSampler:
            raise DataError(
                f"the loader of the {split} split makes its batches by a {type(value.batch_sampler).__name__}",
                help="give its set, or a loader with a `sampler`",
            )
        plain = isinstance(value.sampler, SequentialSampler) or (
            type(value.sampler) is RandomSampler
            and not value.sampler.replacement
            and value.sampler.num_samples == len(dataset)
        )
        own = value.batch_size is not None and value.collate_fn is not default_collate
        return cls(
            dataset,
            split,
            batch=value.batch_size,
            workers=value.num_workers,
            collate=value.collate_fn if own else None,
            sampler=None if plain else value.sampler,
        )

    def __len__(self) -> int:
        return len(self.dataset) if self.rows is None else len(self.rows)

    @property
    def name(self) -> str:
        """Of the kind of set, below any parts of it."""
        inner = self.dataset
        while type(inner).__name__ == "Subset" and hasattr(inner, "dataset"):
            inner = inner.dataset
        return type(inner).__name__

    @property
    def sampler_name(self) -> str:
        return type(self.sampler).__name__

    def part(self, rows: Sequence[int]) -> Given:
        """Some of the samples of the whole set."""
        return Given(self.dataset, self.split, tuple(rows), self.batch, self.workers, self.collate)

    def row(self, index: int) -> int:
        return index if self.rows is None else self.rows[index]

    def where(self, index: int) -> str:
        """How a message names a sample."""
        return f"sample {self.row(index):,} of the {self.split} set ({self.name})"

    def sample(self, index: int) -> tuple[Any, Any]:
        """An image and its target, as the set has them.

        Raises:
            DataError: the set gives something else, or fails.
        """
        try:
            found = self.dataset[self.row(index)]
        except Exception as problem:  # it is the user's code that runs here
            raise DataError(f"{self.where(index)} cannot be read: {cause(problem)}") from problem
        return self._pair(found, index)

    def _pair(self, found: Any, index: int) -> tuple[Any, Any]:
        if not isinstance(found, tuple | list) or len(found) != 2:
            kind = f"{len(found)} parts" if isinstance(found, tuple | list) else f"a {type(found).__name__}"
            raise DataError(f"{self.where(index)} is {kind}, and not an image and its target")
        image, target = found
        return image, target

    def samples(self, indices: Sequence[int]) -> list[tuple[Any, Any]]:
        """Several samples, each after what the loader's `collate_fn` makes of them together."""
        found = [self.sample(index) for index in indices]
        if self.collate is None:
            return found
        try:
            made = self.collate(found)
            images, targets = made
        except Exception as problem:  # the user's
            raise DataError(f"`collate_fn` of the {self.split} loader failed: {cause(problem)}") from problem
        parts = list(zip(list(images), _each(targets, len(images)), strict=False))
        if len(parts) != len(found):
            raise DataError(f"`collate_fn` of the {self.split} loader made {len(parts)} of {len(found)} samples")
        return parts

    # --- What is known without reading images

    def known_labels(self) -> np.ndarray[Any, np.dtype[np.int64]] | None:
        """The class of each sample, as far as the set says them by itself."""
        found = _labels(self.dataset)
        if found is None:
            return None
        return found if self.rows is None else found[list(self.rows)]

    def own_classes(self) -> tuple[str, ...] | None:
        inner = self.dataset
        while inner is not None:
            names = getattr(inner, "classes", None)
            if isinstance(names, list | tuple) and names and all(isinstance(name, str) for name in names):
                return tuple(names)
            inner = getattr(inner, "dataset", None)
        return None

    def highest_label(self, task: str) -> int:
        """The greatest class of all samples; where the set does not tell them, each target is read."""
        known = self.known_labels() if task == "classification" else None
        if known is not None and len(known):
            return int(known.max())
        highest = -1
        for index in range(len(self)):
            _, target = self.sample(index)
            if task == "classification":
                highest = max(highest, label_of(target, self.where(index)))
            elif task == "segmentation":
                mask = mask_of(target, self.where(index))
                highest = max(highest, int(torch.where(mask == IGNORE, -1, mask).max()))
            else:
                labels = boxes_of(target, self.where(index)).labels
                highest = max(highest, int(labels.max()) if len(labels) else -1)
        if highest < 0:
            raise DataError(f"the {self.split} set ({self.name}) has no labels", help="say `classes`")
        return highest


def _each(targets: Any, n: int) -> list[Any]:
    """The targets of a batch one by one: a tensor's, a list's, or those of a record of such."""
    if isinstance(targets, Mapping):
        parts = {key: list(value) for key, value in targets.items()}
        return [{key: value[i] for key, value in parts.items()} for i in range(n)]
    return list(targets)


def _map_style(value: Any, split: str) -> Any:
    """
    Raises:
        DataError: a value is no map-style set, or is empty.
    """
    from torch.utils.data import IterableDataset

    sized = hasattr(value, "__len__") and hasattr(value, "__getitem__")
    if isinstance(value, IterableDataset) or not sized or isinstance(value, str | bytes | Mapping):
        raise DataError(
            f"the {split} set is a {type(value).__name__}, which is no map-style set",
            help="a set has a length, and `set[i]` gives an image and its target: searches draw samples, hold some "
            "back and go on where they were",
        )
    if not len(value):
        raise DataError(f"the {split} split is empty")
    return value


def _labels(dataset: Any) -> np.ndarray[Any, np.dtype[np.int64]] | None:
    """The labels of a set by its own word: `targets` or `labels`, the second tensor, or those of its parts."""
    from torch.utils.data import ConcatDataset, Subset, TensorDataset

    if isinstance(dataset, Subset):
        inner = _labels(dataset.dataset)
        return None if inner is None else inner[list(dataset.indices)]
    if isinstance(dataset, ConcatDataset):
        parts = [_labels(one) for one in dataset.datasets]
        return None if any(part is None for part in parts) else np.concatenate(parts)  # type: ignore[arg-type]
    if isinstance(dataset, TensorDataset) and len(dataset.tensors) == 2:
        given: Any = dataset.tensors[1]
    else:
        given = getattr(dataset, "targets", getattr(dataset, "labels", None))
    if getattr(dataset, "target_transform", None) is not None or given is None:
        return None
    try:
        found = np.asarray(given)
    except (TypeError, ValueError):
        return None
    whole = found.ndim == 1 and len(found) == len(dataset) and np.issubdtype(found.dtype, np.integer)
    return found.astype(np.int64) if whole else None


class GivenSet:
    """Samples that were handed over: images in the size of the network's input, with the targets of a task.

    Attributes:
        labels: int64 (n,), of classes, where they are known without reading images.
    """

    def __init__(
        self, given: Given, classes: tuple[str, ...], size: Size, channels: int, vector: bool, normalised: bool
    ) -> None:
        self.given, self.classes, self.size, self.channels = given, classes, size, channels
        self.vector, self.normalised = vector, normalised

    def __len__(self) -> int:
        return len(self.given)

    def __getitem__(self, index: int) -> tuple[Tensor, Any]:
        images, targets = self.batch([range(len(self))[index]])
        image = images[0].float() / 255 if images.dtype == torch.uint8 else images[0]
        return image, {key: value[0] for key, value in targets.items()} if isinstance(targets, dict) else targets[0]

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Any]:
        """Images (B, C, H, W), uint8, or float32 where the set gives floats, and collated targets."""
        found = self.given.samples(indices)
        pairs = [self.made(*pair, self.given.where(i)) for i, pair in zip(indices, found, strict=True)]
        images = [image for image, _ in pairs]
        if len({image.dtype for image in images}) > 1:
            images = [image.float() / 255 if image.dtype == torch.uint8 else image for image in images]
        return torch.stack(images), self.collated([target for _, target in pairs])

    def made(self, image: Any, target: Any, where: str) -> tuple[Tensor, Any]:
        """One sample as the task takes it."""
        raise NotImplementedError

    def collated(self, targets: list[Any]) -> Any:
        return torch.stack(targets)

    def order(self, seed: int, epoch: int) -> list[int] | None:
        """The samples of an epoch in the order of the loader's sampler; None where that is plain chance."""
        sampler = self.given.sampler
        if sampler is None:
            return None
        state = int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(state)
            if getattr(sampler, "generator", None) is not None:
                sampler.generator.manual_seed(state)
            if hasattr(sampler, "set_epoch"):
                sampler.set_epoch(epoch)
            return [int(index) for index in sampler]

    @property
    def sampler_name(self) -> str | None:
        """Of a sampler that is not plain chance."""
        return None if self.given.sampler is None else self.given.sampler_name

    @property
    def drawn(self) -> int:
        """How many samples an epoch has."""
        return len(self) if self.given.sampler is None else len(self.given.sampler)

    def checked(self, label: int, where: str) -> int:
        """
        Raises:
            DataError: there is no such class.
        """
        if not 0 <= label < len(self.classes):
            raise DataError(f"{where} is of class {label}, and there are {len(self.classes)} classes, from 0")
        return label


class GivenClasses(GivenSet):
    """Images with a class each."""

    @property
    def labels(self) -> Tensor | None:
        known = self.given.known_labels()
        return None if known is None else torch.from_numpy(known)

    def made(self, image: Any, target: Any, where: str) -> tuple[Tensor, Tensor]:
        label = self.checked(label_of(target, where), where)
        return cut(image, self.size, self.channels, where), torch.tensor(label)


class GivenNumbers(GivenSet):
    """Images, or vectors of features (F, 1, 1), with numbers."""

    def made(self, image: Any, target: Any, where: str) -> tuple[Tensor, Tensor]:
        numbers = numbers_of(target, where)
        if len(numbers) != len(self.classes):
            raise DataError(f"{where} has {len(numbers)} targets, and the first sample has {len(self.classes)}")
        if not self.vector:
            return cut(image, self.size, self.channels, where), numbers
        features = vector_of(image, where)
        if len(features) != self.channels:
            raise DataError(f"{where} has {len(features)} features, and the first sample has {self.channels}")
        return features[:, None, None], numbers


class GivenMasks(GivenSet):
    """Images with a class for each pixel."""

    def made(self, image: Any, target: Any, where: str) -> tuple[Tensor, Tensor]:
        pixels, mask = pixels_of(image, self.channels, where), mask_of(target, where)
        if tuple(mask.shape) != tuple(pixels.shape[1:]):
            sides = " x ".join(map(str, mask.shape))
            raise DataError(f"the mask of {where} is {sides}, and its image {pixels.shape[1]} x {pixels.shape[2]}")
        there = mask[mask != IGNORE]
        if len(there):
            self.checked(int(there.min()), where)
            self.checked(int(there.max()), where)
        fill = 0.0
        return inside(pixels, self.size, fill), mask_inside(mask, self.size)


class GivenBoxes(GivenSet):
    """Images with boxes, padded at the right and at the bottom, as `DetectionSet` has them.

    Attributes:
        ids: of the images: their places in the set.
    """

    @property
    def ids(self) -> list[Any]:
        return list(range(len(self)))

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Any]:
        images, targets = super().batch(indices)
        return images, {**targets, "image_id": torch.tensor(list(indices))}

    def made(self, image: Any, target: Any, where: str) -> tuple[Tensor, Boxes]:
        pixels, boxes = pixels_of(image, self.channels, where), boxes_of(target, where)
        for label in boxes.labels.tolist():
            self.checked(label, where)
        original = pixels.shape[1], pixels.shape[2]
        inner = inner_size(original, self.size)
        shown = resized(pixels, inner)
        if self.normalised:
            canvas = torch.zeros(self.channels, *self.size)
        else:
            fill = torch.tensor(mean_colour(self.channels) if self.channels in (1, 3) else (0,) * self.channels)
            canvas = fill.to(torch.uint8)[:, None, None].repeat(1, *self.size)
            canvas = canvas if shown.dtype == torch.uint8 else canvas.float() / 255
        canvas[:, : inner[0], : inner[1]] = shown
        return canvas, boxes.at(original, inner)

    def collated(self, targets: list[Any]) -> dict[str, Tensor]:
        most = max([1, *(len(one.labels) for one in targets)])
        n = len(targets)
        boxes, area = torch.zeros(n, most, 4), torch.zeros(n, most)
        labels, crowd = torch.full((n, most), -1), torch.zeros(n, most, dtype=torch.bool)
        for i, one in enumerate(targets):
            count = len(one.labels)
            boxes[i, :count], labels[i, :count] = one.boxes, one.labels
            crowd[i, :count], area[i, :count] = one.crowd, one.area
        size, original = (torch.tensor([getattr(one, key) for one in targets]) for key in ("size", "original"))
        return {"boxes": boxes, "labels": labels, "crowd": crowd, "area": area, "size": size, "original": original}


KINDS: Mapping[str, type[GivenSet]] = {
    "classification": GivenClasses,
    "segmentation": GivenMasks,
    "detection": GivenBoxes,
    "regression": GivenNumbers,
}
