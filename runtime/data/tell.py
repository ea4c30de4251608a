"""What was read, in lines for people: the first that a search, a training or an evaluation prints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath

import numpy as np

from nasdsl.runtime.data.errors import DataError, some
from nasdsl.runtime.data.files import Files, is_image
from nasdsl.runtime.data.images import BLACK_TO_WHITE, decode, depth, orientation, spread
from nasdsl.runtime.data.reading import Reading
from nasdsl.runtime.data.splits import DataSplits

LOOKED_AT = 16
"""So many images are decoded to tell what their pixels are like, and no more than so many pixels:"""
MOST_PIXELS = 40_000_000
NARROW = 1 / 8
"""A range of pixels below this share of what there is between black and white is hardly meant."""
PICTURES = frozenset({
    ".gif", ".heic", ".heif", ".avif", ".jp2", ".j2k", ".tga", ".svg", ".psd", ".ico", ".exr", ".hdr", ".dcm", ".nii",
    ".npy", ".npz", ".raw", ".dng", ".cr2", ".nef", ".arw", ".mat", ".tfrecord", ".parquet",
})  # fmt: skip
"""Endings of images that are not read, wherever they lie."""


def told(data: DataSplits) -> list[str]:
    """Where each split is from, classes, ignored labels, what was left out and why, what pixels are like, and how
    another reader is chosen. Lines of what is hardly meant begin with `warning: `."""
    reading = data.reading
    if reading is None:
        return [f"data: {data.description}", *_counted(data), *_normalised(data)]
    others = [name for name in reading.layouts if name != reading.reader]
    another = f"; another layout: --reader {' | '.join(map(repr, others))}" if others else ""
    lines = [f"data: {reading.spec}, read as {reading.reader} ({data.task}){another}"]
    lines += _counted(data, f", from {reading.train}", f", from {reading.val}")
    lines += [note for note in reading.notes if not note.startswith("warning: ")]
    lines += list(_left_out(reading))
    lines += _pixels(reading)
    # A warning comes last, next to what the run says of itself.
    found = [line for line in lines if line.startswith("warning: ")]
    return [line for line in lines if line not in found] + [
        note for note in reading.notes if note.startswith("warning: ")
    ] + found  # fmt: skip


def _counted(data: DataSplits, train: str = "", val: str = "") -> list[str]:
    what = {"keypoints": "instances", "regression": "rows"}.get(data.task, "images")
    lines = [f"training: {len(data.train):,} {what}{train}", f"validation: {len(data.val):,} {what}{val}"]
    if data.task == "regression":
        return lines
    numbered = [f"{number} {name}" for number, name in enumerate(data.classes)]
    lines.append(f"classes: {len(numbered)}: {some(numbered, 8)}")
    if data.layout is not None:
        joints = [f"{number} {name}" for number, name in enumerate(data.layout.names)]
        lines.append(f"joints: {len(joints)}: {some(joints, 8)}")
    return lines


def _normalised(data: DataSplits) -> list[str]:
    if data.normalised is None:
        return []
    by = "" if data.normalised.mean is None else f" by {data.normalised.mean} and {data.normalised.std}"
    return [f"images: normalised already{by}, so nothing is done to their values"]


def _left_out(reading: Reading) -> Iterator[str]:
    if reading.files.chosen is not None and not reading.images:  # a table is one file, whatever lies beside it
        return
    used = {*reading.images, *reading.others}
    beside = {str(PurePosixPath(name).parent) for name in reading.images}
    reasons: Counter[str] = Counter()
    for name, why in reading.files.left_out:
        reasons[f"{why}, such as {name}"] += 1
    unused: dict[str, list[str]] = {}
    for name in reading.files.names:
        if name in used:
            continue
        path = PurePosixPath(name)
        if is_image(name):
            unused.setdefault(f"images of {path.parent}/, in no split and of no annotation", []).append(name)
        elif path.suffix.lower() in PICTURES or (str(path.parent) in beside and path.parent != PurePosixPath(".")):
            unused.setdefault(f"files ending in {path.suffix or 'nothing'}, which are no images here", []).append(name)
    parts = [f"{len(names):,} {what} ({some(names, 1)})" for what, names in unused.items()]
    parts += [f"{count} files: {why}" for why, count in reasons.items()]
    if parts:
        yield f"left out: {some(parts, 5)}"


@dataclass
class _Look:
    """What was seen of some images."""

    images: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    sizes: set[tuple[int, int]] = field(default_factory=set)
    low: dict[str, float] = field(default_factory=dict)
    high: dict[str, float] = field(default_factory=dict)
    turned: int = 0
    clear: int = 0
    frames: int = 0
    unreadable: list[str] = field(default_factory=list)


def _pixels(reading: Reading) -> list[str]:
    images = list(dict.fromkeys(reading.images))
    if not images:
        return []
    look = _looked(reading.files, [images[i] for i in spread(len(images), LOOKED_AT)])
    lines = []
    if look.images:
        kinds = ", ".join(kind for kind, _ in look.kinds.most_common(4))
        (h0, w0), (h1, w1) = min(look.sizes), max(look.sizes)
        sizes = f"{w0}x{h0}" if len(look.sizes) == 1 else f"{len(look.sizes)} sizes such as {w0}x{h0} and {w1}x{h1}"
        ranges = "; ".join(f"{kind} values from {look.low[kind]:g} to {look.high[kind]:g}" for kind in sorted(look.low))
        lines.append(f"pixels: {kinds}; {sizes}; {ranges} ({look.images} of {len(images):,} images looked at)")
    if look.turned:
        lines.append(f"turned: {look.turned} of these {look.images} images, as their cameras noted (EXIF)")
    if look.clear:
        lines.append(f"transparent: {look.clear} of these {look.images} images, laid over white")
    if look.frames:
        lines.append(f"warning: {look.frames} of these {look.images} images have several frames; the first is read")
    for kind in look.low:
        black, white = BLACK_TO_WHITE.get(kind, (0.0, 255.0))
        if look.high[kind] - look.low[kind] < NARROW * (white - black):
            lines.append(
                f"warning: {kind} pixels are from {look.low[kind]:g} to {look.high[kind]:g} only, "
                f"of {black:g} to {white:g}: is that their range?"
            )
    if len(look.low) > 1:
        lines.append(f"warning: there are {' and '.join(sorted(look.low))} pixels beside each other")
    return lines + [f"warning: {reason}" for reason in look.unreadable[:3]]


def _looked(files: Files, names: Iterable[str]) -> _Look:
    look, pixels = _Look(), 0
    for name in names:
        if pixels > MOST_PIXELS:
            break
        try:
            image = decode(files.read(name), files.at(name))
        except DataError as problem:  # it is refused when it is used; here it is one of those that are looked at
            look.unreadable.append(str(problem).splitlines()[0])
            continue
        pixels += image.width * image.height
        kind, values = depth(image), np.asarray(image if image.mode != "P" else image.convert("RGB"))
        look.images += 1
        look.kinds[f"{image.format} {kind} {image.mode}"] += 1
        look.sizes.add((image.height, image.width))
        low, high = float(values.min()), float(values.max())
        scale = 255.0 if image.mode == "1" else 1.0
        look.low[kind] = min(look.low.get(kind, np.inf), low * scale)
        look.high[kind] = max(look.high.get(kind, -np.inf), high * scale)
        look.turned += orientation(image) != 1
        look.clear += image.has_transparency_data
        look.frames += getattr(image, "n_frames", 1) > 1
    return look
