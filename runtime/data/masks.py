"""Layouts of images with masks: lists of pairs, folders beside each other, Cityscapes, ADE20K, Pascal VOC."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import PurePosixPath

import numpy as np

from nasdsl.runtime.data.errors import DataError, some
from nasdsl.runtime.data.files import Files, is_image
from nasdsl.runtime.data.images import decode, spread
from nasdsl.runtime.data.labels import (
    IGNORE,
    WRONG,
    Labels,
    Named,
    Survey,
    class_list,
    labels_of,
    packed,
    values_of,
)
from nasdsl.runtime.data.pairs import Pairs, read_pairs
from nasdsl.runtime.data.readers import Reader
from nasdsl.runtime.data.reading import held_from
from nasdsl.runtime.data.split_names import is_split, pick_splits, split_of, words_of
from nasdsl.runtime.data.splits import DataSplits, Request

IMAGE_WORDS = frozenset({"image", "images", "img", "imgs", "photo", "photos", "picture", "pictures", "rgb"})
MASK_WORDS = frozenset({
    "mask", "masks", "label", "labels", "annotation", "annotations", "annot", "annots", "segmentation",
    "segmentations", "seg", "gt", "groundtruth", "target", "targets",
})  # fmt: skip
"""What folders of images and of their masks are called; they belong together if their names differ by this alone."""
JOINED = re.compile(r"(annots?|masks?|labels?)$")
"""Endings that are written without a gap: `trainannot`."""
OWN_FROM, ADE_CLASSES = 100, 150
"""Labels of masks in folders such as ADE20K's, without its names, may be its own from here on."""

# Cityscapes: the 34 raw ids of which 19 are evaluated, in order of train id.
CITYSCAPES = {
    7: "road", 8: "sidewalk", 11: "building", 12: "wall", 13: "fence", 17: "pole", 19: "traffic light",
    20: "traffic sign", 21: "vegetation", 22: "terrain", 23: "sky", 24: "person", 25: "rider", 26: "car", 27: "truck",
    28: "bus", 31: "train", 32: "motorcycle", 33: "bicycle",
}  # fmt: skip


# Lists of pairs -----------------------------------------------------------------------------------------------------


def _lists(files: Files) -> dict[str, str]:
    """Lists at the top by the split that they are called for."""
    texts = [name for name in files.names if "/" not in name and name.lower().endswith(".txt")]
    return {name[:-4]: name for name in texts if split_of(name[:-4])}


def _accepts_lists(files: Files) -> bool:
    if files.chosen is not None:
        return False
    first = [files.text(name).strip().partition("\n")[0] for name in _lists(files).values()]
    return bool(first) and all(_pair(files, line) is not None or _names_two(line) for line in first)


def _names_two(line: str) -> bool:
    """Whether a line is meant as an image and a mask, though there may be none."""
    return len(line.split()) == 2 and any(is_image(word) for word in line.split())


def _read_lists(files: Files, request: Request) -> DataSplits:
    lists = _lists(files)
    train_name, val_name = pick_splits(list(lists), files.title)
    train = _listed(files, lists[train_name])
    val = _listed(files, lists[val_name]) if val_name else None
    sources = (lists[train_name], lists[val_name]) if val_name else held_from(lists[train_name])
    return read_pairs(files, train, val, request, "lists of images and masks", sources)


def _pair(files: Files, line: str) -> tuple[str, str] | None:
    """The image and the mask that a line names; there may be spaces in either."""
    for gap in re.finditer(r"\s*[\t,;]\s*|\s+", line):
        image, mask = files.find(line[: gap.start()]), files.find(line[gap.end() :])
        if image and mask:
            return image, mask
    return None


def _listed(files: Files, name: str) -> Pairs:
    pairs: Pairs = []
    for number, line in enumerate(files.text(name).splitlines(), start=1):
        if not line.strip():
            continue
        pair = _pair(files, line.strip())
        if pair is None:
            words = line.split()
            if len(words) != 2:
                raise DataError(
                    f"{files.at(name)}, line {number}: expected an image and a mask, found {len(words)} words"
                )
            missing = next(word for word in words if files.find(word) is None)
            raise DataError(f"{files.at(name)}, line {number}: there is no file {missing.replace(chr(92), '/')}")
        pairs.append(pair)
    if not pairs:
        raise DataError(f"{files.at(name)} lists no images: the split is empty")
    return pairs


# Folders beside each other ------------------------------------------------------------------------------------------


