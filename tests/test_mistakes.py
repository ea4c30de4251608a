"""One tree of errors: every exception hangs on NasdslError, is printed once and in one place, and reaches other
processes; files that are read back are told of where they are damaged."""

from __future__ import annotations

import ast
import copy
import importlib
import inspect
import io
import json
import pickle
import sys
import tokenize
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given
from hypothesis import settings as runs
from hypothesis import strategies as st
from safetensors.torch import save

import nasdsl
from nasdsl.cli import main
from nasdsl.compiler import ops
from nasdsl.compiler.architecture import ArchitectureError
from nasdsl.compiler.diagnostics import CompileError, Diagnostic, NasdslError
from nasdsl.compiler.engine.likeliest import Undecided
from nasdsl.compiler.engine.limits import TooCostly, TooWide
from nasdsl.compiler.latency_table import Entry, LatencyTable, Point, read_table
from nasdsl.compiler.ops.operator import ShapeProblem
from nasdsl.compiler.source import Source, Span
from nasdsl.options import UsageError
from nasdsl.progress import Bars
from nasdsl.runtime.checkpoint import State, load_checkpoint, load_weights
from nasdsl.runtime.errors import Diverged, RunError
from nasdsl.runtime.provenance import ORIGIN, read_origin, write_origin
from nasdsl.runtime.runs import ABOUT, About, RunFolder
from nasdsl.runtime.storage import database_url
from nasdsl.runtime.strategies.sample import read_scores
from nasdsl.runtime.trials import Database, read_database
from nasdsl.tell import tell
from tests.test_layout import modules

INSIDE = {"Absent", "_Stopped"}  # what never reaches a user
PLACE = Span(Source("one\ntwo three\n", "file.space"), 8, 13)


def kinds() -> list[type[BaseException]]:
    """The exception classes that the package defines."""
    found = []
    for name in modules():
        if name == "nasdsl.__main__":
            continue
        for kind in vars(importlib.import_module(name)).values():
            if isinstance(kind, type) and issubclass(kind, BaseException) and kind.__module__ == name:
                found.append(kind)
    return found


OWN_SHAPE: dict[type[NasdslError], Callable[[str, str], NasdslError]] = {
    CompileError: lambda message, help: CompileError([Diagnostic("code", message, PLACE, "here", help=help)]),
    TooWide: lambda message, help: TooWide(message, 100, 10, ["a"]),
    TooCostly: lambda message, help: TooCostly(1 << 60),
    Undecided: lambda message, help: Undecided(1000),
    ShapeProblem: lambda message, help: ShapeProblem(message, "width", help),
    Diverged: lambda message, help: Diverged(message, help),
    ArchitectureError: lambda message, help: ArchitectureError("op", [Diagnostic("code", message, PLACE, help=help)]),
}
"""How those are made whose `__init__` is their own."""


def made(kind: type[NasdslError], message: str = "a message", help: str = "some advice") -> NasdslError:
    return OWN_SHAPE[kind](message, help) if kind in OWN_SHAPE else kind(message, help, PLACE)


def test_all_exceptions_hang_on_one() -> None:
    found = kinds()
    assert len(found) > 10
    for kind in found:
        assert kind.__name__ in INSIDE or issubclass(kind, NasdslError), kind
        if issubclass(kind, NasdslError) and kind is not NasdslError:
            assert (kind.__init__ is not NasdslError.__init__) == (kind in OWN_SHAPE), kind
            assert issubclass(kind, CompileError) or kind.code != NasdslError.code, kind


