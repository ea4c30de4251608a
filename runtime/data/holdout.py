"""A part of the training samples that is held back from training, for choosing between networks."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from torch import Tensor

from nasdsl.runtime.data.errors import DataError
from nasdsl.runtime.data.readers import stratified
from nasdsl.runtime.data.splits import DataSplits, Samples


class Part:
    """Some of the samples of a set, in the given order."""

    def __init__(self, whole: Samples, rows: list[int]) -> None:
        self.whole, self.rows = whole, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Tensor, Any]:
        return self.whole[self.rows[index]]

    @property
    def ids(self) -> list[Any]:
        """Of the images of the whole, by `image_id` (detection only)."""
        found: list[Any] = getattr(self.whole, "ids")  # noqa: B009 - not every set has them
        return found

    def batch(self, indices: list[int]) -> tuple[Tensor, Any]:
        """Images, uint8 (B, C, H, W), and collated targets."""
        return self.whole.batch([self.rows[index] for index in indices])


def held_back(data: DataSplits, amount: float) -> DataSplits:
    """The same data with some training samples in place of the validation split, and the others to train on.

    Which ones does not depend on any seed, so that whoever scores networks of a run finds the same. Where samples have
    one label each, the part has its share of each.

    Args:
        amount: a share of the training samples below 1, or their number; 0 leaves the splits as they are.

    Raises:
        DataError: that is none of the samples, or all.
    """
    if not amount:
        return data
    sampler = getattr(data.train, "sampler_name", None)
    if sampler is not None:
        raise DataError(
            f"a part of the training samples is held back, and their loader draws by a {sampler}",
            help="give the set itself, or a loader that shuffles it",
        )
    total = len(data.train)
    held = min(max(1, round(amount * total)), total - 1) if amount < 1 else round(amount)  # of few at least one
    if not 0 < held < total:
        raise DataError(
            f"{max(held, 1):,} of {total:,} training samples cannot be held back",
            help="hold back fewer, or 0 for the validation split" if total > 1 else "there have to be more",
        )
    labels = getattr(data.train, "labels", None)
    if labels is not None and np.ndim(labels) == 1:  # vectors are no classes
        chosen = set(stratified([(label,) for label in labels.tolist()], 0, held / total))
        rest = [i for i in np.random.Generator(np.random.PCG64(0)).permutation(total).tolist() if i not in chosen]
        rows = np.array([*sorted(chosen), *rest])  # few samples of many labels may not give all of the share
    else:
        rows = np.random.Generator(np.random.PCG64(0)).permutation(total)
    description = f"{data.description}, {held} training samples held back"
    return dataclasses.replace(
        data,
        train=Part(data.train, sorted(rows[held:].tolist())),
        val=Part(data.train, sorted(rows[:held].tolist())),
        description=description,
    )