@dataclass
class _Beside:
    """Folders of one name but for the words for images and for masks; `split` is the word of theirs that is one."""

    split: str | None
    images: list[str] = field(default_factory=list)
    masks: list[str] = field(default_factory=list)


def _beside(files: Files) -> list[_Beside]:
    """All folders of images for which there is one of masks, or whose own images have masks among them."""
    folders = sorted({str(PurePosixPath(name).parent) for name in files.names if is_image(name) and "/" in name})
    found: dict[tuple[str, ...], _Beside] = {}
    for folder in folders:
        words = [JOINED.sub(r" \1", word).split() for part in folder.split("/") for word in words_of(part)]
        flat = [one for word in words for one in word]
        # Digits tell folders apart, too: `run1` and `run2`.
        digits = re.findall(r"\d+", folder)
        key = (*(one for one in flat if one not in IMAGE_WORDS | MASK_WORDS), *digits)
        split = next((one for one in key if is_split(one)), None)
        kind = found.setdefault(key, _Beside(split))
        (kind.masks if any(one in MASK_WORDS for one in flat) else kind.images).append(folder)
    return [one for one in found.values() if one.images]


def _matched(files: Files, beside: _Beside) -> Pairs:
    """Images with the masks of the same name, or of that with a word such as `mask` in it.

    Raises:
        DataError: there are two masks for one image.
    """
    inside = {folder: [name for name in files.inside(folder) if is_image(name)] for folder in beside.images}
    masks = [name for folder in beside.masks for name in files.inside(folder) if is_image(name)]
    images = [name for names in inside.values() for name in names]
    if not masks:  # they may lie among the images: `a.jpg` and `a_mask.png`
        masks = [name for name in images if set(words_of(PurePosixPath(name).stem)) & MASK_WORDS]
        images = [name for name in images if name not in set(masks)]
    by_stem: dict[str, list[str]] = defaultdict(list)
    by_core: dict[str, list[str]] = defaultdict(list)
    for name in masks:
        by_stem[PurePosixPath(name).stem].append(name)
        by_core[_core(name)].append(name)
    pairs: Pairs = []
    for name in images:
        options = by_stem.get(PurePosixPath(name).stem) or by_core.get(_core(name)) or []
        if len(options) > 1:
            raise DataError(f"{files.at(name)} has {len(options)} masks: {some(options)}", help="leave one of them")
        pairs += [(name, option) for option in options]
    return pairs


def _core(name: str) -> str:
    """What is left of a file's name without its ending and words such as `mask`."""
    parts = re.split(r"[_\-. ]+", PurePosixPath(name).stem.lower())
    return "_".join(part for part in parts if part not in IMAGE_WORDS | MASK_WORDS and part != "l")


def _by_split(files: Files) -> dict[str | None, Pairs]:
    """The pairs of folders beside each other, by split; None where their names speak of none."""
    found: dict[str | None, Pairs] = defaultdict(list)
    for beside in _beside(files):
        found[beside.split] += _matched(files, beside)
    return {split: sorted(pairs) for split, pairs in found.items() if pairs}


def _accepts_folders(files: Files) -> bool:
    if files.chosen is not None or _accepts_lists(files) or _is_ade20k(files, surely=True):
        return False
    try:
        return any(one.masks for one in _beside(files)) or bool(_by_split(files))
    except DataError:  # there are such pairs, and reading them tells what is wrong
        return True


def _read_folders(files: Files, request: Request) -> DataSplits:
    layout = "folders of images and masks"
    found = _by_split(files)
    if not found:
        folders = [f"{one.images[0]}/ and {one.masks[0]}/" for one in _beside(files) if one.masks]
        raise DataError(
            f"{files.title} has no image with a mask of its name" + (f" in {some(folders, 2)}" if folders else ""),
            help=f"expected {FOLDERS.expects}",
        )
    named = {split: pairs for split, pairs in found.items() if split is not None}
    if named:
        train_name, val_name = pick_splits(list(named), files.title)
        val = named[val_name] if val_name else None
        sources = (_folders_of(named[train_name]), _folders_of(val) if val else "")
        if not val:
            sources = held_from(sources[0])
        return read_pairs(files, named[train_name], val, request, layout, sources)
    whole = found[None]
    lists = _name_lists(files, whole)
    if lists:
        train_name, val_name = pick_splits(list(lists), files.title)
        sources = (lists[train_name][0], lists[val_name][0]) if val_name else held_from(lists[train_name][0])
        val = lists[val_name][1] if val_name else None
        return read_pairs(files, lists[train_name][1], val, request, layout, sources)
    return read_pairs(files, whole, None, request, layout, held_from(_folders_of(whole)))


