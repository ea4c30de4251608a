"""Parts of pages that are made of records: the reference of the language, settings of searches, diagnostics, the public
names of Python, and the text of the spaces that ship. They are written to `_made/`, which pages include, before a build
reads any page.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from sphinx.application import Sphinx

import nasdsl
from nasdsl import spaces
from nasdsl.reference import language, searches
from nasdsl.reference.entry import KINDS, Entry, Row
from nasdsl.reference.mistakes import GROUPS
from nasdsl.reference.mistakes.mistake import Mistake
from nasdsl.reference.mistakes.told import shown
from nasdsl.reference.told import written

FOLDER = "_made"
LONG = 40
"""Characters of what a parameter may be, beyond which it stands beside its meaning."""


def write_all(app: Sphinx, config: object) -> None:
    source = Path(app.srcdir)
    made = dict(parts())
    made |= {f"../spaces/{name}.md": page_of_space(name) for name in spaces.names()}
    for old in {*(source / FOLDER).glob("*.md"), *(source / "spaces").glob("*.md")}:
        if not any((source / FOLDER / name).resolve() == old.resolve() for name in made):
            old.unlink()
    for name, text in made.items():
        file = source / FOLDER / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.exists() or file.read_text(encoding="utf-8") != text:  # what is unchanged is not built again
            file.write_text(text, encoding="utf-8")


def parts() -> Iterator[tuple[str, str]]:
    """The name of each part, and its text."""
    by_kind: dict[str, list[Entry]] = {kind: [] for kind in KINDS}
    for entry in (*language.entries(), *searches.entries()):
        by_kind[entry.kind].append(entry)
    for kind, entries in by_kind.items():
        yield f"{kind}.md", of_kind(entries)
    yield "diagnostics.md", diagnostics()
    yield from api()


def of_kind(entries: list[Entry]) -> str:
    """The entries of one kind, under the titles of their groups where there are several."""
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(entry.group, []).append(entry)
    lines = []
    for group, members in groups.items():
        level = 3 if len(groups) > 1 else 2
        if len(groups) > 1:
            lines.append(f"## {escaped(group[:1].upper() + group[1:])}\n")
            lines.append(" · ".join(f"[`{one.name}`](#{label(one)})" for one in members) + "\n")
        lines += [told(one, level) for one in members]
    return "\n".join(lines)


def label(entry: Entry) -> str:
    """Where pages lead to."""
    marks = {"#": "comment", "->": "sequence", "{ }": "braces", "label:": "label", "[ ]": "list", "..": "range"}
    marks |= {"[for]": "comprehension", "{ : }": "record", "+ - * / ^": "arithmetic", ".": "field"}
    marks |= {"== != < <= > >=": "comparison", "and or not implies": "truth"}
    name = marks.get(entry.name, entry.name)
    return f"{entry.kind}-{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}"


def told(entry: Entry, level: int) -> str:
    parts = [
        f"({label(entry)})=",
        f"{'#' * level} `{entry.name}`\n",
        f"```text\n{wrapped(entry.signature)}\n```\n",
        sentence(entry.doc),
        entry.text + "\n" if entry.text else "",
        table("setting" if entry.kind in ("search", "settings", "method", "evaluator") else "parameter", entry.rows),
        words(entry.bound),
    ]
    if entry.example is not None:
        parts.append(f"```space\n{written(entry.example)}```\n")
    if entry.source:
        parts.append(source(entry))
    return "\n".join(part for part in parts if part)


def source(entry: Entry) -> str:
    """The text of an operator of the library, closed until somebody asks."""
    return f"<details><summary>Its text</summary>\n\n```space-part\n{entry.source}\n```\n\n</details>\n"


def wrapped(signature: str, width: int = 88) -> str:
    """A long signature on several lines, broken behind commas."""
    lines, line = [], ""
    for part in re.split(r"(?<=,) ", signature):
        if line and len(line) + len(part) > width:
            lines.append(line)
            line = "    "
        line += part if line in ("", "    ") else f" {part}"
    return "\n".join([*lines, line])


def sentence(text: str) -> str:
    """Begins with a capital, ends with a point."""
    return f"{text[:1].upper()}{text[1:].rstrip('.')}.\n"


def table(title: str, rows: Iterable[Row]) -> str:
    rows = list(rows)
    if not rows:
        return ""
    lines = [f"| {title} | is | default | |", "|---|---|---|---|"]
    for row in rows:
        words = row.kind.split(" | ")
        kind, doc = " or ".join(words), row.doc
        if len(kind) > LONG:
            kind, doc = "one of", f"{doc}: {', '.join(f'`{word}`' for word in words)}"
        default = "needed" if row.needed else f"`{row.default}`" if row.default else ""
        lines.append(f"| `{row.name}` | {escaped(kind)} | {escaped(default)} | {escaped(doc)} |")
    return "\n".join(lines) + "\n"


def words(rows: Iterable[Row]) -> str:
    rows = list(rows)
    if not rows:
        return ""
    lines = ["| bound inside | |", "|---|---|", *(f"| `{row.name}` | {escaped(row.doc)} |" for row in rows)]
    return "\n".join(lines) + "\n"


def escaped(text: str) -> str:
    """For a cell of a table, and so that no mark outside of code is taken for more than it is."""
    return text.replace("|", "\\|").replace("<", "&lt;") if "`" not in text else text.replace("|", "\\|")


# --- Diagnostics ------------------------------------------------------------------------------------------------------


def diagnostics() -> str:
    lines = []
    for group in GROUPS:
        lines.append(f"## {group.TITLE}\n")
        lines.append(" · ".join(f"[`{one.code}`](#code-{one.code})" for one in group.MISTAKES) + "\n")
        lines += [explained(one) for one in group.MISTAKES]
    return "\n".join(lines)


def explained(mistake: Mistake) -> str:
    parts = [f"(code-{mistake.code})=", f"### `{mistake.code}`\n", mistake.meaning + "\n"]
    parts.append(f"*Mended:* {mistake.mended}\n")
    if mistake.text:
        parts.append(f"```{{code-block}} space-part\n:force:\n\n{shown(mistake)}```\n")
    if mistake.command:
        kind = "console" if mistake.command.startswith("nasdsl ") else "python"
        before = "$ " if kind == "console" else ""
        parts.append(f"```{kind}\n{before}{mistake.command}\n```\n")
    return "\n".join(parts)


# --- Python -----------------------------------------------------------------------------------------------------------


def api() -> Iterator[tuple[str, str]]:
    """The public names by what they are."""
    values = {name: getattr(nasdsl, name) for name in nasdsl.__all__ if not name.startswith("_")}
    kinds = {
        "functions": [name for name, value in values.items() if inspect.isfunction(value)],
        "exceptions": [name for name, value in values.items() if is_exception(value)],
        "classes": [name for name, value in values.items() if inspect.isclass(value) and not is_exception(value)],
    }
    for kind, names in kinds.items():
        directive = "autofunction" if kind == "functions" else "autoclass"
        parts = [documented(directive, f"nasdsl.{name}", name) for name in sorted(names)]
        yield f"api_{kind}.md", "\n".join(parts)


def is_exception(value: object) -> bool:
    return inspect.isclass(value) and issubclass(value, BaseException)


def documented(directive: str, path: str, title: str) -> str:
    """A section for one name, from its docstring."""
    members = "   :members:\n   :show-inheritance:\n" if directive == "autoclass" else ""
    return f"## {title}\n\n```{{eval-rst}}\n.. {directive}:: {path}\n{members}```\n"


# --- Spaces -----------------------------------------------------------------------------------------------------------


def page_of_space(name: str) -> str:
    """The text of a space that ships, as a page."""
    text = spaces.read(name)
    about = f"A file that ships, as do [the others](../spaces.md). It goes by its name: `nasdsl check {name}`."
    return f"# {name}.space\n\n{about}\n\n```space\n{text}```\n"


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("config-inited", write_all)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
