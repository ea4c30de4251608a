"""What follows from the number of images where a file says nothing of epochs, batch and rate."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasdsl.runtime.settings import Settled, Train
from nasdsl.runtime.settle import BATCH, BATCHES, EPOCHS, MOST_EPOCHS, RATES, SEEN, settle

IMAGES = st.integers(1, 10_000_000)


def by(images: int, **entries: Any) -> Settled:
    return settle(Train.model_validate(entries), images)


@given(IMAGES)
def test_what_is_given_stays_and_nothing_is_left_open(images: int) -> None:
    entries = {"epochs": 7, "batch": 24, "optimiser": {"name": "sgd", "lr": 0.5}, "ema": {"decay": 0.5}, "clip": 1.0}
    assert by(images, **entries).model_dump() == {**Train.model_validate(entries).model_dump()}
    once = by(images)
    assert settle(once, images + 1) == once


@given(IMAGES, st.floats(0.1, 400))
def test_batches_are_powers_of_two_that_grow_with_the_images_seen(images: int, epochs: float) -> None:
    batch = by(images, epochs=epochs).batch
    assert BATCHES[0] <= batch <= BATCHES[1] and batch & (batch - 1) == 0
    assert by(4 * images, epochs=epochs).batch in (batch, 2 * batch)
    assert by(images, epochs=4 * epochs).batch in (batch, 2 * batch)
    assert by(images, epochs=epochs, optimiser={"name": "sgd"}).batch == batch


@given(IMAGES)
def test_few_images_are_seen_more_often(images: int) -> None:
    epochs = by(images).epochs
    assert EPOCHS <= epochs <= MOST_EPOCHS
    assert epochs in (EPOCHS, MOST_EPOCHS) or SEEN <= epochs * images < SEEN + images


@pytest.mark.parametrize("name", RATES)
def test_the_rate_goes_with_the_root_of_the_batch(name: str) -> None:
    def rate(batch: int) -> float:
        return by(1000, batch=batch, optimiser={"name": name}).optimiser.lr

    assert rate(BATCH) == RATES[name]
    for batch in (1, 8, 50, 64, 1000):
        assert rate(batch) == pytest.approx(RATES[name] * (batch / BATCH) ** 0.5, rel=0.05)
