"""The file asked for and all that it uses."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from nasdsl import spaces
from nasdsl.compiler import syntax
from nasdsl.compiler.bind.habits import near
from nasdsl.compiler.bind.walk import bound_in, walk, words_in
from nasdsl.compiler.diagnostics import CompileError, Label, error
from nasdsl.compiler.files import unquoted
from nasdsl.compiler.meaning import meaning
from nasdsl.compiler.parse import parse, read
from nasdsl.compiler.plugins import folder_of
from nasdsl.compiler.source import Source, Span


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
    """Where a used file lies: beside the one that uses it or, where that is a link, else beside what it leads to; else
    among the spaces that ship, or in the folder of spaces of an installed package.
    """
    place = beside / name
    if using is not None and using.is_symlink() and not place.exists():
        place = using.resolve().parent / name
    if place.exists() or PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        return place
    package, *parts = PurePosixPath(name).parts or ("",)
    if not parts:
        return spaces.FOLDER / name if (spaces.FOLDER / name).is_file() else place
    folder = folder_of(package)
    return place if folder is None else folder.joinpath(*parts)


Definition = syntax.Let | syntax.Operator | syntax.Fusion


class Files:
    """The file asked for and all that it uses, each once."""

    def __init__(self, source: Source, chain: tuple[Path, ...] = ()):
        self.files: list[UsedFile] = []
        self.spaces: dict[str, tuple[syntax.Space | syntax.Derived, UsedFile]] = {}
        self.definitions: list[Definition] = []
        self._parts: dict[Path, Files] = {}
        self._add(source, chain)

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
                self._space(item, file, item.name.span)
            else:
                self.definitions.append(item)

    def _space(self, space: syntax.Space | syntax.Derived, file: UsedFile, place: Span) -> None:
        name = space.name.name
        if self.spaces.setdefault(name, (space, file))[0] is not space:
            raise error("duplicate", f"there are two spaces named `{name}`", place)

    def _use(self, item: syntax.Use, source: Source, chain: tuple[Path, ...]) -> None:
        beside = source.path.parent if source.path is not None else Path()
        name, expected = _named(item.path.value)
        place = _lies_at(name, source.path, beside)
        path = place.resolve()
        if source.path is not None and path in (*chain, source.path.resolve()):
            raise error("use-circle", "these files use each other in a circle", item.path.span)
        if path not in self._parts and any(_is_at(file, path) for file in self.files):
            return
        if len(chain) > 30:
            raise error("use-depth", "files use each other more than 30 deep", item.path.span)
        try:
            used = read(place)
        except CompileError as problem:
            if problem.diagnostics[0].span is not None:
                raise
            found = problem.diagnostics[0]
            nowhere = f"there is no file `{name}` beside this one, none that ships, and none of an installed package"
            message = nowhere if found.code == "no-such-file" else found.message
            front, mark, _ = name.rpartition("#")
            short = found.code == "no-such-file" and mark and not expected and (beside / front).is_file()
            help = "the hash behind `#` has 16 hexadecimal digits" if short else found.help
            raise error(found.code, message, item.path.span, help=help) from None
        if path.suffix != ".space":
            _must_be_a_space(used, item)
        further = (*chain, source.path.resolve()) if source.path is not None else chain
        if item.names is None:
            self._parts.pop(path, None)
            first = len(self.files)
            self._add(used, further)
            whole = self.files[first:]
        else:
            if path not in self._parts:
                self._parts[path] = Files(used, further)
            whole = self._parts[path].files
            self._take(item.names, self._parts[path], name)
        found_hash = meaning(*[file.tree for file in whole]) if expected else ""
        if found_hash != expected:
            raise error(
                "changed-file",
                f"`{name}`, or a file that it uses, has changed since this file was written",
                item.path.span,
                f"its hash is now {found_hash}",
                help="take the file as it was, or take the hash out if the change does not matter",
            )

    def _take(self, names: Sequence[syntax.Name], part: Files, path: str) -> None:
        """Some of what a file declares, with all that it is made of. What spaces declare inside is among it, where it
        does not hang on the space.
        """
        self.files += [file for file in part.files if file not in self.files]
        inside = [(item, space) for space, _ in part.spaces.values() for item in _declared_in(space)]
        local = Counter(item.name.name for item, _ in inside)
        outside: dict[str, Definition] = {item.name.name: item for item in part.definitions}
        homes = {item.name.name: (item, space) for item, space in inside}
        queue = [(word, True) for word in names]  # each with whether it may be one that a space declares inside
        seen: set[str] = set()
        while queue:
            word, anywhere = queue.pop(0)
            name = word.name
            if name in seen:
                continue
            if name in part.spaces:
                space, file = part.spaces[name]
                self._space(space, file, word.span)
                queue.extend((node, False) for node in _words(space))
            elif name in outside or (anywhere and name in homes):
                item = outside.get(name) or _alone(*homes[name], word)
                if name not in outside and local[name] > 1:
                    message = f"several spaces of `{path}` have an operator `{name}`"
                    raise error("ambiguous-name", message, word.span, help="move it out of the spaces")
                if not any(item is one for one in self.definitions):
                    self.definitions.append(item)
                queue.extend((node, name not in outside) for node in _words(item))
            elif any(word is one for one in names):
                help = near(name, [*part.spaces, *outside, *homes])
                raise error("unknown-name", f"`{path}` declares no `{name}`", word.span, help=help)
            else:
                continue
            seen.add(name)


def _words(item: syntax.Node) -> list[syntax.Name]:
    return [node for node in walk(item) if isinstance(node, syntax.Name)]


def _is_at(file: UsedFile, path: Path) -> bool:
    return file.source.path is not None and file.source.path.resolve() == path


def _declared_in(space: syntax.Space | syntax.Derived) -> list[syntax.Operator | syntax.Fusion]:
    body = space.body if isinstance(space, syntax.Space) else ()
    return [item for item in body if isinstance(item, syntax.Operator | syntax.Fusion)]


def _alone(
    item: syntax.Operator | syntax.Fusion, space: syntax.Space | syntax.Derived, word: syntax.Name
) -> Definition:
    """What a space declares, which may use nothing of the space but other operators.

    Raises:
        CompileError: it uses a parameter or a `let`.
    """
    body = space.body if isinstance(space, syntax.Space) else ()
    values = {one.name.name for one in body if isinstance(one, syntax.Param | syntax.Let)}
    own = {*(formal.name.name for formal in item.formals), *bound_in([item.body])}
    own |= {node.name for node in walk(item) if isinstance(node, syntax.Bind)}
    for node in _words(item):
        if node.name in values - own:
            message = f"`{word.name}` cannot be used alone: it uses `{node.name}` of the space `{space.name.name}`"
            where = (Label(node.span, "here"),)
            raise error("not-alone", message, word.span, others=where, help="make that a parameter of the operator")
    return item