def _folders_of(pairs: Pairs) -> str:
    folders = [sorted({f"{PurePosixPath(name).parent}/" for name in names}) for names in zip(*pairs, strict=True)]
    return " with ".join(some(one, 2) for one in folders)


def _name_lists(files: Files, pairs: Pairs, below: str = "") -> dict[str, tuple[str, Pairs]]:
    """Lists of names, one a line, by the split that they are called for: the list, and the pairs that it names. A list
    `trainval` counts where there is none for training.

    Raises:
        DataError: a list names an image that is not there, or none.
    """
    by_stem: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for pair in pairs:
        by_stem[PurePosixPath(pair[0]).stem.casefold()].append(pair)
    by_name = {pair[0]: pair for pair in pairs}
    found: dict[str, tuple[str, Pairs]] = {}
    for name in files.names:
        split = PurePosixPath(name).stem
        listing = name.lower().endswith(".txt") and name.startswith(below)
        if not listing or not (is_split(split) or split == "trainval"):
            continue
        chosen: Pairs = []
        lines = [line.strip() for line in files.text(name).splitlines() if line.strip()]
        for line in lines:
            member = files.find(line)
            options = by_stem.get(PurePosixPath(line.replace("\\", "/")).name.casefold(), [])
            options = options or by_stem.get(PurePosixPath(line.replace("\\", "/")).stem.casefold(), [])
            if member in by_name:
                options = [by_name[member]]
            if len(options) != 1:
                raise DataError(
                    f"{files.at(name)} names {line}, and there {'are several' if options else 'is no'} such "
                    f"image{'s' if options else ''} with a mask"
                )
            chosen += options
        if not chosen:
            raise DataError(f"{files.at(name)} lists no images: the split is empty")
        if split in found:
            raise DataError(f"{files.title} has two lists for {split}: {found[split][0]} and {name}")
        found[split] = (name, chosen)
    whole = found.pop("trainval", None)
    if whole is not None and not any(split_of(split) == "train" for split in found):
        found["train"] = whole
    return found


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
    note = f"ignored: all but the {len(CITYSCAPES)} classes that are evaluated, and 255"
    labels = Labels(tuple(CITYSCAPES.values()), table, notes=(note,))
    val = pairs[val_name] if val_name else None
    folder = "leftImg8bit/{} with gtFine/{}"
    sources = held_from(folder.format(train_name, train_name))
    if val_name:
        sources = (sources[0], folder.format(val_name, val_name))
    layout = f"Cityscapes with {kind}"
    return read_pairs(files, pairs[train_name], val, request, layout, sources, lambda _: labels)


def _city_mask(image: str, kind: str) -> str:
    return f"gtFine/{image.removeprefix('leftImg8bit/').removesuffix('_leftImg8bit.png')}_gtFine_{kind}.png"


# ADE20K -------------------------------------------------------------------------------------------------------------


def _is_ade20k(files: Files, surely: bool = False) -> bool:
    """Whether folders are called as those of ADE20K, and what is in them is, too: its names of classes, or of images.
    With `surely`, that alone counts; else also labels such as it has, where there is no list of classes."""
    if files.chosen is not None or not _in_ade_folders(files):
        return False
    if _object_info(files) is not None or any(name.rpartition("/")[2].startswith("ADE_train_") for name in files.names):
        return True
    if surely or class_list(files) is not None:
        return False
    masks = [name for name in files.below("annotations/training") if is_image(name)]
    greatest = 0
    for i in spread(len(masks), 16):
        try:
            values = values_of(decode(files.read(masks[i]), files.at(masks[i])), files.at(masks[i]))
        except DataError:
            return False
        greatest = max(greatest, int(values[values != IGNORE].max(initial=0)))
    return OWN_FROM <= greatest <= ADE_CLASSES


def _in_ade_folders(files: Files) -> bool:
    folders = {"/".join(name.split("/")[:2]) for name in files.names if name.count("/") == 2}
    return {"images/training", "annotations/training"} <= folders


def _read_ade20k(files: Files, request: Request) -> DataSplits:
    if not _in_ade_folders(files):
        raise DataError(f"{files.title} has no images/training with annotations/training")
    found = {
        split: _matched(files, _Beside(split, [f"images/{split}"], [f"annotations/{split}"]))
        for split in ("training", "validation")
    }
    named = class_list(files)
    classes = [one.name for one in named] if named else _object_info(files)
    classes = classes or [f"class {i}" for i in range(1, ADE_CLASSES + 1)]
    table = np.full(256, WRONG, dtype=np.uint8)
    table[0] = table[255] = IGNORE
    table[1 : len(classes) + 1] = np.arange(len(classes))
    note = f"ignored: label 0, as ADE20K has it, and 255; labels 1 to {len(classes)} are the classes from 0"
    labels = Labels(tuple(classes), table, notes=(note,))
    folder = "images/{} with annotations/{}"
    val = found["validation"] or None
    sources = held_from(folder.format("training", "training"))
    if val:
        sources = (sources[0], folder.format("validation", "validation"))
    return read_pairs(files, found["training"], val, request, "ADE20K", sources, lambda _: labels)


