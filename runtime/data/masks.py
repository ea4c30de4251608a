"""Layouts of images with masks: lists of pairs, parallel folders, Cityscapes, ADE20K."""

from __future__ import annotations

from collections import defaultdict
from pathlib import PurePosixPath

import numpy as np

from nasdsl.runtime.data.errors import DataError
from nasdsl.runtime.data.files import Files, is_image
from nasdsl.runtime.data.images import decode
from nasdsl.runtime.data.pairs import IGNORE, WRONG, Labels, Pairs, mask_values, read_pairs
from nasdsl.runtime.data.readers import Reader, pick_splits, split_of
from nasdsl.runtime.data.splits import DataSplits, Request

MASK_FOLDERS = ("masks", "labels", "annotations", "annots", "segmentation", "gt")
MOST_MASKS_TO_COUNT_CLASSES = 2000

# Cityscapes: the 34 raw ids of which 19 are evaluated, in order of train id.
CITYSCAPES = {
    7: "road", 8: "sidewalk", 11: "building", 12: "wall", 13: "fence", 17: "pole", 19: "traffic light",
    20: "traffic sign", 21: "vegetation", 22: "terrain", 23: "sky", 24: "person", 25: "rider", 26: "car", 27: "truck",
    28: "bus", 31: "train", 32: "motorcycle", 33: "bicycle",
}  # fmt: skip


def class_names(files: Files) -> list[str] | None:
    """The lines of `classes.txt` (or `labels.txt`), or None."""
    name = next((name for name in ("classes.txt", "labels.txt") if name in files), None)
    return [line.strip() for line in files.text(name).splitlines() if line.strip()] if name else None


# Lists of pairs -----------------------------------------------------------------------------------------------------


def _lists(files: Files) -> list[str]:
    return [name for name in files.names if "/" not in name and name.endswith(".txt") and split_of(name[:-4])]


def _accepts_lists(files: Files) -> bool:
    names = _lists(files)
    return bool(names) and all(len(files.text(name).strip().partition("\n")[0].split()) == 2 for name in names)


def _read_lists(files: Files, request: Request) -> DataSplits:
    train_name, val_name = pick_splits([name[:-4] for name in _lists(files)], files.title)
    train = _listed(files, f"{train_name}.txt")
    val = _listed(files, f"{val_name}.txt") if val_name else None
    labels = _labels(files, train + (val or []))
    return read_pairs(files, train, val, labels, request, "lists of images and masks")


def _listed(files: Files, name: str) -> Pairs:
    pairs: Pairs = []
    for number, line in enumerate(files.text(name).splitlines(), start=1):
        words = line.split()
        if not words:
            continue
        if len(words) != 2:
            raise DataError(f"{files.at(name)}, line {number}: expected an image and a mask, found {len(words)} words")
        members = [PurePosixPath(word.replace("\\", "/").lstrip("/")).as_posix() for word in words]
        for member in members:
            if member not in files:
                raise DataError(f"{files.at(name)}, line {number}: there is no file {member}")
        pairs.append((members[0], members[1]))
    if not pairs:
        raise DataError(f"{files.at(name)} lists no images: the split is empty")
    return pairs


# Parallel folders ---------------------------------------------------------------------------------------------------


def _parallel(files: Files) -> dict[str, tuple[str, str]]:
    """Split name to image folder and mask folder: `images/train` + `masks/train`, or `train` + `trainannot`."""
    folders = {str(PurePosixPath(name).parent) for name in files.names if is_image(name)}
    found: dict[str, tuple[str, str]] = {}
    for folder in sorted(folders):
        parts = folder.split("/")
        if len(parts) == 2 and parts[0] == "images" and split_of(parts[1]):
            others = [f"{masks}/{parts[1]}" for masks in MASK_FOLDERS]
        elif len(parts) == 2 and parts[1] == "images" and split_of(parts[0]):
            others = [f"{parts[0]}/{masks}" for masks in MASK_FOLDERS]
        elif len(parts) == 1 and split_of(folder):
            others = [f"{folder}annot", f"{folder}_annot", f"{folder}_labels", f"{folder}_masks"]
        else:
            continue
        mask_folder = next((other for other in others if other in folders), None)
        if mask_folder:
            found[next(part for part in parts if split_of(part))] = (folder, mask_folder)
    return found


def _read_parallel(files: Files, request: Request) -> DataSplits:
    folders = _parallel(files)
    train_name, val_name = pick_splits(list(folders), files.title)
    train = _matched(files, *folders[train_name])
    val = _matched(files, *folders[val_name]) if val_name else None
    return read_pairs(files, train, val, _labels(files, train + (val or [])), request, "folders of images and masks")