def test_they_reach_other_processes_and_are_printed_once(capsys: pytest.CaptureFixture[str]) -> None:
    for kind in kinds():
        if not issubclass(kind, NasdslError):
            continue
        mistake = made(kind)
        for again in (pickle.loads(pickle.dumps(mistake)), copy.copy(mistake)):
            assert type(again) is kind and str(again) == str(mistake)
            assert repr(vars(again)) == repr(vars(mistake)), "the paths, the help, the place"
            assert again.diagnostics == mistake.diagnostics
        assert mistake.message in str(mistake) and mistake.help not in str(mistake)
        assert mistake.__notes__ == [f"help: {mistake.help}"]
        code = tell(mistake, "count")
        _, text = capsys.readouterr()
        assert code == (2 if kind is UsageError else 1)
        assert text.count(mistake.message) == text.count(mistake.help) == 1
        assert tell(mistake, "count", "json") == code
        out, err = capsys.readouterr()
        (told,) = json.loads(out)
        assert (told["message"], told["help"], err) == (mistake.message, mistake.help, "")
        if mistake.span is not None:
            assert (told["file"], told["line"], told["column"]) == ("file.space", 2, 5)
            assert str(mistake) == f"file.space:2:5: {mistake.message}"


def test_several_mistakes_in_a_file_are_one_exception() -> None:
    text = "space a {\n  input 3 x 8 x 8\n  network {\n    cnv(3)\n    relo()\n    classify(classes: 2)\n  }\n}\n"
    with pytest.raises(nasdsl.NasdslError) as caught:
        nasdsl.loads(text)
    assert [line.split(": ")[0] for line in str(caught.value).splitlines()] == ["<text>:4:5", "<text>:5:5"]
    assert caught.value.message in str(caught.value).splitlines()[0] and caught.value.span is not None


@given(st.text(), st.text())
def test_whatever_a_message_says_is_printed_as_text(message: str, help: str) -> None:
    stream = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stderr", stream)
        patch.setattr("sys.stdout", stream)
        tell(RunError(message, help), "count")
        assert all(c.isprintable() or c == "\n" for c in stream.getvalue())
        stream.seek(stream.truncate(0))
        tell(RunError(message, help), "count", "json")
        (told,) = json.loads(stream.getvalue())
        assert (told["message"], told.get("help", "")) == (message, help)


def test_the_bar_takes_a_users_words_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    Bars().note("nothing at [/data/train] [bold]x[/] :smile: \x1b[31m")
    assert "nothing at [/data/train] [bold]x[/] :smile: \N{REPLACEMENT CHARACTER}[31m\n" in capsys.readouterr().err


def test_a_broad_except_says_why() -> None:
    """`except Exception` hides mistakes of ours: whoever needs one gives the reason beside it."""
    for name, file in modules().items():
        text = file.read_text(encoding="utf-8")
        broad = {
            node.lineno
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.ExceptHandler) and (node.type is None or "Exception" in names(node.type))
        }
        tokens = tokenize.generate_tokens(io.StringIO(text).readline)
        reasons = {token.start[0] for token in tokens if token.type == tokenize.COMMENT}
        assert broad <= reasons, f"{name}, lines {sorted(broad - reasons)}"


def names(node: ast.expr) -> set[str]:
    found = {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}
    return {name.replace("BaseException", "Exception") for name in found}


# --- Code of others ---------------------------------------------------------------------------------------------------

