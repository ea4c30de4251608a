"""IDX files, as of MNIST: `…images-idx3-ubyte.gz` with `…labels-idx1-ubyte.gz`."""

from __future__ import annotations

import gzip
import io
import math
import re
import struct
import zlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nasdsl.compiler.diagnostics import cause
from nasdsl.runtime.data.datasets import ClassificationSet
from nasdsl.runtime.data.errors import DataError, some
from nasdsl.runtime.data.files import Files
from nasdsl.runtime.data.images import Bytes, Cached, Size
from nasdsl.runtime.data.readers import Reader, by_cross, hold_out
from nasdsl.runtime.data.reading import Reading, held_from
from nasdsl.runtime.data.split_names import split_of
from nasdsl.runtime.data.splits import DataSplits, Request

LARGEST = 4 << 30
IMAGES = re.compile(r"^(?P<split>.*?)[-_.]?images[-.]idx3[-.]ubyte(\.gz)?$", re.IGNORECASE)


@dataclass(frozen=True)
class _Pair:
    images: str
    labels: str
    split: str


def accepts(files: Files) -> bool:
    """Whether there is a file named as IDX images are (or the user named one of a pair)."""
    return bool(_image_files(files))


def read(files: Files, request: Request) -> DataSplits:
    """`train…` trains and `t10k…`/`test…` validates; of one split alone, a fixed 20 % of each label validates.

    Raises:
        DataError: a partner is missing, a file is cut short or is not IDX, or the numbers of images and labels differ.
    """
    pairs = [_pair(files, name) for name in _image_files(files)]
    train, test = _train_and_test(files, pairs)
    pixels, labels = _load(files, train)
    sources = held_from(train.images)
    if test is None:
        kept, held = hold_out(range(len(labels)), request.seed, [(label,) for label in labels.tolist()])
        parts = (pixels[kept], labels[kept], pixels[held], labels[held])
        note = "; one split only, so a fixed 20 % of it validates"
    else:
        parts, note = (pixels, labels, *_load(files, test)), f"; validation is {test.split}"
        sources = (train.images, test.images)
    size = request.size or (int(pixels.shape[-2]), int(pixels.shape[-1]))
    count = int(max(parts[1].max(initial=0), parts[3].max(initial=0))) + 1
    return DataSplits(
        train=_samples(parts[0], parts[1], request.train_size or size, request.channels),
        val=_samples(parts[2], parts[3], size, request.channels),
        task="classification",
        classes=tuple(str(i) for i in range(count)),
        channels=request.channels,
        size=size,
        description=f"{files.title}: IDX, {len(parts[1])} train and {len(parts[3])} validation images at "
        f"{by_cross(size)}, {count} classes{note}",
        reading=Reading(
            files,
            *sources,
            (),
            tuple(name for pair in pairs for name in (pair.images, pair.labels)),
            _told(parts, count),
        ),
    )


def _told(parts: tuple[Bytes, ...], count: int) -> tuple[str, ...]:
    """What pixels are like, and the labels that a split has not."""
    low, high = min(int(parts[i].min(initial=255)) for i in (0, 2)), max(int(parts[i].max(initial=0)) for i in (0, 2))
    height, width = parts[0].shape[-2:]
    told = [f"pixels: IDX 8-bit grey; {width}x{height}; values from {low} to {high}"]
    for what, labels in (("trains", parts[1]), ("validates", parts[3])):
        missing = sorted(set(range(count)) - set(labels.tolist()))
        if missing:
            told.append(f"warning: no image of the label {some(map(str, missing))} {what}")
    return tuple(told)


def _train_and_test(files: Files, pairs: list[_Pair]) -> tuple[_Pair, _Pair | None]:
    """
    Raises:
        DataError: which of several pairs is which, their names do not say.
    """
    if len(pairs) == 1:
        return pairs[0], None
    kinds = {pair.split: "test" if pair.split == "t10k" else split_of(pair.split) for pair in pairs}
    of = {kind: [pair for pair in pairs if kinds[pair.split] == kind] for kind in ("train", "val", "test")}
    held = of["val"] or of["test"]
    if len(of["train"]) != 1 or len(held) != 1:
        raise DataError(
            f"{files.title} has {len(pairs)} pairs of IDX files, where one trains and one validates: "
            f"{some([pair.images for pair in pairs])}",
            help="name one of them, or call them train-images-idx3-ubyte and t10k-images-idx3-ubyte",
        )
    return of["train"][0], held[0]


