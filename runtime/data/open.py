"""`open_data`: from what the user wrote after `--data` to splits, by finding the reader that knows the layout."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from nasdsl.runtime.data.coco import COCO_KEYPOINTS
from nasdsl.runtime.data.coco_boxes import COCO_BOXES
from nasdsl.runtime.data.digits import read_default
from nasdsl.runtime.data.errors import DataError, did_you_mean
from nasdsl.runtime.data.files import Files, open_files
from nasdsl.runtime.data.folders import IMAGE_FOLDERS
from nasdsl.runtime.data.idx import IDX
from nasdsl.runtime.data.images import Size
from nasdsl.runtime.data.masks import ADE20K, CITY, FOLDERS, PAIR_LISTS, VOC_MASKS
from nasdsl.runtime.data.plugins import with_entry_points
from nasdsl.runtime.data.readers import Reader
from nasdsl.runtime.data.splits import GIB, DataSplits, Request
from nasdsl.runtime.data.tables import TABLES
from nasdsl.runtime.data.voc import VOC
from nasdsl.runtime.data.yolo import YOLO

# Each accepts what is laid out as it expects and nothing else; where two accept, the user chooses.
READERS = (
    IDX, IMAGE_FOLDERS, CITY, ADE20K, VOC_MASKS, PAIR_LISTS, FOLDERS, COCO_KEYPOINTS, COCO_BOXES, VOC, YOLO,
    TABLES,
)  # fmt: skip


BUILT_IN: Mapping[str, tuple[str, ...]] = {
    "digits": ("classification", "segmentation", "keypoints", "detection"),
    "diabetes": ("regression",),
}
"""Names of the data that ships, with the tasks that it is for."""


def is_built_in(spec: str) -> bool:
    """Whether data is named that ships, and no file or folder of that name is there."""
    return spec in BUILT_IN and not Path(spec).exists()


def find_readers() -> dict[str, Reader]:
    """The built-in readers and those that installed packages offer in the entry-point group `nasdsl.readers`.

    Raises:
        PluginError: a name is taken twice or an entry point is not a `Reader`.
    """
    builtin = {reader.name: reader for reader in READERS}
    return with_entry_points("nasdsl.readers", builtin, lambda value: isinstance(value, Reader))


def open_data(
    spec: str | None,
    task: str,
    *,
    size: Size | None = None,
    train_size: Size | None = None,
    channels: int = 3,
    seed: int = 0,
    cache_bytes: int = GIB,
    centre_crop: float = 1.0,
    canvas: Size = (64, 64),
    scenes: tuple[int, int] = (512, 128),
    sides: tuple[int, int] | None = None,
    reader: str | None = None,
    links: bool = False,
) -> DataSplits:
    """The data that `spec` names: a folder, a zip, a COCO `.json`, a YOLO `.yaml`, an IDX `.gz`, a `.csv`, or data that
    ships, `digits` or `diabetes`; None is what of these is for the task.

    Args:
        task: the name of a task, such as "classification", "segmentation", "keypoints" or "detection".
        size: height and width of samples; None takes that of the files, or the usual one of the task. For detection
            it leaves images as they are, up to 800 and 1333 pixels, and pads each batch to a multiple of 32.
        train_size: of stored training samples, when augmentation is to crop `size` out of more.
        channels: 1 for grey, 3 for colour. Tables have their own.
        seed: of held-out splits and of the embedded scenes.
        cache_bytes: decoded samples are kept in memory when a split takes no more than this.
        centre_crop: fraction of the image that validation shows (classification; 224/256 in the HR-NAS paper).
        canvas, scenes: size, and numbers for train and validation, of the embedded scenes.
        sides: shortest and longest side of images, in place of `size`, for batches of different size (detection).
        reader: the name of a reader, to skip the search for one.
        links: follow links that lead out of the folder.

    Raises:
        DataError: in the user's words, for everything that can be wrong with the files.
    """
    request = Request(task, size, train_size, channels, seed, cache_bytes, centre_crop, canvas, scenes, sides)
    if spec is None:
        return read_default(request)
    if is_built_in(spec):
        if task not in BUILT_IN[spec]:
            names = [name for name, tasks in BUILT_IN.items() if task in tasks]
            help = f"what ships for {task} is {' or '.join(names)}" if names else "name your own"
            raise DataError(f"`{spec}` is data for {', '.join(BUILT_IN[spec])}, but the task is {task}", help=help)
        return read_default(request)
    readers = find_readers()
    files = open_files(spec, links)
    if reader is not None:
        if reader not in readers:
            raise DataError(f'there is no reader "{reader}"', help=did_you_mean(reader, readers) or ", ".join(readers))
        if readers[reader].task != task:
            names = [one.name for one in readers.values() if one.task == task]
            raise DataError(
                f'the reader "{reader}" is for {readers[reader].task}, but the task is {task}', help=", ".join(names)
            )
        if not (readers[reader].could or readers[reader].accepts)(files):
            raise DataError(
                f'{files.title} cannot be read as "{reader}"', help=f"that expects {readers[reader].expects}"
            )
        return _noted(readers[reader].read(files, request), spec, readers[reader], readers)
    known = {one.task for one in readers.values()}
    if task not in known:
        raise DataError(
            f'no reader is for the task "{task}"', help=did_you_mean(task, known) or ", ".join(sorted(known))
        )
    fitting = [one for one in readers.values() if one.task == task and one.accepts(files)]
    if not fitting:
        raise _refusal(files, task, readers)
    if len(fitting) > 1:
        raise DataError(
            f"{files.title} can be read in {len(fitting)} ways: "
            + " or ".join(f'as "{one.name}" ({one.expects})' for one in fitting),
            help=" or ".join(f'--reader "{one.name}"' for one in fitting),
        )
    return _noted(fitting[0].read(files, request), spec, fitting[0], readers)


def _noted(data: DataSplits, spec: str, reader: Reader, readers: Mapping[str, Reader]) -> DataSplits:
    """The data with how it was read."""
    if data.reading is None:
        return data
    layouts = tuple(one.name for one in readers.values() if one.task == reader.task)
    reading = dataclasses.replace(data.reading, spec=spec, reader=reader.name, layouts=layouts)
    return dataclasses.replace(data, reading=reading)


def _refusal(files: Files, task: str, readers: Mapping[str, Reader]) -> DataError:
    """Why nothing reads these files for the task, naming what they seem to be."""
    expected = "; or ".join(one.expects for one in readers.values() if one.task == task)
    if not files.names:
        return DataError(f"{files.path} is empty", help=f"{task} expects {expected}")
    others = [one for one in readers.values() if one.task != task and one.accepts(files)]
    if others:
        kinds = " and ".join(f"{one.task} ({one.name})" for one in others)
        return DataError(
            f"{files.title} is data for {kinds}, but the task is {task}", help=f"{task} expects {expected}"
        )
    if files.chosen is not None:
        return DataError(f"{files.title} is not a file that can be read for {task}", help=f"expected {expected}")
    tops = sorted({name.split("/")[0] + ("/" if "/" in name else "") for name in files.names})
    found = ", ".join(tops[:6]) + (f" and {len(tops) - 6} more" if len(tops) > 6 else "")
    return DataError(
        f"the layout of {files.title} is not known for {task}: it has {found}", help=f"expected {expected}"
    )