GHOST = """
from dataclasses import replace
from nasdsl.compiler.ops import CATALOGUE

def shape(inputs, attrs):
    return inputs[7]

GHOST = replace(CATALOGUE["relu"], name="ghost", shape=shape)
"""
USE = "space one { input 3 x 8 x 8\n network { ghost() -> classify(classes: 2) } }\n"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The module of a package that offers an operator `ghost`, beside a file that uses it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("NASDSL_TRACEBACK", raising=False)
    monkeypatch.delitem(sys.modules, "their_ops", raising=False)
    (tmp_path / "use.space").write_text(USE)
    entry = EntryPoint("ghost", "their_ops:GHOST", "nasdsl.operators")
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: [entry] if group == entry.group else [])
    ops.plugins.cache_clear()
    yield tmp_path / "their_ops.py"
    ops.plugins.cache_clear()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import no_such_module_here", "loading their_ops:GHOST fails: ModuleNotFoundError: No module named"),
        ("GHOST = 1 / 0", "loading their_ops:GHOST fails: ZeroDivisionError: division by zero"),
        ("raise SystemExit(0)", "loading their_ops:GHOST fails: SystemExit: 0"),
        ("def broken(:", "loading their_ops:GHOST fails: SyntaxError: "),
        ("GHOST = 7", "their_ops:GHOST is neither an Operator nor a list of them"),
        (GHOST, "package `their_ops` fails: IndexError: list index out of range"),
    ],
)
def test_a_broken_package_is_named(package: Path, capsys: pytest.CaptureFixture[str], text: str, message: str) -> None:
    package.write_text(text)
    for form in ("text", "json"):
        ops.plugins.cache_clear()
        assert main(["compile", "use.space", "--format", form]) == 1
        out, err = capsys.readouterr()
        if form == "json":
            (told,) = json.loads(out)
            assert told["code"] == "plugin" and message in told["message"]
        else:
            assert err.startswith("error[plugin]: ") and message in err and "their_ops" in err
            assert "internal" not in err and "Traceback" not in err


# --- Files that are read back -----------------------------------------------------------------------------------------

ABOUT_RUN = About(space="1f", search="sample", seed=0, settings={"train": {"batch": 8}}, data="embedded")
TABLE = LatencyTable(
    device="x86_64",
    batch=1,
    torch="2",
    operators={"a": Entry(node="stem", points=(Point(macs=1, ms=0.5, spread=0, runs=3),))},
)
SPACE = "space one { input 3 x 8 x 8\n network { conv(oneof(4, 8)) -> classify(classes: 2) } }\n"
SCORES = [{"architecture": {"a": 4}, "top1": 0.5, "loss": float("nan")}, {"architecture": {"a": 8}, "top1": 1.0}]


def stored(folder: Path) -> dict[Path, Callable[[], object]]:
    """A file of each kind, as nasdsl writes it, and what reads it."""
    RunFolder(folder, ABOUT_RUN)
    (folder / "one.space").write_text(SPACE)
    write_origin(folder, nasdsl.load(folder / "one.space"))
    (folder / "table.json").write_text(TABLE.model_dump_json())
    (folder / "candidates.jsonl").write_text("".join(json.dumps(line) + "\n" for line in SCORES))
    tensors = {"a": torch.zeros(2)}
    (folder / "found.safetensors").write_bytes(save(tensors, {"mean": "0.5"}))
    state = {"step": 3, "kept": {"a": [0]}, "network": tensors, "optimiser": {"a": {"moment": tensors["a"]}}}
    torch.save({**state, "average": None, "rows": [], "time": 0.0}, folder / "checkpoint.pt")
    return {
        folder / ABOUT: lambda: RunFolder(folder, ABOUT_RUN),
        folder / ORIGIN: lambda: read_origin(folder),
        folder / "table.json": lambda: read_table(folder / "table.json"),
        folder / "candidates.jsonl": lambda: read_scores(folder / "candidates.jsonl", [{"a": 4}, {"a": 8}]),
        folder / "found.safetensors": lambda: load_weights(folder / "found.safetensors"),
        folder / "checkpoint.pt": lambda: load_checkpoint(folder / "checkpoint.pt"),
    }


def read_or_told(read: Callable[[], object]) -> str:
    """`read`, or what is told; any other exception goes up."""
    try:
        read()
    except NasdslError as problem:
        assert "\n" not in problem.message, problem.message
        return problem.message
    return "read"


def test_files_are_read_as_they_were_written(tmp_path: Path) -> None:
    assert {read_or_told(read) for read in stored(tmp_path).values()} == {"read"}
    assert State.model_validate(load_checkpoint(tmp_path / "checkpoint.pt")).step == 3


DEEP = b"[" * 100_000
JSON = {ABOUT, ORIGIN, "table.json", "candidates.jsonl"}


