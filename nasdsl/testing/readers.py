"""What readers of data are held to."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nasdsl.runtime.data import DataError, DataSplits, Files, Reader, Request, Samples, find_readers, told
from nasdsl.runtime.data.files import open_files
from nasdsl.runtime.data.images import Size, spread
from nasdsl.runtime.data.labels import IGNORE
from nasdsl.testing.contract import ContractError, require

MOST_READ = 64
"""Samples of a split that are looked at."""
MOST_DAMAGED = 6
"""Files that are cut short, one after the other."""


def check_reader(reader: Reader, path: str | Path, *, size: Size = (12, 16), channels: int = 3) -> None:
    """Holds a reader to its word on some files of its layout: it recognises them, and no other reader of the task does;
    it gives samples as the task has them, the same each time, from a folder as from a zip of it; it says what it read;
    and whatever is wrong with a file is a `DataError`.

    Args:
        path: a folder, or a file that the reader takes by itself. Few and small files will do.
        size: height and width that samples are asked for in; tables have their own.
        channels: of images.

    Raises:
        ContractError: something does not hold.
    """
    name, place = reader.name, Path(path)
    require(name and reader.task and reader.expects, f"the reader `{name}` does not say what it expects")
    files = open_files(place)
    require(reader.accepts(files), f"`{name}` does not accept {place}")
    others = [one for one in find_readers().values() if one.name != name and one.task == reader.task]
    rivals = [one.name for one in others if one.accepts(open_files(place))]
    require(not rivals, f"{place} is also accepted by {', '.join(rivals)}, so that a user would have to choose")
    request = Request(reader.task, size=size, channels=channels)
    data = reader.read(files, request)
    require(isinstance(data, DataSplits), f"`{name}` gives a {type(data).__name__}, and no `DataSplits`")
    require(data.task == reader.task, f"`{name}` is for {reader.task}, and gives data for {data.task}")
    _check_told(name, data)
    for word, split in (("train", data.train), ("validation", data.val)):
        _check_samples(f"the {word} split of `{name}`", split, data)
    again = reader.read(open_files(place), request)
    _check_same(f"`{name}` read twice", data, again)
    with tempfile.TemporaryDirectory() as folder:
        if place.is_dir():
            packed = Path(folder) / "packed.zip"
            _pack(place, packed)
            _check_same(f"`{name}` from a zip", data, reader.read(open_files(packed), request))
            _check_damage(reader, place, Path(folder), request)
        empty = Path(folder) / "empty"
        empty.mkdir()
        require(not reader.accepts(Files(empty)), f"`{name}` accepts an empty folder")


def _check_told(name: str, data: DataSplits) -> None:
    reading = data.reading
    if reading is None:
        raise ContractError(f"`{name}` does not say what it has read (`DataSplits.reading`)")
    require(reading.train and reading.val, f"`{name}` does not say where its splits are from")
    known = set(reading.files.names)
    strange = [one for one in (*reading.images, *reading.others) if one not in known]
    require(not strange, f"`{name}` says that it has read {strange[:1]}, which is no member of the files")
    lines = told(data)
    require(len(lines) > 2 and all(line and "\n" not in line for line in lines), f"what `{name}` tells are no lines")
    require(data.description and "\n" not in data.description, f"the description of `{name}` is no line")


def _check_samples(where: str, samples: Samples, data: DataSplits) -> None:
    rows = spread(len(samples), MOST_READ)
    images, targets = samples.batch(rows)
    dtype = torch.float32 if data.task == "regression" else torch.uint8
    require(images.dtype == dtype, f"{where} has images of {images.dtype}, and not of {dtype}")
    wanted = (len(rows), data.channels)
    require(tuple(images.shape[:2]) == wanted, f"{where} has images of {tuple(images.shape)}, and {wanted} are needed")
    if data.task != "detection":
        sides = tuple(images.shape[2:])
        require(sides == tuple(data.size), f"{where} has images of {sides}, and it says {tuple(data.size)}")
    image, target = samples[rows[0]]
    require(image.dtype == torch.float32, f"a sample of {where} is no float32 image")
    alone, answers = samples.batch(rows[:1])
    scaled = alone[0].float() / 255 if alone.dtype == torch.uint8 else alone[0]
    require(torch.allclose(image, scaled), f"a sample of {where} is another one by itself than in a batch")
    _check_targets(where, targets, data)
    require(_comparable(target, answers), f"the target of a sample of {where} is another one by itself than in a batch")


def _comparable(target: Any, answers: Any) -> bool:
    if isinstance(answers, dict):
        return isinstance(target, dict) and all(torch.equal(target[key], value[0]) for key, value in answers.items())
    return bool(torch.equal(torch.as_tensor(target), answers[0]))


def _check_targets(where: str, targets: Any, data: DataSplits) -> None:
    n = len(data.classes)
    if data.task == "classification":
        fits = targets.dtype == torch.int64 and targets.dim() == 1 and 0 <= int(targets.min()) <= int(targets.max()) < n
        require(fits, f"the labels of {where} are not whole numbers from 0 to {n - 1}")
    elif data.task == "segmentation":
        there = targets[targets != IGNORE]
        fits = targets.dtype == torch.int64 and targets.dim() == 3
        require(fits and (not len(there) or int(there.max()) < n), f"the masks of {where} hold other classes")
    elif data.task == "regression":
        fits = targets.dtype == torch.float32 and tuple(targets.shape[1:]) == (n,) and bool(targets.isfinite().all())
        require(fits, f"the targets of {where} are not {n} finite numbers each")
    elif data.task == "detection":
        labels, boxes = targets["labels"], targets["boxes"]
        require(int(labels.max()) < n, f"{where} has a box of class {int(labels.max())}, and there are {n} classes")
        there = boxes[labels >= 0]
        require((there[:, 2:] > there[:, :2]).all(), f"{where} has a box without area")
    elif data.task == "keypoints" and data.layout is not None:
        joints = tuple(targets["joints"].shape[1:])
        require(joints == (len(data.layout.names), 3), f"{where} has joints of {joints}")


def _check_same(where: str, one: DataSplits, other: DataSplits) -> None:
    require(one.classes == other.classes, f"{where} has other classes: {one.classes} and {other.classes}")
    for mine, theirs in ((one.train, other.train), (one.val, other.val)):
        require(len(mine) == len(theirs), f"{where} has {len(theirs)} samples, and then {len(mine)}")
        rows = spread(len(mine), 8)
        for a, b in zip(_flat(mine.batch(rows)), _flat(theirs.batch(rows)), strict=True):
            require(torch.equal(a, b), f"{where} has other samples")


def _flat(batch: tuple[Tensor, Any]) -> list[Tensor]:
    images, targets = batch
    return [images, *(targets.values() if isinstance(targets, dict) else [targets])]


def _pack(folder: Path, out: Path) -> None:
    with zipfile.ZipFile(out, "w") as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(folder).as_posix())


def _check_damage(reader: Reader, place: Path, folder: Path, request: Request) -> None:
    """Files that are cut short give samples, or a `DataError`."""
    every = sorted(file.relative_to(place) for file in place.rglob("*") if file.is_file())
    for number in spread(len(every), MOST_DAMAGED):
        copy = folder / f"damaged{number}"
        shutil.copytree(place, copy)
        file = copy / every[number]
        content = file.read_bytes()
        file.write_bytes(content[: len(content) // 2])
        try:
            files = open_files(copy)
            if reader.accepts(files):
                data = reader.read(files, request)
                for split in (data.train, data.val):
                    split.batch(spread(len(split), MOST_READ))
                told(data)
        except DataError:
            pass
        except Exception as problem:  # the plug-in's
            message = f"`{reader.name}` raises a {type(problem).__name__} where {every[number]} is cut short: {problem}"
            raise ContractError(message) from problem
