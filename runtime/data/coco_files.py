"""What all COCO annotation files share: their names, their splits, their images."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath
from typing import Any, TypeVar

from nasdsl.compiler.diagnostics import cause
from nasdsl.runtime.data.errors import DataError, did_you_mean
from nasdsl.runtime.data.files import Files, is_image
from nasdsl.runtime.data.readers import split_of

Json = dict[str, Any]
Parsed = TypeVar("Parsed")


def annotation_files(
    files: Files, keys: Sequence[str], named: str, avoided: Sequence[str] = (), trusted: bool = False
) -> dict[str, str]:
    """Split name, as in the file name (`train2017`) or that of its folder, to annotation file: those that have `keys`.

    Of several with one split, files with `named` in their names come first, those with one of `avoided` last. With
    `trusted`, the former are taken whatever is in them.
    """
    names = [name for name in files.names if name.endswith(".json")]
    if files.chosen is not None:
        # The neighbours of the one that was named count only if they are called the same but for the split.
        if not files.chosen.endswith(".json"):
            return {}
        names = [name for name in names if _stem(name)[0] == _stem(files.chosen)[0]]

    def order(name: str) -> tuple[bool, bool, str]:
        lower = PurePosixPath(name).name.lower()
        return any(word in lower for word in avoided), named not in lower, name

    found: dict[str, str] = {}
    for name in sorted(names, key=order):
        split = _stem(name)[1]
        if split not in found and ((trusted and named in name.lower()) or _has(files.read(name), keys)):
            found[split] = name
    return found


def _has(text: bytes, keys: Sequence[str]) -> bool:
    return all(f'"{key}"'.encode() in text for key in keys)


def _stem(name: str) -> tuple[str, str]:
    """Annotation family and split: `annotations/person_keypoints_val2017.json` is `…/person_keypoints`, `val2017`.

    A name that says nothing of a split may lie in a folder that does: `valid/_annotations.coco.json`.
    """
    path = PurePosixPath(name)
    words = path.stem.split("_")
    place = next((i for i, word in enumerate(words) if split_of(word)), None)
    if place is not None:
        return str(path.parent / "_".join(words[:place] + words[place + 1 :])), words[place]
    if split_of(path.parent.name):
        return str(path.parent.parent / path.stem), path.parent.name
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
    """File name in the annotations to member; a folder named for the split, or beside the annotations, is preferred.

    Raises:
        DataError: an image is not there.
    """
    split, folder = _stem(annotations)[1], str(PurePosixPath(annotations).parent)
    by_base: dict[str, list[str]] = defaultdict(list)
    for name in files.names:
        if is_image(name):
            by_base[PurePosixPath(name).name].append(name)
    found: dict[str, str] = {}
    for file_name in file_names:
        options = [name for name in by_base[PurePosixPath(file_name).name] if f"/{name}".endswith(f"/{file_name}")]
        options.sort(
            key=lambda name: (
                f"/{split}/" not in f"/{name}", str(PurePosixPath(name).parent) != folder, len(name), name,
            )
        )  # fmt: skip
        if not options:
            near = did_you_mean(file_name, list(by_base)[:5000])
            raise DataError(f"{files.title} has no image {file_name}, which its annotations name", help=near)
        found[file_name] = options[0]
    return found