def _object_info(files: Files) -> list[str] | None:
    if "objectInfo150.txt" not in files:
        return None
    rows = [line.split("\t") for line in files.text("objectInfo150.txt").splitlines()[1:]]
    return [row[-1].split(",")[0].strip() for row in rows if len(row) > 1] or None


# Pascal VOC ---------------------------------------------------------------------------------------------------------

VOC_CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
VOC_BORDER = (224, 224, 192)
"""The colour of what is between objects, and counts for nothing."""


def voc_colour(label: int) -> tuple[int, int, int]:
    """The colour that Pascal VOC gives a label: its bits, dealt to red, green and blue, highest first."""
    red, green, blue = (
        sum((label >> (3 * place + channel) & 1) << (7 - place) for place in range(8)) for channel in range(3)
    )
    return red, green, blue


VOC_NAMED = [Named(name, None, voc_colour(i)) for i, name in enumerate(VOC_CLASSES)] + [Named("void", None, VOC_BORDER)]


def _voc_roots(files: Files) -> list[str]:
    """What stands before `SegmentationClass/` and `JPEGImages/`."""
    roots = {name.rpartition("/")[0].rpartition("/")[0] for name in files.names if "SegmentationClass/" in name}
    return sorted(root for root in roots if files.below(f"{root}/JPEGImages".lstrip("/")))


def _read_voc(files: Files, request: Request) -> DataSplits:
    roots = _voc_roots(files)
    if len(roots) != 1:
        raise DataError(f"{files.title} has {len(roots)} folders with JPEGImages and SegmentationClass: {some(roots)}")
    top = f"{roots[0]}/" if roots[0] else ""
    pairs = _matched(files, _Beside(None, [f"{top}JPEGImages"], [f"{top}SegmentationClass"]))
    lists = _name_lists(files, pairs, f"{top}ImageSets/Segmentation/")

    def meaning(found: Survey) -> Labels:
        named = class_list(files)
        # Colours, of the pixels or of the palette, say whether labels are those of VOC.
        seen = set(found.colours) if found.coloured else set(found.palette.values())
        known = {packed(one.colour) for one in VOC_NAMED if one.colour is not None}
        return labels_of(files, found, VOC_NAMED if named is None and seen and seen <= known else named)

    if lists:
        train_name, val_name = pick_splits(list(lists), files.title)
        val = lists[val_name][1] if val_name else None
        sources = (lists[train_name][0], lists[val_name][0]) if val_name else held_from(lists[train_name][0])
        return read_pairs(files, lists[train_name][1], val, request, "Pascal VOC masks", sources, meaning)
    return read_pairs(files, pairs, None, request, "Pascal VOC masks", held_from(f"{top}SegmentationClass"), meaning)


PAIR_LISTS = Reader(
    "lists of images and masks",
    "segmentation",
    'train.txt and val.txt with lines "image mask"',
    _accepts_lists,
    _read_lists,
)
ADE20K = Reader(
    "ADE20K",
    "segmentation",
    "images/training with annotations/training, and objectInfo150.txt or images called ADE_train_*",
    _is_ade20k,
    _read_ade20k,
    _in_ade_folders,
)
CITY = Reader(
    "Cityscapes",
    "segmentation",
    "leftImg8bit/train/<city>/*_leftImg8bit.png with gtFine/train/<city>/*_gtFine_labelIds.png",
    lambda files: bool(_cityscapes(files)) and any(name.startswith("gtFine/") for name in files.names),
    _read_cityscapes,
)
FOLDERS = Reader(
    "folders of images and masks",
    "segmentation",
    "images/train with masks/train, train/images with train/masks, train with trainannot, or images with masks",
    _accepts_folders,
    _read_folders,
)
VOC_MASKS = Reader(
    "Pascal VOC masks",
    "segmentation",
    "JPEGImages with SegmentationClass, and ImageSets/Segmentation/train.txt and val.txt",
    lambda files: files.chosen is None and bool(_voc_roots(files)),
    _read_voc,
)
