"""A folder or a zip, seen as the same thing: names and bytes. A zip is read in place."""

from __future__ import annotations

import lzma
import os
import struct
import unicodedata
import zipfile
import zlib
from functools import cached_property
from pathlib import Path, PurePosixPath

from nasdsl.compiler.files import read_whole
from nasdsl.runtime.data.errors import DataError, did_you_mean
from nasdsl.runtime.data.split_names import is_split

IMAGE_ENDINGS = (
    ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm",
)  # fmt: skip
MOST_FILES = 5_000_000
OUTSIDE = "a link that leads out of the data (`--links` follows it)"
LARGEST_MEMBER = 1 << 30
START = 1 << 16
"""So many bytes of an image nearly always tell its size."""
# Folders that mean something to a reader; a single folder of another name at the top is only wrapping.
MEANINGFUL = frozenset({"trainannot", "images", "annotations", "masks", "labels", "leftimg8bit", "gtfine"})


_UNREADABLE = (
    OSError,
    EOFError,
    ValueError,  # among them names in no encoding
    RuntimeError,  # a password, or a way of packing that this Python does not have
    KeyError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
)
"""What reading a damaged zip, or anything else, may raise."""


def is_image(name: str) -> bool:
    """Whether the ending of `name` is that of an image."""
    return name.lower().endswith(IMAGE_ENDINGS)


