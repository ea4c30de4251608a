"""What follows from the number of images where a file says nothing of epochs, batch and rate."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasdsl.runtime.errors import RunError
from nasdsl.runtime.settings import Settled, Train
from nasdsl.runtime.settle import BATCHES, EPOCHS, MOST_EPOCHS, PLAIN, RATES, SEEN, settle

IMAGES = st.integers(1, 10_000_000)


def by(images: int, **entries: Any) -> Settled:
    return settle(Train.model_validate(entries), images)


@given(st.integers(24, 10_000_000))
def test_what_is_given_stays_and_nothing_is_left_open(images: int) -> None:
    entries = {"epochs": 7, "batch": 24, "optimiser": {"name": "sgd", "lr": 0.5}, "ema": {"decay": 0.5}, "clip": 1.0}
    assert by(images, **entries).model_dump() == {**Train.model_validate(entries).model_dump()}
    once = by(images)
    assert settle(once, images + 1) == once


@pytest.mark.parametrize(("batch", "images"), [(1000, 999), (99_999_999_999, 1437), (2, 1)])
def test_a_batch_that_is_larger_than_the_data_is_refused(batch: int, images: int) -> None:
    with pytest.raises(RunError, match=f"a batch of {batch:,} is asked for, and there are {images:,} training images"):
        by(images, batch=batch)
    settled = by(10 * batch, batch=batch)
    assert settle(settled, images) == settled  # part of the data is held back: what is asked for fits the whole


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


def rate(name: str, batch: int, images: int = 1000, epochs: float = 30) -> float:
    return by(images, batch=batch, epochs=epochs, optimiser={"name": name}).optimiser.lr


@pytest.mark.parametrize("name", RATES)
def test_each_optimiser_has_its_rate_in_a_short_training(name: str) -> None:
    assert rate(name, 60) == rate(name, 100) == RATES[name]


@pytest.mark.parametrize("name", sorted(set(RATES) - set(PLAIN)))
def test_a_long_training_takes_less_by_the_root_of_its_steps(name: str) -> None:
    short = rate(name, 60)
    for times in (2, 4, 9, 100):
        assert rate(name, 60, images=times * 1000) == pytest.approx(short / times**0.5, rel=0.05)
        assert rate(name, 60, epochs=times * 30) == pytest.approx(short / times**0.5, rel=0.05)
    assert rate(name, 120, 100_000) == pytest.approx(2 * rate(name, 30, 100_000), rel=0.05)


@pytest.mark.parametrize("name", PLAIN)
def test_one_that_follows_gradients_takes_as_much(name: str) -> None:
    assert rate(name, 30, 100_000) == RATES[name]


@pytest.mark.parametrize(
    ("images", "epochs", "settled"),
    [
        (120, None, (167, 16, 0.0063)),
        (1651, 8, (8, 16, 0.0078)),
        (10_000, 3, (3, 16, 0.0052)),
        (10_000, None, (30, 64, 0.0033)),
        (1_281_167, None, (30, 256, 0.00058)),
    ],
)
def test_what_comes_out(images: int, epochs: float | None, settled: tuple[float, int, float]) -> None:
    found = by(images, epochs=epochs)
    assert (found.epochs, found.batch, found.optimiser.lr) == settled
