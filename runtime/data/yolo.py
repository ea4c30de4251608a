"""YOLO text: `data.yaml` with train, val and names; `labels/*.txt` for `images/*`, a line for each box."""

from __future__ import annotations

from pathlib import PurePosixPath
from posixpath import normpath
from typing import Any

from nasdsl.runtime.data.boxes import Pictures, Rows, Tally, read_boxes
from nasdsl.runtime.data.errors import DataError, did_you_mean, some
from nasdsl.runtime.data.files import Files, is_image, plain_name
from nasdsl.runtime.data.images import Size
from nasdsl.runtime.data.readers import Reader, size_of
from nasdsl.runtime.data.reading import held_from
from nasdsl.runtime.data.splits import DataSplits, Request

BEYOND = 2.0
"""Fractions of the image beyond this are no fractions, but pixels."""


def accepts(files: Files) -> bool:
    """Whether there is a `.yaml` file that names classes and images to train on."""
    return _description(files) is not None


def read(files: Files, request: Request) -> DataSplits:
    """One sample for each image of the folders, or of the lists, that the description names.

    An image without a file of labels has no boxes. Outlines count as the boxes around them.

    Raises:
        DataError: the description or a file of labels is damaged, an image is missing, or a split has no boxes.
    """
    name = _description(files)
    assert name is not None
    document = _document(files, name)
    names = _names(document.get("names"), document.get("nc"), files.at(name))
    train = _pictures(files, _images(files, name, document, "train"), names)
    val = next((split for split in ("val", "valid", "test") if document.get(split)), None)
    if val is None:
        held, note = None, "; train is the only split, so a fixed 20 % of its images validates"
    else:
        held, note = _pictures(files, _images(files, name, document, val), names), f"; validation is {val}"
    numbers = tuple(range(len(names)))
    sources = held_from(f"`train` of {name}") if val is None else (f"`train` of {name}", f"`{val}` of {name}")
    pictures = [*train[0], *(held[0] if held else [])]
    others = [name, *(labels for one in pictures if (labels := files.find(_labels_of(one.member))))]
    return read_boxes(files, train, held, names, numbers, request, "YOLO text", sources, note, others)


def _description(files: Files) -> str | None:
    names = [name for name in files.names if name.lower().endswith((".yaml", ".yml"))]
    if files.chosen is not None:
        names = [name for name in names if name == files.chosen]
    names.sort(key=lambda name: (name.count("/"), PurePosixPath(name).stem not in ("data", "dataset"), name))
    for name in names:
        text = files.read(name)
        if b"names" in text and b"train" in text:
            return name
    return None