def _image_files(files: Files) -> list[str]:
    if files.chosen is None:
        return [name for name in files.names if IMAGES.match(name.split("/")[-1])]
    images = re.sub(r"labels([-.])idx1", r"images\1idx3", files.chosen)
    if not IMAGES.match(images.split("/")[-1]):
        return []
    beside = [name for name in files.names if "/" not in name and name != images and IMAGES.match(name)]
    return [images, *beside]


def _pair(files: Files, images: str) -> _Pair:
    labels = re.sub(r"images([-.])idx3", r"labels\1idx1", images)
    for name in (images, labels):
        if name not in files:
            raise DataError(f"{files.title} has no file {name}", help="IDX images and labels come in pairs")
    match = IMAGES.match(images.split("/")[-1])
    return _Pair(images, labels, match.group("split") if match else "")


def _load(files: Files, pair: _Pair) -> tuple[Bytes, Bytes]:
    images, labels = _values(files, pair.images, 3), _values(files, pair.labels, 1)
    if len(images) != len(labels):
        raise DataError(f"{pair.images} has {len(images)} images but {pair.labels} has {len(labels)} labels")
    return images, labels


def _values(files: Files, name: str, dimensions: int) -> Bytes:
    """The array in one IDX file; hardly reads more than its header announces."""
    where, raw = files.at(name), files.read(name)
    stream = gzip.GzipFile(fileobj=io.BytesIO(raw)) if raw[:2] == b"\x1f\x8b" else io.BytesIO(raw)
    try:
        header = stream.read(4 + 4 * dimensions)
        if len(header) < 4 + 4 * dimensions or header[:3] != b"\0\0\x08" or header[3] != dimensions:
            raise DataError(f"{where} is not an IDX file of bytes with {dimensions} dimensions")
        shape = struct.unpack(f">{dimensions}I", header[4:])
        wanted = math.prod(shape)
        if wanted > LARGEST:
            raise DataError(f"{where} announces {wanted >> 30} GiB; at most {LARGEST >> 30} GiB are read")
        if 0 in shape[1:]:
            raise DataError(f"{where} announces images of {shape[2]} x {shape[1]} pixels")
        content = stream.read(wanted + 1)  # to the end, where packed bytes have their checksum
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{where} cannot be unpacked: {cause(error)}") from error
    if len(content) != wanted:
        which = "is cut short" if len(content) < wanted else "goes on after what it announces"
        raise DataError(f"{where} {which}: {len(content):,} bytes of {wanted:,}")
    return np.frombuffer(content, dtype=np.uint8).reshape(shape)


def resized(grey: Tensor, size: Size) -> Tensor:
    """Images (N, H, W), uint8, resized all at once (bicubic, anti-aliased)."""
    if tuple(grey.shape[-2:]) == size:
        return grey
    parts = [
        torch.nn.functional.interpolate(part[:, None].float(), size, mode="bicubic", antialias=True)
        for part in torch.split(grey, 4096)
    ]
    return torch.cat([part.round().clamp(0, 255).to(torch.uint8)[:, 0] for part in parts] or [grey.new_empty(0, *size)])


def _samples(images: Bytes, labels: Bytes, size: Size, channels: int) -> ClassificationSet:
    grey = resized(torch.from_numpy(images.copy()), size)
    # The channels of a grey image are one memory seen `channels` times.
    pixels = Cached.of(grey[:, None].expand(-1, channels, -1, -1))
    return ClassificationSet(pixels, torch.from_numpy(labels.astype(np.int64)))


IDX = Reader(
    name="IDX files",
    task="classification",
    expects="train-images-idx3-ubyte.gz with train-labels-idx1-ubyte.gz",
    accepts=accepts,
    read=read,
)
