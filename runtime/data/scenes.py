"""Scenes for dense tasks: several real digits of different size, on a textured canvas with distractors.

Everything follows from `[*seed, index]` of a scene through one numpy generator, so a scene never depends on others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from nasdsl.runtime.data.crops import Instance
from nasdsl.runtime.data.images import Bytes, Size

JOINTS = ("top", "bottom", "left_end", "right_end", "centre")
Floats = NDArray[np.float32]

INK = 0.5
"""A pixel belongs to a digit where at least this much of its ink is."""
MOST_DIGITS = 5
PLACES_TRIED = 12


@dataclass(frozen=True)
class Scenes:
    """`images` (N, 3, H, W) and `masks` (N, H, W), uint8: 0 is background, d + 1 is digit d.

    `labels` are the digits of `instances`.
    """

    images: Bytes
    masks: Bytes
    instances: tuple[Instance, ...]
    labels: tuple[int, ...]


def compose(digits: Floats, labels: NDArray[np.int64], *, seed: Sequence[int], count: int, canvas: Size) -> Scenes:
    """`count` scenes from source digits (M, 8, 8) in 0..1."""
    images = np.empty((count, 3, *canvas), dtype=np.uint8)
    masks = np.zeros((count, *canvas), dtype=np.uint8)
    instances: list[Instance] = []
    classes: list[int] = []
    for index in range(count):
        rng = np.random.default_rng([*seed, index])
        picture = _background(rng, canvas)
        owner = np.zeros(canvas, dtype=np.int64)  # which digit, from 1, is on top
        drawn: list[tuple[Instance, int]] = []
        for top, left, patch, label in _placed(rng, digits, labels, canvas):
            window = (slice(top, top + patch.shape[0]), slice(left, left + patch.shape[1]))
            _paint(rng, picture[:, window[0], window[1]], patch)
            inked = patch >= INK
            masks[index][window][inked] = label + 1
            drawn.append((_instance(patch, top, left, index, len(instances) + len(drawn) + 1), label))
            owner[window][inked] = len(drawn)
        images[index] = (picture.clip(0, 1) * 255).round().astype(np.uint8)
        for number, (instance, label) in enumerate(drawn, start=1):
            _mark_hidden(instance.joints, owner, number)
            instances.append(instance)
            classes.append(label)
    return Scenes(images, masks, tuple(instances), tuple(classes))


def _placed(
    rng: Generator, digits: Floats, labels: NDArray[np.int64], canvas: Size
) -> list[tuple[int, int, Floats, int]]:
    """Top, left, ink and label of the digits of one scene; they overlap little, and there is always one."""
    shortest = min(canvas)
    placed: list[tuple[int, int, Floats, int]] = []
    taken: list[tuple[int, int, int]] = []
    for _ in range(int(rng.integers(2, MOST_DIGITS + 1))):
        row = int(rng.integers(len(digits)))
        side = int(rng.integers(max(10, round(0.3 * shortest)), max(12, round(0.55 * shortest)) + 1))
        for _ in range(PLACES_TRIED):
            top, left = (int(rng.integers(0, length - side + 1)) for length in canvas)
            if all(_overlap((top, left, side), other) < 0.15 * min(side, other[2]) ** 2 for other in taken):
                ink = enlarge(digits[row], side, side)
                placed.append((top, left, ink / ink.max(), int(labels[row])))
                taken.append((top, left, side))
                break
    return placed


def _overlap(one: tuple[int, int, int], other: tuple[int, int, int]) -> int:
    """Common area of two squares given as top, left, side."""
    shared = [min(one[i] + one[2], other[i] + other[2]) - max(one[i], other[i]) for i in (0, 1)]
    return max(shared[0], 0) * max(shared[1], 0)


def _background(rng: Generator, canvas: Size) -> Floats:
    """A soft, dim texture of two colours with noise, strokes and blobs: (3, H, W) around 0..0.5."""
    height, width = canvas
    dark, light = rng.random((2, 3), dtype=np.float32) * 0.4
    blend = enlarge(rng.random((5, 5), dtype=np.float32), height, width)
    picture = dark[:, None, None] + (light - dark)[:, None, None] * blend
    picture += 0.03 * rng.standard_normal((3, height, width), dtype=np.float32)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    for _ in range(int(rng.integers(0, 4))):
        (y0, x0), (y1, x1) = rng.random((2, 2)) * canvas
        along = ((x - x0) * (x1 - x0) + (y - y0) * (y1 - y0)) / ((x1 - x0) ** 2 + (y1 - y0) ** 2 + 1e-6)
        if rng.random() < 0.5:  # a stroke as thick as those of digits
            along = along.clip(0, 1)
            distance = np.hypot(x - x0 - along * (x1 - x0), y - y0 - along * (y1 - y0))
            cover = (rng.uniform(0.015, 0.04) * min(canvas) + 0.5 - distance).clip(0, 1)
        else:  # a blob
            distance = np.hypot((x - x0) / rng.uniform(0.6, 1.6), y - y0)
            cover = (rng.uniform(0.03, 0.12) * min(canvas) + 0.5 - distance).clip(0, 1)
        colour = 0.5 * rng.random(3, dtype=np.float32)[:, None, None]
        picture += cover.astype(np.float32) * (colour - picture)
    return picture


def _paint(rng: Generator, window: Floats, ink: Floats) -> None:
    """Lays one digit over its part of the picture, in a bright colour."""
    colour = 0.6 + 0.4 * rng.random(3, dtype=np.float32)
    window += ink * (colour[:, None, None] - window)


def _instance(ink: Floats, top: int, left: int, scene: int, number: int) -> Instance:
    """Box and joints of one digit from its own ink, in pixels of the scene."""
    inked = np.where(ink >= INK, ink, 0)
    rows, columns = np.flatnonzero(inked.any(axis=1)), np.flatnonzero(inked.any(axis=0))
    y0, y1, x0, x1 = rows[0], rows[-1], columns[0], columns[-1]
    weights = inked / inked.sum()
    points = [
        (int(inked[y0].argmax()), y0),
        (int(inked[y1].argmax()), y1),
        (x0, int(inked[:, x0].argmax())),
        (x1, int(inked[:, x1].argmax())),
        (float(weights.sum(axis=0) @ np.arange(ink.shape[1])), float(weights.sum(axis=1) @ np.arange(ink.shape[0]))),
    ]
    joints = np.array([(x + left, y + top, 2) for x, y in points], dtype=np.float32)
    box = (float(x0 + left), float(y0 + top), float(x1 - x0 + 1), float(y1 - y0 + 1))
    return Instance(scene, scene + 1, number, box, box[2] * box[3], joints)


def _mark_hidden(joints: Floats, owner: NDArray[np.int64], number: int) -> None:
    """Visibility 1 for joints of digit `number` that a later digit covers."""
    x, y = joints[:, :2].round().astype(int).T
    joints[owner[y, x] > number, 2] = 1


def enlarge(image: Floats, height: int, width: int) -> Floats:
    """Bilinear interpolation to (height, width), with the borders held."""
    rows, columns = _weights(image.shape[0], height), _weights(image.shape[1], width)
    result: Floats = (rows @ image @ columns.T).astype(np.float32)
    return result


@lru_cache(maxsize=512)
def _weights(old: int, new: int) -> Floats:
    """The (new, old) matrix of 1-D linear interpolation between pixel centres."""
    place = ((np.arange(new) + 0.5) * old / new - 0.5).clip(0, old - 1)
    below = np.minimum(place.astype(int), max(old - 2, 0))
    share = place - below
    matrix = np.zeros((new, old), dtype=np.float32)
    matrix[np.arange(new), below] = 1 - share
    matrix[np.arange(new), np.minimum(below + 1, old - 1)] += share
    return matrix
