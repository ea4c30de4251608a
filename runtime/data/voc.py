"""Pascal VOC: `Annotations/*.xml` with `JPEGImages/` and the lists of `ImageSets/Main/`, or such files elsewhere."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from xml.etree import ElementTree

from nasdsl.runtime.data.boxes import Pictures, Rows, Tally, declared_size, read_boxes
from nasdsl.runtime.data.errors import DataError, did_you_mean, some
from nasdsl.runtime.data.files import Files, is_image
from nasdsl.runtime.data.images import Size
from nasdsl.runtime.data.readers import Reader, size_of
from nasdsl.runtime.data.reading import held_from
from nasdsl.runtime.data.split_names import is_split, pick_splits, split_of
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
    file: str = ""


@dataclass(frozen=True)
class _Year:
    """One folder with `Annotations/` and `JPEGImages/`: names of images in each list, and members by name."""

    lists: dict[str, list[str]]
    annotations: dict[str, str]
    images: dict[str, str]
    prefix: str


def accepts(files: Files) -> bool:
    """Whether there are XML files that annotate images, which lie in `JPEGImages` or have the names of theirs."""
    return files.chosen is None and (bool(_roots(files)) or _has_loose(files))


def read(files: Files, request: Request) -> DataSplits:
    """One sample for each image of the lists. Classes are the names of all training objects, sorted.

    Objects that are `difficult` neither teach nor count against; `truncated` changes nothing. Several years beside each
    other (`VOC2007`, `VOC2012`) are read as one.

    Raises:
        DataError: an annotation is damaged, an image is missing, or a split has no boxes.
    """
    roots = _roots(files)
    if not roots:
        return _read_loose(files, request)
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
        sources = held_from(f"the list {train_name}" if train_name else "Annotations")
        val = []
    else:
        val = [one for year in years for one in _annotations(files, year, val_name)]
        held, note = _pictures(files, val, names), f"; training is {train_name}, validation {val_name}"
        sources = (f"the list {train_name}", f"the list {val_name}")
    return read_boxes(
        files, _pictures(files, train, names), held, names, names, request, "Pascal VOC", sources, note,
        [one.file for one in train + val],
    )  # fmt: skip


def _has_loose(files: Files) -> bool:
    names = [name for name in files.names if name.lower().endswith(".xml")]
    start = next((files.start(name) for name in names), b"")
    return b"<annotation" in start and _annotates(files, names)


def _annotates(files: Files, names: list[str]) -> bool:
    stems = _stems(files)
    return any(PurePosixPath(name).stem.casefold() in stems for name in names)


def _stems(files: Files) -> dict[str, list[str]]:
    """Images by their names without folder and ending."""
    found: dict[str, list[str]] = defaultdict(list)
    for name in files.names:
        if is_image(name):
            found[PurePosixPath(name).stem.casefold()].append(name)
    return found


def _image_of(files: Files, annotation: str, stems: Mapping[str, list[str]]) -> str | None:
    """The image beside an annotation, or the one that has its name, below a folder of the same split where several do.

    Raises:
        DataError: there are several.
    """
    path = PurePosixPath(annotation)
    options = stems.get(path.stem.casefold(), [])
    beside = [name for name in options if PurePosixPath(name).parent == path.parent]
    if not beside and len(options) > 1:
        split = {one for one in path.parts[:-1] if split_of(one)}
        beside = [name for name in options if split & set(PurePosixPath(name).parts)] or options
    options = beside or options
    if len(options) > 1:
        raise DataError(f"{files.at(annotation)} may be for any of {some(options)}", help="leave one of them")
    return options[0] if options else None


def _read_loose(files: Files, request: Request) -> DataSplits:
    """Annotations anywhere: splits are those of folders, or of lists of names; an image without a file has no boxes."""
    stems = _stems(files)
    found: dict[str, list[_Annotation]] = defaultdict(list)
    for name in files.names:
        if name.lower().endswith(".xml"):
            member = _image_of(files, name, stems)
            if member is None:
                raise DataError(f"{files.title} has no image for its annotation {name}")
            size, objects = _parsed(files.read(name), files.at(name))
            split = next((one for one in PurePosixPath(name).parts[:-1] if is_split(one)), ALL)
            found[split].append(_Annotation(str(PurePosixPath(name).with_suffix("")), member, size, objects, name))
    lists = {} if set(found) - {ALL} else _lists_of_names(files, found[ALL])
    splits = lists or dict(found)
    if set(splits) == {ALL}:
        train_name, val_name = ALL, None
        sources, note = (
            held_from("the annotated images"),
            "; no split is named, so a fixed 20 % of its images validates",
        )
    else:
        train_name, val_name = pick_splits([one for one in splits if one != ALL], files.title)
        sources, note = (train_name, val_name or ""), f"; training is {train_name}, validation {val_name}"
        if val_name is None:
            sources = held_from(train_name)
            note = f"; {train_name} is the only split, so a fixed 20 % of its images validates"
    train, val = splits[train_name], splits[val_name] if val_name is not None else []
    names = tuple(sorted({thing.name for one in train for thing in one.objects}))
    held = _pictures(files, val, names) if val_name is not None else None
    others = [one.file for one in train + val]
    return read_boxes(
        files, _pictures(files, train, names), held, names, names, request, "Pascal VOC", sources, note, others
    )  # fmt: skip


def _lists_of_names(files: Files, found: list[_Annotation]) -> dict[str, list[_Annotation]]:
    """The annotations that text files called as splits list, by these.

    Raises:
        DataError: a list names what has no annotation.
    """
    by_stem = {PurePosixPath(one.id).name: one for one in found}
    lists: dict[str, list[_Annotation]] = {}
    for name in files.names:
        path = PurePosixPath(name)
        if path.suffix.lower() == ".txt" and is_split(path.stem):
            words = _named(files, name, by_stem)
            stems = [PurePosixPath(word.replace("\\", "/")).name for word in words]
            stems = [stem if stem in by_stem else PurePosixPath(stem).stem for stem in stems]
            unknown = [stem for stem in stems if stem not in by_stem]
            if unknown:
                raise DataError(f"{files.title} has no annotation {unknown[0]}, which its list {name} names")
            lists[path.stem] = [by_stem[stem] for stem in stems]
    return lists


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
        name = files.find(f"{root}/ImageSets/Main/{split}.txt")
        if name is not None:
            lists[split] = _named(files, name, annotations)
    return _Year(lists or {ALL: sorted(annotations)}, annotations, images, f"{prefix}/" if prefix else "")


def _named(files: Files, listing: str, known: Container[str]) -> list[str]:
    """The names of a list, one a line; what may stand behind one is a mark, as in the lists of single classes."""
    lines = [line.strip() for line in files.text(listing).splitlines() if line.strip()]
    return [line if line in known else line.split()[0] for line in lines]


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
        found.append(_Annotation(year.prefix + name, year.images[name], size, objects, year.annotations[name]))
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
    expects="Annotations/*.xml with JPEGImages and ImageSets/Main/train.txt and val.txt, or *.xml beside images",
    accepts=accepts,
    read=read,
)
