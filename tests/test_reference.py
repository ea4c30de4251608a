"""The reference tells of everything that there is, each with an example that is so; every code is explained, and raised
by what it is shown with."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from nasdsl.cli import COMMANDS, main
from nasdsl.compiler import measures, ops
from nasdsl.compiler.bind import library
from nasdsl.compiler.bind.base import AMBIENT
from nasdsl.compiler.bind.binder import SECTIONS
from nasdsl.compiler.bound import SLOTS
from nasdsl.compiler.constructs import CONSTRUCTS
from nasdsl.compiler.count import count
from nasdsl.compiler.diagnostics import NasdslError
from nasdsl.compiler.elaborate.forms import FORMS
from nasdsl.compiler.elaborate.functions import FUNCTIONS
from nasdsl.compiler.pipeline import elaborate
from nasdsl.compiler.source import Source
from nasdsl.compiler.tables import tables
from nasdsl.reference import language
from nasdsl.reference.entry import KINDS, Entry
from nasdsl.reference.mistakes import MISTAKES
from nasdsl.reference.mistakes.mistake import FILE, Mistake
from nasdsl.reference.mistakes.told import told as explained
from nasdsl.reference.told import told
from tests.forks import Forks

ROOT = Path(__file__).resolve().parents[1]
ENTRIES = list(language.entries())
SHOWN = [entry for entry in ENTRIES if entry.kind != "measure"]


def known(kind: str) -> set[str]:
    return {entry.name for entry in ENTRIES if entry.kind == kind}


# --- The language -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("entry", SHOWN, ids=lambda entry: f"{entry.kind} {entry.name}")
def test_each_has_an_example_with_its_count(entry: Entry) -> None:
    assert entry.example is not None
    space = elaborate(Source(entry.example.file))
    assert count(space.graph).total == entry.example.count
    assert not space.warnings


def test_each_example_uses_what_it_shows() -> None:
    other = {"label:": "a:", "[for]": "[for", "budget": "require macs"}  # what is written otherwise than it is called
    for entry in SHOWN:
        assert entry.example is not None
        if entry.name in ("path", "call", "word", "number", "string"):
            continue  # no word of the text is this
        marks = {entry.name, *(entry.also if entry.kind == "construct" else ())}
        marks = {other.get(entry.name, entry.name)} | {part for mark in marks for part in mark.split()}
        assert any(mark in entry.example.file for mark in marks), entry.name


def test_everything_there_is_is_told() -> None:
    assert known("function") == set(FUNCTIONS)
    assert known("form") == set(FORMS)
    assert known("operator") == set(ops.CATALOGUE) - set(FORMS)
    assert known("library") == set(library.OPERATORS)
    assert known("measure") == set(measures.BUILT_IN)
    told_words = {word for one in CONSTRUCTS for word in (one.name, *one.also)}
    assert {*AMBIENT, "in", *SECTIONS, *SLOTS} <= told_words


def test_constructs_tell_of_the_whole_grammar() -> None:
    """Each rule that a text can use, and each keyword, belongs to a construct; none tells of what is not there."""
    grammar = tables()
    rules = {name for name, _, _, _ in grammar.rules if not name.startswith("_")}
    made = {action.strip("=") for _, _, _, action in grammar.rules if action.strip("=")}
    assert {rule for one in CONSTRUCTS for rule in one.rules} - {"group"} == rules | made
    assert {word for one in CONSTRUCTS for word in one.words} == set(grammar.words)
    assert "group" in (ROOT / "compiler" / "grammar.lark").read_text()  # an alternative of `atom`, made of nothing


def test_each_parameter_of_a_form_has_its_doc() -> None:
    assert all(param.doc for form in FORMS.values() for param in form.parameters)


def test_names_lead_to_one_thing_of_a_kind() -> None:
    for kind in KINDS:
        names = [entry.name for entry in ENTRIES if entry.kind == kind]
        assert len(names) == len(set(names))


def test_what_is_told_fits_a_terminal() -> None:
    for entry in ENTRIES:
        assert all(len(line) <= 120 or entry.source for line in told(entry).splitlines()), entry.name


def test_settings_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    from nasdsl.reference import searches
    from nasdsl.runtime.evaluators import EVALUATORS
    from nasdsl.runtime.evolution.registry import METHODS
    from nasdsl.runtime.recipes import RECIPES
    from nasdsl.runtime.strategies import STRATEGIES
    from nasdsl.runtime.tasks import TASKS

    entries = list(searches.entries())
    names = {kind: {one.name for one in entries if one.kind == kind} for kind in KINDS}
    assert names["search"] == set(STRATEGIES)
    assert (names["method"], names["evaluator"]) == (set(METHODS), set(EVALUATORS))
    assert (names["preset"], names["task"]) == (set(RECIPES), {task.name for task in TASKS})
    for entry in entries:
        assert entry.doc, entry.name
        for row in entry.rows:
            assert row.doc, f"{entry.name}: {row.name}"
            assert row.kind, f"{entry.name}: {row.name}"
    assert main(["help", "shrink"]) == 0
    assert "search shrink { setting: value }" in capsys.readouterr().out


# --- The commands -----------------------------------------------------------------------------------------------------


def test_help_tells_the_same_as_operators(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("pick", "conv", "retina"):
        assert main(["help", name]) == 0
        of_help = capsys.readouterr().out
        assert main(["operators", name]) == 0
        assert capsys.readouterr().out == of_help


@pytest.mark.parametrize(
    ("word", "help"),
    [("onof", "did you mean `oneof`?"), ("Conv2d", "write `conv(out, kernel: 3)`"), ("check", "`nasdsl check --help`")],
)
def test_help_knows_what_is_meant(word: str, help: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["help", word]) == 1
    assert help in capsys.readouterr().err


def test_several_things_of_one_name_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["help", "sum", "branches"]) == 0
    shown = capsys.readouterr().out
    assert "sum(list)" in shown and "sum(a, b, ..., from)" in shown
    assert "how many branches come in" in shown and "a set of branches made of tensors" in shown


def test_explain(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "error[scale-mismatch]"]) == 0
    assert "differ in scale" in capsys.readouterr().out
    assert main(["explain"]) == 0
    assert all(
        re.search(rf"^  {code} ", shown, re.MULTILINE) for shown in [capsys.readouterr().out] for code in MISTAKES
    )


# --- The codes --------------------------------------------------------------------------------------------------------

SLUG = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
OTHER = {"warning", "difficult"}
"""What stands where a code would, and is none: a severity, an attribute of Pascal VOC's boxes."""