def _matched(files: Files, image_folder: str, mask_folder: str) -> Pairs:
    """Images with the masks of the same stem (or the stem with an ending such as `_mask`)."""
    masks = {PurePosixPath(name).stem: name for name in files.below(mask_folder) if is_image(name)}
    pairs: Pairs = []
    for name in files.below(image_folder):
        if not is_image(name):
            continue
        stem = PurePosixPath(name).stem
        mask = next((masks[key] for key in (stem, f"{stem}_mask", f"{stem}_label", f"{stem}_L") if key in masks), None)
        if mask is None:
            raise DataError(f"{files.at(name)} has no mask {mask_folder}/{stem}.png")
        pairs.append((name, mask))
    return pairs


def _labels(files: Files, pairs: Pairs) -> Labels:
    """From the list of classes, or else from the greatest label in the masks."""
    names = class_names(files)
    if names is not None:
        return Labels.named(names)
    if len(pairs) > MOST_MASKS_TO_COUNT_CLASSES:
        raise DataError(
            f"{files.title} has no classes.txt, and {len(pairs)} masks are too many to look through",
            help="list the names of the classes, one a line and in order of label, in classes.txt",
        )
    greatest = 0
    for _, name in pairs:
        values = mask_values(decode(files.read(name), files.at(name)), files.at(name))
        greatest = max(greatest, int(values[values != IGNORE].max(initial=0)))
    return Labels.named([f"class {i}" for i in range(greatest + 1)])


# Cityscapes ---------------------------------------------------------------------------------------------------------


def _cityscapes(files: Files) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for name in files.names:
        if name.startswith("leftImg8bit/") and name.count("/") == 3 and name.endswith("_leftImg8bit.png"):
            found[name.split("/")[1]].append(name)
    return dict(found)


def _read_cityscapes(files: Files, request: Request) -> DataSplits:
    images = _cityscapes(files)
    # The masks of the official test split are blank, so it never validates.
    train_name, val_name = pick_splits([name for name in images if split_of(name) != "test"], files.title)
    every = [name for split in (train_name, val_name) if split for name in images[split]]
    by_train_id = all(_city_mask(name, "labelTrainIds") in files for name in every)
    kind = "labelTrainIds" if by_train_id else "labelIds"
    table = np.full(256, IGNORE, dtype=np.uint8)
    values = range(len(CITYSCAPES)) if by_train_id else CITYSCAPES
    for train_id, value in enumerate(values):
        table[value] = train_id
    for value in range(len(CITYSCAPES) if by_train_id else 34, IGNORE):
        table[value] = WRONG
    for name in every:
        if _city_mask(name, kind) not in files:
            raise DataError(f"{files.at(name)} has no mask {_city_mask(name, kind)}")
    pairs = {split: [(name, _city_mask(name, kind)) for name in listed] for split, listed in images.items()}
    labels = Labels(tuple(CITYSCAPES.values()), table)
    val = pairs[val_name] if val_name else None
    return read_pairs(files, pairs[train_name], val, labels, request, f"Cityscapes with {kind}")


def _city_mask(image: str, kind: str) -> str:
    return f"gtFine/{image.removeprefix('leftImg8bit/').removesuffix('_leftImg8bit.png')}_gtFine_{kind}.png"


# ADE20K -------------------------------------------------------------------------------------------------------------


def _is_ade20k(files: Files) -> bool:
    folders = {"/".join(name.split("/")[:2]) for name in files.names if name.count("/") == 2}
    return {"images/training", "annotations/training"} <= folders


def _read_ade20k(files: Files, request: Request) -> DataSplits:
    train = _matched(files, "images/training", "annotations/training")
    val = _matched(files, "images/validation", "annotations/validation") or None
    classes = class_names(files) or _object_info(files) or [f"class {i}" for i in range(1, 151)]
    table = np.full(256, WRONG, dtype=np.uint8)
    table[0] = table[255] = IGNORE
    table[1 : len(classes) + 1] = np.arange(len(classes))
    return read_pairs(files, train, val, Labels(tuple(classes), table), request, "ADE20K")


def _object_info(files: Files) -> list[str] | None:
    if "objectInfo150.txt" not in files:
        return None
    rows = [line.split("\t") for line in files.text("objectInfo150.txt").splitlines()[1:]]
    return [row[-1].split(",")[0].strip() for row in rows if len(row) > 1]


PAIR_LISTS = Reader(
    "lists of images and masks",
    "segmentation",
    'train.txt and val.txt with lines "image mask"',
    _accepts_lists,
    _read_lists,
)
ADE20K = Reader("ADE20K", "segmentation", "images/training with annotations/training", _is_ade20k, _read_ade20k)
CITY = Reader(
    "Cityscapes",
    "segmentation",
    "leftImg8bit/train/<city>/*_leftImg8bit.png with gtFine/train/<city>/*_gtFine_labelIds.png",
    lambda files: bool(_cityscapes(files)) and any(name.startswith("gtFine/") for name in files.names),
    _read_cityscapes,
)
MASK_FOLDER_PAIRS = Reader(
    "folders of images and masks",
    "segmentation",
    "images/train with masks/train, or train with trainannot",
    lambda files: bool(_parallel(files)),
    _read_parallel,
)
