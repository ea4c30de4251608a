"""Every block of every page is what it says: files check and have their counts, commands print what stands below them,
Python runs, pictures are drawn.

Each page has a folder of its own, in which its blocks run from top to bottom. The conventions are in CONTRIBUTING.md.
With `--golden` what commands and Python print is written into the pages, with `...` kept where it still fits.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from docs._ext.blocks import Block, blocks
from docs._ext.drawings import draw
from nasdsl.compiler.count import count
from nasdsl.compiler.diagnostics import NasdslError
from nasdsl.compiler.parse import parse
from nasdsl.compiler.pipeline import elaborate_all
from nasdsl.compiler.source import Source
from nasdsl.compiler.unparse import unparse
from tests.forks import LIMIT, Forks, Session

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
ALWAYS = ("README.md", "index.md")
"""Pages whose blocks run each time; all others where NASDSL_DOCS=1 is set, as in CI."""
MADE = ("_", "benchmarks/results/", "language/reference/", "spaces/")
"""Folders of pages that the build makes of what is tested elsewhere."""

PAGES = {"README.md": ROOT / "README.md"} | {
    name: file
    for file in sorted(DOCS.rglob("*.md"))
    for name in [file.relative_to(DOCS).as_posix()]
    if not name.startswith(MADE)
}
LONG = bool(os.environ.get("NASDSL_LONG"))
TIMEOUT = 3600.0 if LONG else 300.0
"""Seconds after which a page has hung; trainings of `long` blocks take minutes where others work, too."""


def grouped(page: str) -> Any:
    """Pages of a folder run in one process, which has the commands at hand."""
    marks = [pytest.mark.xdist_group(f"docs_{page.rpartition('/')[0]}")]
    return pytest.param(page, id=page, marks=marks if page in ALWAYS else [*marks, pytest.mark.docs])


@pytest.mark.timeout(TIMEOUT)
@pytest.mark.parametrize("page", [grouped(page) for page in PAGES])
def test_what_a_page_says_is_so(page: str, tmp_path: Path, forks: Forks, request: pytest.FixtureRequest) -> None:
    text = PAGES[page].read_text(encoding="utf-8")
    folder = tmp_path / "page"
    folder.mkdir()
    if page == "README.md":
        (folder / "spaces").symlink_to(ROOT / "spaces")  # it speaks of a checkout
    run = Run(page, folder, forks)
    try:
        run.all(list(blocks(text)))
    finally:
        run.close()
    if request.config.getoption("--golden"):
        lines = text.splitlines(keepends=True)
        for first, last, printed in reversed(run.differing):
            lines[first:last] = [f"{line}\n" for line in printed]
        PAGES[page].write_text("".join(lines), encoding="utf-8")
        run.problems = [problem for problem in run.problems if not problem.mended]
    if run.problems:
        pytest.fail("\n\n".join(problem.text for problem in run.problems), pytrace=False)


@dataclass
class Problem:
    """Attributes:
    mended: by writing what is printed into the page.
    """

    text: str
    mended: bool = False


@dataclass
class Run:
    """One page's blocks, run in a folder.

    Attributes:
        differing: lines of the page (from, to) in whose place others are printed.
    """

    page: str
    folder: Path
    forks: Forks
    problems: list[Problem] = field(default_factory=list)
    differing: list[tuple[int, int, list[str]]] = field(default_factory=list)
    session: Session | None = None

    def close(self) -> None:
        if self.session is not None:
            self.session.close()

    def complain(self, line: int, text: str) -> None:
        self.problems.append(Problem(f"{self.page}:{line}: {text}"))

    @property
    def installed(self) -> Path:
        return self.folder.parent / "installed"

    def environment(self) -> dict[str, str]:
        return {
            "COLUMNS": "120",
            "NO_COLOR": "1",
            "PIP_TARGET": str(self.folder.parent / "installed"),
            "PIP_NO_INDEX": "1",
            "PIP_NO_DEPS": "1",
            "PIP_NO_BUILD_ISOLATION": "0",  # which is how pip reads an option that says no
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_ROOT_USER_ACTION": "ignore",
            "PIP_QUIET": "1",
            "PYTHONPATH": f"{self.installed}{os.pathsep}{ROOT}",
        }

    def all(self, found: list[Block]) -> None:
        """Stops at the first block that fails in another way than by what it prints: the rest hangs on it."""
        for at, block in enumerate(found):
            if block.why_not_run or (block.is_long and not LONG):
                continue
            after = found[at + 1] if at + 1 < len(found) and found[at + 1].output else None
            before = len(self.problems)
            if block.caption and block.kind != "draw":
                file = self.folder / block.caption
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(block.text, encoding="utf-8")
            if block.kind == "space" and "has mistakes" not in block.marks:
                self.space(block)
            elif block.kind == "space-part":
                self.part(block)
            elif block.kind == "console":
                self.console(block)
            elif block.kind == "python" and not block.caption:
                self.python(block, after)
            elif block.kind == "draw":
                self.picture(block)
            if any(not problem.mended for problem in self.problems[before:]):
                return

    def space(self, block: Block) -> None:
        if self.installed.exists() and block.caption:  # what a page installs is known to its forks alone
            wanted = f"nasdsl fmt --check {block.caption} && nasdsl check --all {block.caption}"
            ended = self.forks.shell(self.folder, wanted, self.environment())
            if ended.code or "warning[" in ended.said:
                self.complain(block.line, f"{block.caption} does not check:\n{ended.said.rstrip()}")
            return
        name = block.caption or f"line {block.line}"
        source = Source(block.text, name, self.folder / (block.caption or "_.space"))
        try:
            laid_out = unparse(parse(source))
            if laid_out != block.text:
                self.complain(block.line, "not laid out as `nasdsl fmt` does:\n" + differences(block.text, laid_out))
            spaces = list(elaborate_all(source))
        except NasdslError as problem:
            self.complain(block.line, f"{name} does not check:\n" + told(problem))
            return
        for warning in [warning for space in spaces for warning in space.warnings]:
            self.complain(block.line, f"{name} warns: {warning.message}")
        said = re.match(r"# ([\d,]+) architectures?\n", block.text)
        if said is not None and count(spaces[0].graph).total != int(said[1].replace(",", "")):
            self.complain(block.line, f"it has {count(spaces[0].graph).total:,} architectures, not {said[1]}")

    def part(self, block: Block) -> None:
        """A fragment stands at the top of a file, in a space, or in a network."""
        wraps = ("{}", "space s {{\n{}\n}}", "operator o() {{\n{}\n}}", "operator o() = {}", "operator o({}) {{ in }}")
        for wrap in wraps:
            try:
                parse(Source(wrap.format(block.text)))
                return
            except NasdslError as problem:
                last = problem
        self.complain(block.line, "this is no part of a file:\n" + told(last))

    def picture(self, block: Block) -> None:
        try:
            draw(block, self.folder, self.folder / block.caption)
        except Exception as problem:  # a page's mistake, whatever it is
            self.complain(block.line, f"cannot be drawn: {problem}")

    def console(self, block: Block) -> None:
        for first, last, command in commands(block):
            ended = self.forks.shell(self.folder, command, self.environment(), TIMEOUT / 2 if block.is_long else LIMIT)
            if ended.code:
                said = ended.said.rstrip()
                self.complain(first, f"`{command}` ends with exit code {ended.code}:\n{said}")
                return
            self.compare(block.line + last, block, last, ended.said, f"`{command}`")

    def python(self, block: Block, after: Block | None) -> None:
        if self.session is None:
            self.session = self.forks.session(self.folder)
        ended = self.session.run(block.text, self.page, block.line)
        if ended.code:
            self.complain(block.line, f"this Python fails:\n{ended.said.rstrip()}")
        elif after is not None:
            self.compare(after.line, after, 0, ended.said, "this Python")

    def compare(self, line: int, block: Block, start: int, said: str, what: str) -> None:
        """What is printed, with what stands in a block from a line of it up to the next command."""
        expected: list[str] = []
        for text in block.text.splitlines()[start:]:
            if block.kind == "console" and text.startswith("$ "):
                break
            expected.append(text)
        while expected and not expected[-1].strip():  # an empty line before the next command is layout
            expected.pop()
        printed = [text.rstrip() for text in said.rstrip().splitlines()]
        if matches(expected, printed):
            return
        shown = differences("\n".join(expected) + "\n", "\n".join(printed) + "\n")
        self.problems.append(Problem(f"{self.page}:{line}: {what} prints something else:\n{shown}", mended=True))
        self.differing.append((line - 1, line - 1 + len(expected), elided(expected, printed)))


def commands(block: Block) -> Iterator[tuple[int, int, str]]:
    """The commands of a block: the line in the page, where in the block what they print begins, and the command. A
    command goes on after a backslash."""
    lines = block.text.splitlines()
    at = 0
    while at < len(lines):
        if lines[at].startswith("$ "):
            first, command = at, lines[at][2:]
            while command.endswith("\\") and at + 1 < len(lines):
                at += 1
                command = f"{command}\n{lines[at]}"
            yield block.line + first, at + 1, command
        at += 1


def matches(expected: list[str], printed: list[str]) -> bool:
    """Whether lines are as expected, where `...` stands for any lines, and inside a line for any text."""
    pattern = "".join(
        r"(?:.*\n)*?" if line.strip() == "..." else ".*".join(map(re.escape, line.rstrip().split("..."))) + r"\n"
        for line in expected
    )
    return re.fullmatch(pattern, "".join(f"{line}\n" for line in printed)) is not None


def elided(expected: list[str], printed: list[str]) -> list[str]:
    """What is printed, as it is to stand in the page: a line that one of the page with `...` in it fits stays as it was
    there, and lines stay left out where the page's next and last line are still found."""
    kept: list[str] = []
    at = 0
    for i, line in enumerate(expected):
        if line.strip() == "...":
            following = next((one for one in expected[i + 1 :] if one.strip() != "..."), None)
            if following is None:
                return [*kept, line]
            ahead = next((j for j in range(at, len(printed)) if matches([following], [printed[j]])), None)
            if ahead is not None:
                kept.append(line)
                at = ahead
        elif at < len(printed):
            kept.append(line if matches([line], [printed[at]]) else printed[at])
            at += 1
    return kept + printed[at:]


def differences(expected: str, found: str) -> str:
    lines = difflib.unified_diff(expected.splitlines(), found.splitlines(), "the page", "now", lineterm="")
    return "\n".join(lines)


def told(problem: NasdslError) -> str:
    return "\n".join(
        f"  line {one.span.line if one.span else '?'}: {one.message}" + (f" ({one.help})" if one.help else "")
        for one in problem.diagnostics
    )
