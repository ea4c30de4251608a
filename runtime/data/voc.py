"""Pascal VOC: `Annotations/*.xml` with `JPEGImages/` and the lists of `ImageSets/Main/`."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import PurePosixPath
from xml.etree import ElementTree

from nasdsl.runtime.data.boxes import Pictures, Rows, Tally, declared_size, read_boxes
from nasdsl.runtime.data.errors import DataError, did_you_mean, some
from nasdsl.runtime.data.files import Files, is_image
from nasdsl.runtime.data.images import Size
from nasdsl.runtime.data.readers import Reader, size_of
from nasdsl.runtime.data.splits import DataSplits, Request

PAIRS = (("train", "val"), ("trainval", "test"), ("train", "test"))
"""Lists to train and to validate on, most wanted first; with none of these pairs, a part of the images is held out."""
ALL = ""
"""The name of the list of all annotations, where there are no lists."""


@dataclass(frozen=True)
class _Object:
    """One object; the box counts pixels as here, where its file counts them from 1 and means the last one with them."""

    name: str
    box: tuple[float, float, float, float]
    difficult: bool
    where: str


@dataclass(frozen=True)
class _Annotation:
    """One XML file with the image beside it. `size` is None where the file has none."""

    id: str
    member: str
    size: Size | None
    objects: tuple[_Object, ...]


@dataclass(frozen=True)
class _Year:
    """One folder with `Annotations/` and `JPEGImages/`: names of images in each list, and members by name."""

    lists: dict[str, list[str]]
    annotations: dict[str, str]
    images: dict[str, str]
    prefix: str


def accepts(files: Files) -> bool:
    """Whether there are XML files in `Annotations` with a folder `JPEGImages` beside it."""
    return bool(_roots(files))


def read(files: Files, request: Request) -> DataSplits:
    """One sample for each image of the lists. Classes are the names of all training objects, sorted.

    Objects that are `difficult` neither teach nor count against; `truncated` changes nothing. Several years beside each
    other (`VOC2007`, `VOC2012`) are read as one.

    Raises:
        DataError: an annotation is damaged, an image is missing, or a split has no boxes.
    """
    roots = _roots(files)
    years = [_year(files, root, root if len(roots) > 1 else "") for root in roots]
    common = set.intersection(*(set(year.lists) for year in years))
    train_name, val_name = next((pair for pair in PAIRS if set(pair) <= common), (None, None))
    if train_name is None:
        train_name = next((name for name in ("trainval", "train", ALL) if name in common), None)
    if train_name is None:
        raise DataError(f"{files.title} has no list of images for training; it has {some(sorted(common))}")
    train = [one for year in years for one in _annotations(files, year, train_name)]
    names = tuple(sorted({thing.name for one in train for thing in one.objects}))
    if val_name is None:
        what = f"{train_name} is the only split" if train_name else "no split is named"
        held, note = None, f"; {what}, so a fixed 20 % of its images validates"
    else:
        val = [one for year in years for one in _annotations(files, year, val_name)]
        held, note = _pictures(files, val, names), f"; training is {train_name}, validation {val_name}"
    return read_boxes(files, _pictures(files, train, names), held, names, names, request, "Pascal VOC", note)


def _roots(files: Files) -> list[str]:
    """What stands before `Annotations/` and `JPEGImages/`."""
    annotated, pictured = set(), set()
    for name in files.names:
        folder, _, base = name.rpartition("/")
        root, _, last = folder.rpartition("/")
        if last == "Annotations" and base.lower().endswith(".xml"):
            annotated.add(root)
        elif last == "JPEGImages" and is_image(base):
            pictured.add(root)
    return sorted(annotated & pictured)


def _year(files: Files, root: str, prefix: str) -> _Year:
    def below(folder: str) -> dict[str, str]:
        top = f"{root}/{folder}" if root else folder
        return {PurePosixPath(name).stem: name for name in files.below(top) if name.count("/") == top.count("/") + 1}

    annotations = {stem: name for stem, name in below("Annotations").items() if name.lower().endswith(".xml")}
    images = {stem: name for stem, name in below("JPEGImages").items() if is_image(name)}
    lists = {}
    for split in ("train", "val", "trainval", "test"):
        name = f"{root}/ImageSets/Main/{split}.txt".lstrip("/")
        if name in files:
            lists[split] = [line.split()[0] for line in files.text(name).splitlines() if line.strip()]
    return _Year(lists or {ALL: sorted(annotations)}, annotations, images, f"{prefix}/" if prefix else "")


def _annotations(files: Files, year: _Year, split: str) -> list[_Annotation]:
    found = []
    if not year.lists[split]:
        raise DataError(f"{files.title}: the list {split} names no images")
    twice = [name for name, count in Counter(year.lists[split]).items() if count > 1]
    if twice:
        raise DataError(f"{files.title}: the list {split} names {some(twice)} more than once")
    for name in year.lists[split]:
        for what, members in (("annotation", year.annotations), ("image", year.images)):
            if name not in members:
                near = did_you_mean(name, list(members)[:5000])
                raise DataError(f"{files.title} has no {what} {name}, which its list {split} names", help=near)
        size, objects = _parsed(files.read(year.annotations[name]), files.at(year.annotations[name]))
        found.append(_Annotation(year.prefix + name, year.images[name], size, objects))
    return found


def _parsed(text: bytes, where: str) -> tuple[Size | None, tuple[_Object, ...]]:
    try:
        document = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError, LookupError) as error:  # among them encodings that do not exist
        raise DataError(f"{where} is not XML: {error}") from error
    height, width = (_number(document, f"size/{side}", where, 0) for side in ("height", "width"))
    size = declared_size(height, width, where)
    objects = []
    for number, one in enumerate(document.findall("object"), start=1):
        at = f"{where}, object {number}"
        name = (one.findtext("name") or "").strip()
        if not name:
            raise DataError(f"{at} has no name")
        left, top, right, bottom = (_number(one, f"bndbox/{side}", at) for side in ("xmin", "ymin", "xmax", "ymax"))
        difficult = _number(one, "difficult", at, 0) != 0
        objects.append(_Object(name, (left - 1, top - 1, right, bottom), difficult, at))
    return size, tuple(objects)


def _number(one: ElementTree.Element, path: str, where: str, otherwise: float | None = None) -> float:
    text = (one.findtext(path) or "").strip()
    if not text and otherwise is not None:
        return otherwise
    try:
        return float(text)
    except ValueError:
        raise DataError(f"{where}: {path.replace('/', ' ')} is a number, found {text!r}") from None


def _pictures(files: Files, annotations: list[_Annotation], names: tuple[str, ...]) -> tuple[Pictures, Tally]:
    label = {name: i for i, name in enumerate(names)}
    tally = Tally()
    pictures: Pictures = []
    for one in annotations:
        rows = Rows()
        for thing in one.objects:
            if thing.name not in label:
                raise DataError(
                    f'{thing.where} is of the class "{thing.name}", which training has not',
                    help=did_you_mean(thing.name, names) or f"training has {some(names)}",
                )
            rows.add(thing.box, label[thing.name], thing.where, crowd=thing.difficult)
        size = one.size or size_of(files, one.member)
        pictures.append(rows.picture(one.member, one.id, size, tally))
    return pictures, tally


VOC = Reader(
    name="Pascal VOC",
    task="detection",
    expects="Annotations/*.xml with JPEGImages and ImageSets/Main/train.txt and val.txt",
    accepts=accepts,
    read=read,
)
