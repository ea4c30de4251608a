"""What all COCO annotation files share: their names, their splits, their images."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath
from typing import Any, TypeVar

from nasdsl.compiler.diagnostics import cause
from nasdsl.runtime.data.errors import DataError, did_you_mean, some
from nasdsl.runtime.data.files import Files, is_image, plain_name
from nasdsl.runtime.data.split_names import pick_splits, split_of

Json = dict[str, Any]
Parsed = TypeVar("Parsed")


def annotation_files(
    files: Files, keys: Sequence[str], named: str, avoided: Sequence[str] = (), trusted: bool = False
) -> dict[str, list[str]]:
    """Split name, as in the file name (`train2017`) or that of its folder, to annotation files: those that have `keys`.

    Of several with one split, files with `named` in their names count alone, those with one of `avoided` only where
    there are no others. With `trusted`, the former are taken whatever is in them.
    """
    names = [name for name in files.names if name.lower().endswith(".json")]
    if files.chosen is not None:
        # The neighbours of the one that was named count only if they are called the same but for the split.
        if not files.chosen.lower().endswith(".json"):
            return {}
        names = [name for name in names if _stem(name)[0] == _stem(files.chosen)[0]]

    def rank(name: str) -> tuple[bool, bool]:
        lower = PurePosixPath(name).name.lower()
        return any(word in lower for word in avoided), named not in lower

    found: dict[str, list[str]] = {}
    best: dict[str, tuple[bool, bool]] = {}
    for name in sorted(names, key=lambda name: (rank(name), name)):
        split = _stem(name)[1]
        if best.get(split, rank(name)) == rank(name) and (
            (trusted and named in name.lower()) or _has(files.read(name), keys)
        ):
            best[split] = rank(name)
            found.setdefault(split, []).append(name)
    return found


def chosen_files(files: Files, found: dict[str, list[str]]) -> tuple[str, str | None]:
    """The annotation files to train and to validate on (None where there is but one split).

    Raises:
        DataError: there is no split to train on, or several files for one.
    """
    if len(found) > 1:
        train, val = pick_splits(list(found), files.title)
    else:
        train, val = next(iter(found)), None
    for split in (train, val):
        if split is not None and len(found[split]) > 1:
            raise DataError(
                f"{files.title} has {len(found[split])} annotation files for {split}: {some(found[split])}",
                help=f"name the one that is meant, as in --data {files.at(found[split][0])}"
                if files.path.is_dir()
                else "leave the one that is meant",
            )
    return found[train][0], None if val is None else found[val][0]


def split_name(name: str) -> str:
    """The split that an annotation file is for, as its name or its folder has it."""
    return _stem(name)[1]


def _has(text: bytes, keys: Sequence[str]) -> bool:
    return all(f'"{key}"'.encode() in text for key in keys)


def _stem(name: str) -> tuple[str, str]:
    """Annotation family and split: `annotations/person_keypoints_val2017.json` is `…/person_keypoints`, `val2017`.

    A name that says nothing of a split may lie below a folder that does: `valid/_annotations.coco.json`.
    """
    path = PurePosixPath(name)
    words = path.stem.split("_")
    place = next((i for i, word in enumerate(words) if split_of(word)), None)
    if place is not None:
        return str(path.parent / "_".join(words[:place] + words[place + 1 :])), words[place]
    above = list(path.parent.parts)
    place = next((i for i in reversed(range(len(above))) if split_of(above[i])), None)
    if place is not None:
        return "/".join([*above[:place], *above[place + 1 :], path.stem]), above[place]
    return str(path.parent / path.stem), path.stem


def read_document(
    files: Files, name: str, parse: Callable[[Files, Json, str], Parsed], expected: str, dropped: str = ""
) -> Parsed:
    """What `parse` makes of a file's document. `dropped` is a key that takes much memory and is not looked at.

    Raises:
        DataError: the file is no JSON, or not laid out as COCO has it.
    """
    where = files.at(name)

    def without(one: Json) -> Json:
        one.pop(dropped, None)
        return one

    try:
        document = json.loads(files.read(name), object_hook=without if dropped else None)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} is not JSON: {cause(error)}") from error
    kind, _, keys = expected.partition(": ")
    try:
        return parse(files, document, name)
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError, IndexError) as error:
        raise DataError(f"{where} is not laid out as {kind}: {cause(error)}", help=f"expected {keys}") from error


def image_members(files: Files, file_names: list[str], annotations: str) -> dict[str, str]:
    """File name in the annotations to member. A path is that of the machine it was written on: as much of its end as
    there is counts. Of several members, one below a folder named for the split, or beside the annotations, is taken.

    Raises:
        DataError: an image is not there, or there are several that may be meant.
    """
    split, folder = _stem(annotations)[1], str(PurePosixPath(annotations).parent)
    by_base: dict[str, list[str]] = defaultdict(list)
    for name in files.names:
        if is_image(name):
            by_base[PurePosixPath(name).name.casefold()].append(name)
    found: dict[str, str] = {}
    for file_name in file_names:
        wanted = PurePosixPath(plain_name(file_name)).parts
        options = by_base.get(wanted[-1].casefold(), []) if wanted else []

        def rank(name: str, wanted: tuple[str, ...] = wanted) -> tuple[int, bool, int, bool]:
            path = PurePosixPath(name)
            return (
                -_alike(path.parts, wanted), path.name != wanted[-1], _apart(path.parent.parts, split),
                str(path.parent) != folder,
            )  # fmt: skip

        best = [name for name in options if rank(name) == min(map(rank, options))]
        if not best:
            bases = [PurePosixPath(name).name for names in by_base.values() for name in names][:5000]
            near = did_you_mean(file_name, bases)
            raise DataError(f"{files.title} has no image {file_name}, which its annotations name", help=near)
        if len(best) > 1:
            raise DataError(
                f"{files.at(annotations)} names the image {file_name}, which may be {' or '.join(best[:3])}",
                help="write file names with their folders, as in " + best[0],
            )
        found[file_name] = best[0]
    return found


def _alike(parts: Sequence[str], wanted: Sequence[str]) -> int:
    """How many parts at the end are the same."""
    count = 0
    for one, other in zip(reversed(parts), reversed(wanted), strict=False):
        if one.casefold() != other.casefold():
            break
        count += 1
    return count


def _apart(folders: Sequence[str], split: str) -> int:
    """How far folders are from a split: called the same, of the same kind, of none, of another."""
    if split in folders:
        return 0
    kinds = {split_of(one) for one in folders} - {None}
    return 2 if not kinds else 1 if split_of(split) in kinds else 3