class Files:
    """The files below one folder, or in one zip: `names` (sorted, with `/`, in Unicode's form NFC) and `read`.

    Names are the same however they are spelt: `\\` is `/`, `./` is nothing. Hidden files are left out, and one wrapping
    folder at the top (`my_data/train/...`) is looked through. `left_out` has names that are no members, and why.
    `chosen` is the member that the user named, when the path is of a single file; `names` then are its neighbours
    (with `flat`, only those in the same folder).
    Links that lead out of the folder are no members unless `links` says so: whoever made the folder may not be
    whoever's files they lead to.
    Safe to use from several threads, and can be pickled.
    """

    def __init__(self, path: Path, chosen: Path | None = None, flat: bool = False, links: bool = False) -> None:
        self.path = path
        self._links = links
        self.title = (chosen or path).name or str(path)
        self._is_zip = path.is_file()
        self._zip: zipfile.ZipFile | None = None
        self._zip_owner = 0
        self.left_out: list[tuple[str, str]] = []
        found = self._plain(self._zip_names() if self._is_zip else self._folder_names(flat, chosen))
        names = sorted(found)
        self.chosen = plain_name(chosen.relative_to(path).as_posix()) if chosen else None
        self._prefix = "" if chosen else _wrapping(names)
        self.names: tuple[str, ...] = tuple(name[len(self._prefix) :] for name in names)
        self._real = {name[len(self._prefix) :]: found[name] for name in names}

    def __contains__(self, name: str) -> bool:
        return name in self._real

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_zip": None}

    def find(self, name: str) -> str | None:
        """The member that a list or an annotation means by `name`, which may be spelt otherwise: with `\\`, `./` or a
        `/` before it, in another form of Unicode, or in another case where no two members differ by that alone."""
        plain = plain_name(name).lstrip("/")
        if plain in self._real:
            return plain
        alike = self._by_case.get(plain.casefold(), ())
        return alike[0] if len(alike) == 1 else None

    def inside(self, folder: str) -> list[str]:
        """Members in `folder` and in none below it; `.` is the top."""
        return self._by_folder.get(folder, [])

    @cached_property
    def _by_folder(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for name in self.names:
            found.setdefault(name.rpartition("/")[0] or ".", []).append(name)
        return found

    @cached_property
    def _by_case(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for name in self.names:
            found.setdefault(name.casefold(), []).append(name)
        return found

    def _plain(self, real: list[str]) -> dict[str, str]:
        """Plain names, with the ones that their files really have."""
        found: dict[str, str] = {}
        for name in sorted(real):
            plain = plain_name(name)
            if _hidden(plain):
                if is_image(plain) and not PurePosixPath(plain).name.startswith("._"):
                    self.left_out.append((plain, "hidden"))
            elif plain.startswith("/") or ".." in plain.split("/"):
                self.left_out.append((plain, "outside of the data"))
            elif plain in found:
                self.left_out.append((plain, "another file of the same name"))
            else:
                found[plain] = name
        return found

    def at(self, name: str) -> str:
        """How a message names a member: `data.zip: train/cat/1.png`."""
        real = self._real.get(name, self._prefix + name)
        return f"{self.title}: {name}" if self._is_zip else str(self.path / real)

    def below(self, folder: str) -> tuple[str, ...]:
        """Members below `folder`, as names from the top."""
        return tuple(name for name in self.names if name.startswith(folder.rstrip("/") + "/"))

    def read(self, name: str) -> bytes:
        """The bytes of a member.

        Raises:
            DataError: there is no such member, or it cannot be read.
        """
        self._check(name)
        try:
            if not self._is_zip:
                return read_whole(self.path / self._real[name], LARGEST_MEMBER)
            archive = self._open()
            size = archive.getinfo(self._real[name]).file_size
            if size > LARGEST_MEMBER:
                raise DataError(f"{self.at(name)} has {size:,} bytes, and at most {LARGEST_MEMBER:,} are read")
            return archive.read(self._real[name])
        except _UNREADABLE as error:
            raise self._unreadable(name, error) from error

    def start(self, name: str) -> bytes:
        """The first bytes of a member.

        Raises:
            DataError: as `read`.
        """
        self._check(name)
        path = self.path / self._real[name]
        try:
            if not self._is_zip:
                if not path.is_file():  # opening a pipe might wait for ever
                    return read_whole(path, START)
                with path.open("rb") as file:
                    return file.read(START)
            with self._open().open(self._real[name]) as member:
                return member.read(START)
        except _UNREADABLE as error:
            raise self._unreadable(name, error) from error

    def _check(self, name: str) -> None:
        if name not in self._real:
            near = did_you_mean(name, self.names if len(self.names) < 5000 else ())
            raise DataError(f"{self.title} has no file {name}", help=near)

    def _unreadable(self, name: str, error: BaseException) -> DataError:
        return DataError(f"{self.at(name)} cannot be read: {getattr(error, 'strerror', None) or error}")

    def text(self, name: str) -> str:
        """A member as UTF-8 text (with or without a byte-order mark)."""
        try:
            return self.read(name).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise DataError(f"{self.at(name)} is not a text file in UTF-8") from error

    def _open(self) -> zipfile.ZipFile:
        # A file handle that a fork inherits shares its position with the parent, so each process opens its own.
        if self._zip is None or self._zip_owner != os.getpid():
            self._zip = zipfile.ZipFile(self.path)
            self._zip_owner = os.getpid()
        return self._zip

    def _zip_names(self) -> list[str]:
        try:
            names = self._open().namelist()
        except _UNREADABLE as error:
            raise DataError(f"{self.path} cannot be read as a zip: {error}") from error
        return [name for name in names if not name.endswith(("/", "\\"))]

    def _folder_names(self, flat: bool, chosen: Path | None) -> list[str]:
        names: list[str] = []
        top, seen = os.path.realpath(self.path), set[str]()
        folders = [""]
        while folders:
            below = folders.pop()
            folder = os.path.join(self.path, below)
            real = os.path.realpath(folder)
            if real in seen:  # a link that leads back up
                continue
            seen.add(real)
            try:
                with os.scandir(folder) as entries:
                    found = sorted(entries, key=lambda entry: entry.name)
            except OSError as problem:
                raise DataError(f"{folder} cannot be read: {problem.strerror or problem}") from problem
            for entry in found:
                name = f"{below}{entry.name}"
                if entry.is_symlink() and not self._leads_inside(entry, top, chosen):
                    self.left_out.append((name, OUTSIDE))
                elif not entry.is_dir():
                    names.append(name)
                elif not flat and not entry.name.startswith((".", "__MACOSX")):
                    folders.append(f"{name}/")
            if len(names) > MOST_FILES:
                raise DataError(
                    f"{self.path} holds more than {MOST_FILES:,} files", help="name the folder of one data set"
                )
        return names

    def _leads_inside(self, link: os.DirEntry[str], top: str, chosen: Path | None) -> bool:
        """Whether what a link leads to belongs to the data: it lies in the folder, or is what the user named."""
        if self._links or (chosen is not None and Path(link.path) == chosen):
            return True
        return os.path.commonpath([top, os.path.realpath(link.path)]) == top


def open_files(spec: str | Path, links: bool = False) -> Files:
    """The files that a user's `--data` names: a folder, a zip, or one `.json`, `.yaml`, IDX or CSV file with its
    neighbours.

    Args:
        links: follow links that lead out of the folder.

    Raises:
        DataError: nothing is there, or it is a file of a kind that no reader takes.
    """
    try:
        path = Path(spec).expanduser()
    except RuntimeError:
        raise DataError(f"there is no user for the `~` of {spec}") from None
    if path.is_dir():
        return Files(path, links=links)
    if not path.exists():
        parent = path.parent
        near = did_you_mean(path.name, os.listdir(parent)) if parent.is_dir() else f"there is no folder {parent} either"
        raise DataError(f"no file or folder {path}", help=near)
    if not path.is_file():
        raise DataError(f"{path} is a pipe or a device, and no file", help="give a folder or a file")
    if path.suffix.lower() == ".zip" or zipfile.is_zipfile(path):
        return Files(path, links=links)
    if path.suffix.lower() == ".json":
        return Files(
            path.parent.parent if path.parent.name.lower() == "annotations" else path.parent, chosen=path, links=links
        )
    if path.suffix.lower() in (".yaml", ".yml"):
        return Files(path.parent, chosen=path, links=links)
    if path.suffix.lower() in (".gz", ".csv", ".tsv") or "ubyte" in path.name.lower():
        return Files(path.parent, chosen=path, flat=True, links=links)
    raise DataError(
        f"{path.name} is not a kind of file that can be read as data",
        help="give a folder, a .zip, a COCO .json, a YOLO .yaml, an IDX .gz or a .csv file",
    )


def plain_name(name: str) -> str:
    """A name with `/` between its parts and nothing that leads nowhere, in Unicode's form NFC."""
    parts = unicodedata.normalize("NFC", name).replace("\\", "/").split("/")
    kept = [part for i, part in enumerate(parts) if part != "." and (part or i == 0)]
    return "/".join(kept)


def _hidden(name: str) -> bool:
    return any(part.startswith((".", "__MACOSX")) and part != ".." for part in name.split("/"))


def _wrapping(names: list[str]) -> str:
    """`top/` when every name starts with it and `top` says nothing about the layout; repeated inward."""
    prefix = ""
    while names:
        top, slash, _ = names[0][len(prefix) :].partition("/")
        inside = {name[len(prefix) + len(top) + 1 :].partition("/")[0] for name in names}
        if not slash or is_split(top) or (top.lower() in MEANINGFUL and not all(map(is_split, inside))):
            break
        if not all(name.startswith(f"{prefix}{top}/") for name in names):
            break
        # `cat/1.png, cat/2.png` is one class, not wrapping: something must still be nested below.
        if not any("/" in name[len(prefix) + len(top) + 1 :] for name in names):
            break
        prefix += top + "/"
    return prefix