@cache
def trees() -> list[ast.Module]:
    folders = [ROOT / "compiler", ROOT / "runtime", ROOT / "nasdsl"]
    links = {"compiler", "runtime", "spaces"}
    files = [file for folder in folders for file in folder.rglob("*.py")]
    mine = [file for file in files if not (file.parts[len(ROOT.parts)] == "nasdsl" and file.parts[-2] in links)]
    return [ast.parse(file.read_text(encoding="utf-8")) for file in mine if "mistakes" not in file.parts]


def takers() -> dict[str, set[int]]:
    """The functions and classes that are given a `code`, with its place among their arguments."""
    found: dict[str, set[int]] = {}
    for node in (node for tree in trees() for node in ast.walk(tree)):
        if isinstance(node, ast.FunctionDef):
            names = [arg.arg for arg in [*node.args.posonlyargs, *node.args.args] if arg.arg not in ("self", "cls")]
        elif isinstance(node, ast.ClassDef):
            names = [
                one.target.id
                for one in node.body
                if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name)
            ]
        else:
            continue
        if "code" in names:
            found.setdefault(node.name, set()).add(names.index("code"))
    return found


def raised() -> Iterator[str]:
    """All codes that the text of the program gives to something."""
    places = takers()
    for node in (node for tree in trees() for node in ast.walk(tree)):
        given: list[ast.expr | None] = []
        if isinstance(node, ast.Call):
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            given += [word.value for word in node.keywords if word.arg == "code"]
            given += [node.args[i] for i in places.get(name, ()) if i < len(node.args)]
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            given += [node.value] if [getattr(one, "id", "") for one in targets] == ["code"] else []
        elif isinstance(node, ast.FunctionDef):
            last = node.args.args[len(node.args.args) - len(node.args.defaults) :]
            given += [default for arg, default in zip(last, node.args.defaults, strict=True) if arg.arg == "code"]
        while given:
            one = given.pop()
            if isinstance(one, ast.IfExp):
                given += [one.body, one.orelse]
            elif isinstance(one, ast.Constant) and isinstance(one.value, str) and SLUG.fullmatch(one.value):
                yield one.value


def test_each_code_is_explained_and_none_is_stale() -> None:
    assert set(raised()) - OTHER == set(MISTAKES)


def test_codes_of_the_broken_files_are_explained() -> None:
    """Found in another way: by what is raised."""
    said = (ROOT / "tests" / "errors" / "messages.txt").read_text(encoding="utf-8")
    assert set(re.findall(r"^\d*\[([\w-]+)\]", said, re.MULTILINE)) <= set(MISTAKES)


CHECKED = [one for one in MISTAKES.values() if one.text and not one.command and one.told]
ASKED = [one for one in MISTAKES.values() if one.command and one.told]


@pytest.mark.parametrize("mistake", CHECKED, ids=lambda one: one.code)
def test_what_is_shown_raises_its_code(mistake: Mistake) -> None:
    try:
        found = elaborate(Source(mistake.file, FILE)).warnings
    except NasdslError as problem:
        found = problem.diagnostics
    assert mistake.code in {one.code for one in found}


@pytest.mark.parametrize("mistake", ASKED, ids=lambda one: one.code)
def test_the_command_that_is_shown_tells_its_code(mistake: Mistake, tmp_path: Path, forks: Forks) -> None:
    if mistake.text:
        (tmp_path / FILE).write_text(mistake.file, encoding="utf-8")
    ended = forks.shell(tmp_path, mistake.asked, {"NO_COLOR": "1"})
    assert ended.code in (1, 2)
    assert f"[{mistake.code}]" in ended.said or (mistake.code == "usage" and ended.code == 2), ended.said


def test_explanations_are_whole() -> None:
    for mistake in MISTAKES.values():
        assert mistake.meaning.endswith((".", "`")) and mistake.mended.endswith((".", ")", "`")), mistake.code
        known = any(mistake.asked.startswith(f"nasdsl {command.name}") for command in COMMANDS)
        assert known or (mistake.asked and not mistake.told), mistake.code
        assert all(len(line) <= 120 for line in explained(mistake).splitlines()), mistake.code
