"""What settings of training leave open follows from the number of training images: how long, in which batches, and at
which rate. `python -m benchmarks recipe` compares with a grid."""

from __future__ import annotations

import math
from collections.abc import Mapping

from nasdsl.runtime.settings import Settled, Train

EPOCHS = 30
SEEN = 20_000
"""Images that a training sees at least, each as often as it takes..."""
MOST_EPOCHS = 200
"""... up to so many epochs."""
STEPS = 5
"""A training of n images, counted as often as they are seen, has about STEPS times the root of n steps."""
BATCHES = (8, 256)
RATES: Mapping[str, float] = {"adamw": 0.01, "adam": 0.01, "rmsprop": 0.01, "sgd": 0.2}
"""The peak rate of each optimiser for batches of `BATCH`; it goes with the root of the batch."""
BATCH = 32


def settle(train: Train, images: int) -> Settled:
    """The settings with nothing left open; what is given stays as it is.

    Args:
        images: how many there are to train on.
    """
    epochs = train.epochs if train.epochs is not None else _epochs(images)
    batch = train.batch if train.batch is not None else _batch(images, epochs)
    optimiser = train.optimiser.model_dump()
    if train.optimiser.lr is None:
        optimiser["lr"] = float(f"{RATES[train.optimiser.name] * math.sqrt(batch / BATCH):.2g}")
    return Settled.model_validate({**train.model_dump(), "epochs": epochs, "batch": batch, "optimiser": optimiser})


def _epochs(images: int) -> float:
    """As many as usual, or more where there are few images: what counts are steps."""
    return min(max(EPOCHS, math.ceil(SEEN / images)), MOST_EPOCHS)


def _batch(images: int, epochs: float) -> int:
    """A power of two; steps and batches grow alike with the images that are seen."""
    least, most = BATCHES
    wanted = math.sqrt(images * epochs) / STEPS
    return min(max(2 ** round(math.log2(wanted)), least), most)
