"""The folder of a front: numbered result files with their weights, and which of them a search has written."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection
from pathlib import Path

from pydantic import Field

from nasdsl.compiler.files import write_text, write_whole
from nasdsl.compiler.stored import Stored
from nasdsl.runtime.errors import RunError
from nasdsl.runtime.files import content
from nasdsl.runtime.stored import read_stored

WRITTEN = ".written.json"
"""The file in the folder that says what was written there."""
NUMBERED = re.compile(r"\d{2,}\.(space|safetensors)")


class Wrote(Stored):
    """By name of a file the hashes of what it was given: two where the later one may not have come to its end."""

    files: dict[str, list[str]] = Field(default_factory=dict)


class Front:
    """The folder of a front. A file in it is replaced or removed only if it is as a search has written it."""

    def __init__(self, folder: Path):
        """
        Raises:
            RunError: what says which files a search has written cannot be read.
        """
        self.folder = folder
        file = folder / WRITTEN
        told = read_stored(Wrote, file, "what says which files a search has written") if file.is_file() else Wrote()
        self._known = {name: hashes for name, hashes in told.files.items() if NUMBERED.fullmatch(name)}

    def _ours(self, name: str) -> bool:
        file = self.folder / name
        return not file.is_symlink() and content(file) in self._known.get(name, ())

    def check(self, most: int) -> None:
        """
        Args:
            most: numbers that may be needed.

        Raises:
            RunError: a file that no search has written, or that has been changed since, has one of them.
        """
        if not self.folder.is_dir():
            return
        for file in sorted(self.folder.iterdir()):
            if NUMBERED.fullmatch(file.name) and 0 < int(file.stem) <= most and not self._ours(file.name):
                self._refuse(file)

    def _refuse(self, file: Path) -> None:
        message = f"{file} was not written by a search, or has been changed since, and would be replaced"
        raise RunError(message, "move it away, or name another file with `--out`")

    def write(self, name: str, data: bytes) -> None:
        """Writes a file. What is noted comes first, so that also of a killed writer all is known.

        Raises:
            RunError: a file of somebody else's has the name.
        """
        file = self.folder / name
        before = [content(file)] if file.exists() or file.is_symlink() else []
        if before and not self._ours(name):
            self._refuse(file)
        now = hashlib.sha256(data).hexdigest()[:16]
        self._known[name] = list(dict.fromkeys([*before, now]))
        self._note()
        write_whole(file, lambda stream: stream.write(data))
        self._known[name] = [now]

    def end(self, names: Collection[str]) -> None:
        """Removes what a search has written here that is none of the names, and lies here as it was written."""
        for name in [name for name in self._known if name not in names]:
            if self._ours(name):
                (self.folder / name).unlink(missing_ok=True)
            del self._known[name]
        self._note()

    def _note(self) -> None:
        write_text(self.folder / WRITTEN, Wrote(files=self._known).model_dump_json(indent=1) + "\n")
