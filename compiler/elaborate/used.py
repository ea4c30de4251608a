"""The file asked for and all that it uses."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from nasdsl.compiler import syntax
from nasdsl.compiler.bind.walk import words_in
from nasdsl.compiler.diagnostics import CompileError, error
from nasdsl.compiler.files import unquoted
from nasdsl.compiler.meaning import meaning
from nasdsl.compiler.parse import parse, read
from nasdsl.compiler.source import Source


@dataclass(frozen=True)
class UsedFile:
    source: Source
    tree: syntax.File


def _must_be_a_space(used: Source, item: syntax.Use) -> None:
    """Refuses a file of another kind without a word of what is in it, as a mistake in it would be shown: a file from
    somewhere may not bring others' files into messages."""
    try:
        parse(used)
    except CompileError:
        message = f"`{item.path.value}` is no space"
        raise error("not-a-space", message, item.path.span, help="spaces stand in files that end in .space") from None


_HASHED = re.compile(r"(.*)#([0-9a-f]{16})", re.DOTALL)


def _named(text: str) -> tuple[str, str]:
    """The path in a `use` and the hash that is asked for. Only with a hash, which nasdsl has written, is the path
    `quoted`: what people write is taken as it is, with `#` and `%`."""
    found = _HASHED.fullmatch(text)
    if found is None:
        return text, ""
    name = unquoted(found[1])
    return (found[1] if "\0" in name else name), found[2]


def _lies_at(name: str, using: Path | None, beside: Path) -> Path:
    """Where a used file lies: beside the one that uses it or, where that is a link, else beside what it leads to."""
    place = beside / name
    if using is not None and using.is_symlink() and not place.exists():
        place = using.resolve().parent / name
    return place


class Files:
    """The file asked for and all that it uses, each once."""

    def __init__(self, source: Source):
        self.files: list[UsedFile] = []
        self.spaces: dict[str, tuple[syntax.Space | syntax.Derived, UsedFile]] = {}
        self.definitions: list[syntax.Let | syntax.Operator | syntax.Fusion] = []
        self._add(source, ())

    @property
    def own(self) -> list[syntax.Space | syntax.Derived]:
        """The spaces that the file asked for defines itself, in order."""
        return [item for item in self.files[0].tree.items if isinstance(item, syntax.Space | syntax.Derived)]

    @cached_property
    def words(self) -> Counter[str]:
        """How often each name stands in any of the files."""
        return words_in(file.tree for file in self.files)

    def _add(self, source: Source, chain: tuple[Path, ...]) -> None:
        file = UsedFile(source, parse(source))
        self.files.append(file)
        for item in file.tree.items:
            if isinstance(item, syntax.Use):
                self._use(item, source, chain)
            elif isinstance(item, syntax.Space | syntax.Derived):
                name = item.name.name
                if name in self.spaces:
                    raise error("duplicate", f"there are two spaces named `{name}`", item.name.span)
                self.spaces[name] = (item, file)
            else:
                self.definitions.append(item)

    def _use(self, item: syntax.Use, source: Source, chain: tuple[Path, ...]) -> None:
        beside = source.path.parent if source.path is not None else Path()
        name, expected = _named(item.path.value)
        place = _lies_at(name, source.path, beside)
        path = place.resolve()
        if source.path is not None and path in (*chain, source.path.resolve()):
            raise error("use-circle", "these files use each other in a circle", item.path.span)
        if any(file.source.path is not None and file.source.path.resolve() == path for file in self.files):
            return
        if len(chain) > 30:
            raise error("use-depth", "files use each other more than 30 deep", item.path.span)
        try:
            used = read(place)
        except CompileError as problem:
            if problem.diagnostics[0].span is not None:
                raise
            found = problem.diagnostics[0]
            message = f"there is no file `{name}` beside this one" if found.code == "no-such-file" else found.message
            front, mark, _ = name.rpartition("#")
            short = found.code == "no-such-file" and mark and not expected and (beside / front).is_file()
            help = "the hash behind `#` has 16 hexadecimal digits" if short else found.help
            raise error(found.code, message, item.path.span, help=help) from None
        if path.suffix != ".space":
            _must_be_a_space(used, item)
        first = len(self.files)
        self._add(used, (*chain, source.path.resolve()) if source.path is not None else chain)
        found_hash = meaning(*[file.tree for file in self.files[first:]]) if expected else ""
        if found_hash != expected:
            raise error(
                "changed-file",
                f"`{name}`, or a file that it uses, has changed since this file was written",
                item.path.span,
                f"its hash is now {found_hash}",
                help="take the file as it was, or take the hash out if the change does not matter",
            )