def _document(files: Files, name: str) -> dict[str, Any]:
    import yaml

    try:
        document = yaml.safe_load(files.text(name))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise DataError(f"{files.at(name)} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(document, dict):
        raise DataError(f"{files.at(name)} is no table of keys", help="expected train, val and names")
    return document


def _names(value: Any, count: Any, where: str) -> tuple[str, ...]:
    """Names of classes: a list, or a table by number."""
    if isinstance(value, dict):
        if sorted(value, key=str) != sorted(range(len(value)), key=str):
            raise DataError(f"{where}: names are numbered from 0, found {some(map(str, value))}")
        value = [value[i] for i in range(len(value))]
    if not isinstance(value, list) or not value or any(isinstance(one, (list, dict)) for one in value):
        raise DataError(f"{where}: names is a list of the classes, or a table by number, found {value!r}")
    names = tuple(str(one).strip() for one in value)
    if len(set(names)) < len(names):
        raise DataError(f"{where}: the name {next(one for one in names if names.count(one) > 1)!r} comes twice")
    if count is not None and count != len(names):
        raise DataError(f"{where}: nc says {count} classes, but names has {len(names)}")
    return names


def _images(files: Files, description: str, document: dict[str, Any], split: str) -> list[str]:
    """The members that a split names: folders, lists of images in `.txt` files, or several of these."""
    value = document.get(split)
    listed = value if isinstance(value, list) else [value]
    entries = [one for one in listed if isinstance(one, str)]
    if not entries or len(entries) < len(listed):
        raise DataError(f"{files.at(description)}: {split} is a folder or a list of images, found {value!r}")
    root = document.get("path")
    found: list[str] = []
    for entry in entries:
        images = _below(files, _places(description, root, entry))
        if images is None:
            raise DataError(
                f"{files.at(description)}: {split} names {entry}, and there are no images there",
                help=did_you_mean(entry, {str(PurePosixPath(one).parent) for one in files.names if is_image(one)}),
            )
        found += images
    return sorted(set(found))


def _places(description: str, root: Any, entry: str) -> list[str]:
    """Where an entry may lie, as names from the top: its path is often that of the machine it was written on."""
    folder = str(PurePosixPath(description).parent)
    bases = [f"{folder}/{root}", folder] if isinstance(root, str) else [folder]
    entry = entry.replace("\\", "/")
    parts = [part for part in PurePosixPath(plain_name(entry)).parts if part not in ("/", ".", "..")]
    places = [normpath(f"{base}/{entry}") for base in bases]
    places += [normpath(f"{folder}/{'/'.join(parts[i:])}") for i in range(len(parts))]
    return [place for place in dict.fromkeys(places) if not place.startswith(("..", "/"))]


def _below(files: Files, places: list[str]) -> list[str] | None:
    for place in places:
        listing = files.find(place)
        if listing is not None and place.lower().endswith(".txt"):
            return _listed(files, listing)
        images = [name for name in (files.below(place) if place != "." else files.names) if is_image(name)]
        if images:
            return images
    return None


def _listed(files: Files, name: str) -> list[str]:
    """The images that a list names, one a line."""
    found = []
    for line in files.text(name).splitlines():
        if line.strip():
            places = (files.find(place) for place in _places(name, None, line.strip()))
            member = next((place for place in places if place is not None), None)
            if member is None or not is_image(member):
                raise DataError(f"{files.at(name)} names {line.strip()}, and there is no such image")
            found.append(member)
    return found


def _pictures(files: Files, members: list[str], names: tuple[str, ...]) -> tuple[Pictures, Tally]:
    tally = Tally()
    pictures: Pictures = []
    for member in members:
        size = size_of(files, member)
        labels = files.find(_labels_of(member))
        rows = _rows(files, labels, size, names) if labels is not None else Rows()
        pictures.append(rows.picture(member, member, size, tally))
    return pictures, tally


def _labels_of(member: str) -> str:
    """`train/images/a.jpg` has its labels in `train/labels/a.txt`; without a folder `images` they lie beside it."""
    parts = list(PurePosixPath(member).with_suffix(".txt").parts)
    places = [i for i, part in enumerate(parts[:-1]) if part.lower() == "images"]
    if places:
        parts[places[-1]] = "labels"
    return "/".join(parts)


def _rows(files: Files, name: str, size: Size, names: tuple[str, ...]) -> Rows:
    rows = Rows()
    height, width = size
    for number, line in enumerate(files.text(name).splitlines(), start=1):
        words = line.split()
        if not words:
            continue
        where = f"{files.at(name)}, line {number}"
        try:
            label, *values = (float(word) for word in words)
        except ValueError:
            raise DataError(f"{where}: a box is five numbers, found {line.strip()!r}") from None
        if label not in range(len(names)):
            raise DataError(f"{where}: there are classes from 0 to {len(names) - 1}, found {words[0]}")
        if len(values) != 4 and (len(values) < 6 or len(values) % 2):
            raise DataError(f"{where}: a box is class, x, y, width and height, found {len(words)} numbers")
        if not all(abs(value) <= BEYOND for value in values):
            raise DataError(
                f"{where}: {next(value for value in values if not abs(value) <= BEYOND)} is no fraction of the image",
                help="x and y of the middle, width and height are divided by those of the image",
            )
        if len(values) == 4:
            x, y, wide, high = values
            box = (x - wide / 2, y - high / 2, x + wide / 2, y + high / 2)
        else:
            box = (min(values[::2]), min(values[1::2]), max(values[::2]), max(values[1::2]))
        rows.add((box[0] * width, box[1] * height, box[2] * width, box[3] * height), int(label), where)
    return rows


YOLO = Reader(
    name="YOLO text",
    task="detection",
    expects="data.yaml with train, val and names, and labels/*.txt for images/*",
    accepts=accepts,
    read=read,
)