@pytest.mark.parametrize("text", [b"", b"nonsense\n", b"\xff\xfe\x00", DEEP, b"[1]", b'"word"', b"null", b"{}"])
def test_nonsense_is_told_with_the_name_of_the_file(tmp_path: Path, text: bytes) -> None:
    for file, read in stored(tmp_path).items():
        if file.name == "candidates.jsonl" and not text:
            continue  # none is measured yet
        file.write_bytes(text)
        message = read_or_told(read)
        assert message != "read" and (file.name in message or "cannot be read" in message), (file.name, message)


@given(data=st.data())
@runs(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_entries_of_another_kind_are_told(tmp_path: Path, data: st.DataObject) -> None:
    """One entry becomes something else, goes, or is one more."""
    files = {file: read for file, read in stored_once(tmp_path).items() if file.name in JSON}
    file = data.draw(st.sampled_from(sorted(files)))
    text = file.read_bytes()
    lines = text.splitlines() if file.name == "candidates.jsonl" else [text]
    record = json.loads(lines[0])
    key = data.draw(st.sampled_from([*record, "newer"]))
    what = data.draw(st.sampled_from(["gone", None, 1.5, True, [], {"a": [None]}, "word", -1, [[1]], float("nan")]))
    before = copy.deepcopy(record)
    if what == "gone":
        record.pop(key, None)
    else:
        record[key] = what
    try:
        file.write_bytes(b"\n".join([json.dumps(record).encode(), *lines[1:]]))
        message = read_or_told(files[file])
    finally:
        file.write_bytes(text)
    assert message != "read" or same(record, before, file.name), (file.name, key, what)


def same(record: dict[str, Any], before: dict[str, Any], file: str) -> bool:
    """Whether it says the same, or something that is as good: another figure, device or file that is left out."""
    if file == "candidates.jsonl":
        return record["architecture"] == before["architecture"]
    if file == "table.json":
        return isinstance(record.get("operators"), dict) and record["operators"] == before["operators"]
    return record == before


_KEPT: dict[Path, dict[Path, Callable[[], object]]] = {}


def stored_once(folder: Path) -> dict[Path, Callable[[], object]]:
    """As `stored`, the same files for all examples of a test."""
    if folder not in _KEPT:
        _KEPT[folder] = stored(folder)
    return _KEPT[folder]


@given(data=st.data())
@runs(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_bytes_are_read_or_told(tmp_path: Path, data: st.DataObject) -> None:
    file, read = data.draw(st.sampled_from(sorted(stored_once(tmp_path).items())))
    text = file.read_bytes()
    cut = data.draw(st.integers(0, len(text)))
    noise = data.draw(st.binary(max_size=4))
    try:
        file.write_bytes(text[:cut] + noise + (text[cut + len(noise) :] if data.draw(st.booleans()) else b""))
        read_or_told(read)
    finally:
        file.write_bytes(text)


def test_a_damaged_database_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    space = nasdsl.loads(SPACE)
    url = database_url(None, tmp_path)
    Database(url, "one", {"worth": True}, {"space": "1f"}, space.graph.decisions).close()
    file = tmp_path / "trials.db"
    whole = file.read_bytes()
    damages = [whole[:1000], whole[: len(whole) // 2], b"nonsense " * 1000, whole.replace(b"studies", b"studios")]
    damages.append(whole.replace(b"about", b"absent"))
    for damage in damages:
        for left in tmp_path.glob("trials.db-*"):
            left.unlink()
        file.write_bytes(damage)
        with pytest.raises(RunError):
            read_database(url, "one")
        assert main(["trials", str(tmp_path), "--study", "one"]) == 1
        _, err = capsys.readouterr()
        assert err.startswith("error[run]: ") and "internal" not in err


def test_signatures_of_the_tree() -> None:
    """Help and place are always given by the same names."""
    for kind in kinds():
        if issubclass(kind, NasdslError) and not issubclass(kind, CompileError | TooWide):
            assert {"message", "help"} <= set(inspect.signature(kind).parameters), kind
