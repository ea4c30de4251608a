"""What settings of training leave open follows from the number of training images: how long, in which batches, and at
which rate. `benchmarks/results/recipe.md` compares it with a grid."""

from __future__ import annotations

import math
from collections.abc import Mapping

from nasdsl.runtime.errors import RunError
from nasdsl.runtime.settings import Settled, Train

EPOCHS = 30
SEEN = 20_000
"""Images that a training sees at least, by more epochs where there are few, ..."""
MOST_EPOCHS = 200
"""... up to so many."""

STEPS = 8
"""A training in which n images are seen, each counted as often as it is, has about 8 sqrt(n) steps of sqrt(n) / 8
images: few images train a network only in many small steps."""
BATCHES = (8, 256)

RATES: Mapping[str, float] = {"adamw": 0.01, "adam": 0.01, "rmsprop": 0.001, "sgd": 0.1}
"""The peak rate of each optimiser in a short training; of rmsprop with its momentum of 0.9, which multiplies it."""
SHORT = 500
"""Steps up to which a training is short. Optimisers that make all gradients alike take less in a longer one, by the
root of its steps: hence, for the same images, by the root of the batch more in larger batches."""
PLAIN = ("sgd",)
"""Optimisers that do not."""


def settle(train: Train, images: int) -> Settled:
    """The settings with nothing left open; what is given stays as it is.

    Args:
        images: how many there are to train on.

    Raises:
        RunError: a batch is given that is larger than that.
    """
    if train.batch is not None and train.batch > images and not isinstance(train, Settled):
        raise RunError(
            f"a batch of {train.batch:,} is asked for, and there are {images:,} training images",
            f"take `batch: {images}` or less, or leave it out",
        )
    epochs = train.epochs if train.epochs is not None else _epochs(images)
    batch = train.batch if train.batch is not None else _batch(images * epochs)
    optimiser = train.optimiser.model_dump()
    if train.optimiser.lr is None:
        optimiser["lr"] = _rate(train.optimiser.name, images * epochs / batch)
    return Settled.model_validate({**train.model_dump(), "epochs": epochs, "batch": batch, "optimiser": optimiser})


def _epochs(images: int) -> int:
    return min(max(EPOCHS, math.ceil(SEEN / images)), MOST_EPOCHS)


def _batch(seen: float) -> int:
    """The nearest power of two."""
    least, most = BATCHES
    return min(max(2 ** round(math.log2(math.sqrt(seen) / STEPS)), least), most)


def _rate(optimiser: str, steps: float) -> float:
    rate = RATES[optimiser]
    if optimiser not in PLAIN:
        rate *= math.sqrt(min(1.0, SHORT / steps))
    return float(f"{rate:.2g}")
