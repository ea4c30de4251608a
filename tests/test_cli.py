"""The command line: what each command prints, exit codes, and diagnostics under their source lines."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import nasdsl
from nasdsl import cli
from nasdsl.compiler.diagnostics import CompileError, Diagnostic, Label
from nasdsl.compiler.measures.measure import sized
from nasdsl.compiler.source import Source, Span
from nasdsl.runtime.strategies import STRATEGIES
from nasdsl.terminal import Paint, show_diagnostics, table, written

GOOD = """\
space good {
  param classes = 10
  input 3 x 32 x 32
  network {
    stem: conv(8, kernel: oneof(3, 5))
    body: repeat oneof(1, 2) { residual { conv(8, kernel: 3) } }
    mixconv(8, hidden: { 3: units(4) })
    classify(classes)
  }
}

space one = good with { stem.kernel: 3, body.depth: 2, hidden: { 3: [0, 2] } }
"""

BAD = """\
space bad {
  input 3 x 32 x 32
  network {
    stem: conv(8, kernl: 3)
  }
  require macs <= nothing
}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_COLOR", "1")
    (tmp_path / "good.space").write_text(GOOD, encoding="utf-8")
    (tmp_path / "bad.space").write_text(BAD, encoding="utf-8")
    return tmp_path


def run(capsys, *argv):
    code = cli.main(list(argv))
    out, err = capsys.readouterr()
    return code, out, err


# --- The frame --------------------------------------------------------------------------------------------------------


def test_help_lists_the_commands(capsys):
    code, out, _ = run(capsys, "--help")
    assert code == 0
    for command in cli.COMMANDS:
        assert f"  {command.name} " in out
        assert command.summary in out.replace("\n", " ").replace("  ", "") or command.summary.split()[0] in out


def test_the_help_of_search_lists_all_searches(capsys):
    _, out, _ = run(capsys, "search", "--help")
    told = " ".join(out.split()).partition("not the file's: ")[2].partition("; or what")[0]
    assert told.split(", ") == list(STRATEGIES)


@pytest.mark.parametrize("command", cli.COMMANDS, ids=lambda c: c.name)
def test_every_command_has_help(capsys, command):
    code, out, _ = run(capsys, command.name, "--help")
    assert code == 0
    if command.name in ("check", "compile", "draw", "expand", "fmt"):
        assert f"nasdsl {command.name} " in out.split("examples:")[1]


def test_a_mistake_in_the_command_line_is_2(capsys, folder):
    code, _, err = run(capsys, "chek", "good.space")
    assert (code, err.splitlines()[0]) == (2, "nasdsl: no command named `chek`; did you mean `check`?")
    assert run(capsys)[0] == 2
    assert run(capsys, "check")[0] == 2
    assert run(capsys, "count", "good.space", "--no-such-option")[0] == 2
    code, out, err = run(capsys, "count", "good.space", "-D", "classes")
    assert (code, out) == (2, "")
    assert "-D takes NAME=VALUE" in err


def test_version(capsys):
    code, out = run(capsys, "--version")[:2]
    first, *others = out.splitlines()
    assert code == 0 and first == f"nasdsl {nasdsl.__version__}"
    assert [line.split()[0] for line in others[:3]] == ["python", "core", "search"] and others[-1].split()[0] == "torch"
    assert f"lark {metadata.version('lark')}" in out and "torch" in out


def test_a_mistake_of_ours_is_one_line(capsys, folder, monkeypatch):
    monkeypatch.setattr("nasdsl.compiler.count.count", lambda graph: 1 / 0)
    monkeypatch.delenv("NASDSL_TRACEBACK", raising=False)
    code, out, err = run(capsys, "count", "good.space")
    assert (code, out) == (1, "")
    assert err.startswith("error[internal]: ZeroDivisionError: division by zero\n")


def test_an_interrupt_is_quiet(capsys, folder, monkeypatch):
    def interrupt(graph):
        raise KeyboardInterrupt

    monkeypatch.setattr("nasdsl.compiler.count.count", interrupt)
    assert run(capsys, "count", "good.space") == (130, "", "")


def test_a_closed_pipe_is_quiet(folder):
    (folder / "long.space").write_text(GOOD.replace("oneof(1, 2)", "2000"), encoding="utf-8")
    command = [sys.executable, "-m", "nasdsl", "compile", "long.space", "--stage", "graph"]
    environment = {**os.environ, "PYTHONPATH": str(Path(nasdsl.__file__).parents[1])}
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
    assert child.stdout is not None and child.stderr is not None
    child.stdout.read(100)
    child.stdout.close()
    assert child.stderr.read() == b""
    child.stderr.close()
    assert child.wait() == 141


# --- Commands ---------------------------------------------------------------------------------------------------------


def test_check(capsys, folder):
    assert run(capsys, "check", "good.space") == (
        0,
        "good.space: good: 3 decisions, 60 architectures, no mistakes; 1 more in the file, which --all checks\n",
        "",
    )
    _, out, _ = run(capsys, "check", "good.space", "--all")
    assert out.splitlines()[1] == "good.space: one: an architecture, no mistakes"
    assert run(capsys, "check", "good.space", "--format", "json") == (0, "[]\n", "")


def test_check_reports_every_file(capsys, folder):
    code, out, err = run(capsys, "check", "bad.space", "good.space", "missing.space", ".")
    assert code == 1
    assert "good.space: good: 3 decisions" in out
    assert "error[unknown-argument]" in err and "bad.space:4:19" in err
    assert "there is no file `missing.space`" in err and "`.` is a folder" in err
    assert err.endswith("3 errors\n") or err.endswith("4 errors\n")
    code, out, err = run(capsys, "check", "bad.space", "--format", "json")
    assert (code, err) == (1, "")
    first = json.loads(out)[0]
    assert (first["code"], first["file"], first["line"], first["column"]) == ("unknown-argument", "bad.space", 4, 19)


def test_an_empty_space_is_a_mistake(capsys, folder):
    text = GOOD.replace("    mixconv", "    let a = oneof(1, 2)\n    require a > 1 and a < 1\n    mixconv")
    (folder / "empty.space").write_text(text, encoding="utf-8")
    code, _, err = run(capsys, "check", "empty.space")
    assert code == 1
    assert "error[" in err
    text = GOOD.replace("    mixconv", "    let a = oneof(1, 2)\n    require a > 1\n    require a < 2\n    mixconv")
    (folder / "empty.space").write_text(text, encoding="utf-8")
    code, _, err = run(capsys, "check", "empty.space")
    assert code == 1
    assert "require a > 1" in err and "require a < 2" in err


def test_standard_input(capsys, folder, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(GOOD.replace("\n", "\r\n").encode())))
    assert run(capsys, "count", "-")[:2] == (0, run(capsys, "count", "good.space")[1])
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff\xfe")))
    code, _, err = run(capsys, "check", "-")
    assert (code, err.splitlines()[0]) == (1, "error[not-utf8]: standard input is not UTF-8 text")


def test_spaces_that_ship_go_by_name(capsys, folder):
    assert run(capsys, "check", "tiny")[1].startswith("tiny: tiny: ")
    assert "hrnas" in run(capsys, "check", "tini")[2]


def test_count(capsys, folder):
    code, out, _ = run(capsys, "count", "good.space")
    assert (code, out.splitlines()[0]) == (0, "good: 60 architectures")
    assert run(capsys, "count", "good.space", "--digits")[1] == "60\n"
    assert run(capsys, "count", "good.space", "--space", "one")[1] == "one: 1 architecture\n"
    found = json.loads(run(capsys, "count", "good.space", "--format", "json")[1])
    assert found["total"] == "60"
    assert [f["count"] for f in found["factors"]] == ["2", "2", "15"]


def test_counts_of_any_length(capsys, folder):
    (folder / "wide.space").write_text(GOOD.replace("units(4)", "units(60000)"), encoding="utf-8")
    _, out, _ = run(capsys, "count", "wide.space")
    assert "18,063 digits" in out
    _, out, _ = run(capsys, "count", "wide.space", "--digits")
    assert len(out.strip()) == 18063
    assert len(json.loads(run(capsys, "count", "wide.space", "--format", "json")[1])["total"]) == 18063


def test_cost_and_its_witnesses(capsys, folder):
    code, out, _ = run(capsys, "cost", "good.space", "--least", "least.space", "--greatest", "greatest.space")
    assert code == 0
    table = out.splitlines()[2:4]
    rows = {line.split()[0]: [int(n.replace(",", "")) for n in line.split()[1:3]] for line in table}
    for number, end in enumerate(("least", "greatest")):
        assert nasdsl.cost(nasdsl.load(f"{end}.space"))["macs"] == rows["MACs"][number]
    data = json.loads(run(capsys, "cost", "good.space", "--format", "json")[1])
    assert data["params"]["greatest"]["value"] == rows["parameters"][1]
    assert "least" not in run(capsys, "cost", "good.space", "--space", "one")[1]


def test_compile_shows_every_stage(capsys, folder):
    code, out, _ = run(capsys, "compile", "good.space", "--stage", "space", "-D", "classes=3")
    assert code == 0
    for part in ("size        60", "set         classes: 3", "good.space:5:27", "body.depth", "stem "):
        assert part in out
    assert "Operator" in run(capsys, "compile", "tiny", "--stage", "syntax")[1]
    assert (
        json.loads(run(capsys, "compile", "good.space", "--stage", "syntax", "--format", "json")[1])["node"] == "File"
    )
    _, out, _ = run(capsys, "compile", "good.space", "--stage", "graph", "--graph", "good.json")
    assert "body[0].conv" in out
    data = json.loads((folder / "good.json").read_text(encoding="utf-8"))
    assert [d["path"] for d in data["decisions"]] == ["stem.kernel", "body.depth", "mixconv.hidden[3]"]
    assert json.loads(run(capsys, "compile", "good.space", "--stage", "graph", "--format", "json")[1]) == data
    data = json.loads(run(capsys, "compile", "good.space", "--stage", "space", "--format", "json")[1])
    assert (data["size"], data["layers"]) == ("60", 5)


def test_compile_builds_the_supernet(capsys, folder):
    _, out, _ = run(capsys, "compile", "good.space")
    parameters = nasdsl.cost_range(nasdsl.load("good.space"))["params"][1]
    assert f"{parameters:,} parameters in float32" in out
    data = json.loads(run(capsys, "compile", "good.space", "--format", "json")[1])
    assert data["supernet"]["weights"] == 4 * parameters


def test_expand(capsys, folder):
    code, out, _ = run(capsys, "expand", "good.space", "--space", "one")
    assert code == 0
    assert nasdsl.cost(nasdsl.loads(out)) == nasdsl.cost(nasdsl.load("good.space", "one"))
    assert run(capsys, "expand", "good.space", "--space", "one", "-o", "full.space")[1] == ""
    assert (folder / "full.space").read_text(encoding="utf-8") == out
    code, _, err = run(capsys, "expand", "good.space")
    assert code == 1
    assert "`good` is no architecture yet: 3 of its decisions are open" in err


def test_fmt(capsys, folder):
    untidy = GOOD.replace("  param", "     param").replace("\n", "\r\n")
    (folder / "untidy.space").write_bytes(untidy.encode())
    assert run(capsys, "fmt", "--check", "good.space")[0] == 0
    assert run(capsys, "fmt", "--check", "untidy.space", "good.space") == (1, "would change untidy.space\n", "")
    assert run(capsys, "fmt", "--stdout", "untidy.space") == (0, GOOD, "")
    assert (folder / "untidy.space").read_bytes() == untidy.encode()
    assert run(capsys, "fmt", "untidy.space") == (0, "changed untidy.space\n", "")
    assert (folder / "untidy.space").read_bytes() == GOOD.encode()
    assert run(capsys, "fmt", "untidy.space") == (0, "", "")
    (folder / "broken.space").write_text("space {", encoding="utf-8")
    (folder / "untidy.space").write_bytes(untidy.encode())
    code, out, err = run(capsys, "fmt", "broken.space", "untidy.space")
    assert (code, out) == (1, "changed untidy.space\n")
    assert "broken.space:1:7" in err


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="the superuser may read everything")
def test_a_file_that_may_not_be_read(capsys, folder):
    (folder / "good.space").chmod(0)
    code, _, err = run(capsys, "check", "good.space")
    assert (code, "can't be read" in err) == (1, True)


@pytest.mark.parametrize(
    "content", [b"", b"\x00\x01\x7f" * 50, bytes(range(256)), b"space a {" * 2000, b"\xef\xbb\xbf"]
)
@pytest.mark.parametrize("command", ["check", "compile", "count", "cost", "expand", "fmt"])
def test_any_bytes_give_a_diagnostic(capsys, folder, content, command):
    (folder / "any.space").write_bytes(content)
    code, _, err = run(capsys, command, "any.space")
    assert code in (0, 1)
    assert "Traceback" not in err and "internal" not in err
    assert all(c.isprintable() or c == "\n" for c in err)


# --- Diagnostics ------------------------------------------------------------------------------------------------------


def mark(source, word, after=""):
    start = source.text.index(word, source.text.index(after))
    return Span(source, start, start + len(word))


def shown(diagnostic, width=80):
    return written(diagnostic, Paint(False), width).splitlines()


def test_a_diagnostic_underlines_the_exact_characters():
    source = Source("space a {\n  choice op { conv, dwcnv, skip }\n}\n", "mobile.space")
    span = mark(source, "dwcnv")
    found = Diagnostic(
        "unknown-operator", "no operator named `dwcnv`", span, "not found", help="did you mean `dwconv`?"
    )
    assert shown(found) == [
        "error[unknown-operator]: no operator named `dwcnv`",
        "  mobile.space:2:21",
        " 2 |   choice op { conv, dwcnv, skip }",
        "   |                     ~~~~~ not found",
        "  help: did you mean `dwconv`?",
    ]


def test_second_places_and_files():
    source = Source("\n" * 8 + "  one two\n\n  three\n", "a.space")
    other = Source("four\n", "b.space")
    labels = (
        Label(mark(source, "two"), "on the same line"),
        Label(mark(source, "three"), "further down"),
        Label(mark(other, "four"), "elsewhere"),
    )
    assert shown(Diagnostic("x", "they differ", mark(source, "one"), "here", labels, severity="warning")) == [
        "warning[x]: they differ",
        "  a.space:9:3",
        "  9 |   one two",
        "    |   ~~~ here",
        "    |       --- on the same line",
        " 11 |   three",
        "    |   ----- further down",
        "  b.space:1:1",
        "  1 | four",
        "    | ---- elsewhere",
    ]


def test_tabs_and_wide_characters_are_in_line():
    source = Source('\tlet 日本 = "é" e\u0301 x\n', "w.space")
    assert shown(Diagnostic("x", "m", mark(source, "日本")))[2:] == [
        ' 1 |     let 日本 = "é" e\u0301 x',
        "   |         ~~~~",
    ]
    assert shown(Diagnostic("x", "m", mark(source, "x")))[3] == "   |" + " " * 22 + "~"


def test_spans_of_several_lines():
    source = Source("a {\n  b: {\n    c\n    d\n  }\n}\n", "m.space")
    span = Span(source, source.text.index("b"), source.text.index("}") + 1)
    assert shown(Diagnostic("x", "m", span, "all this"))[2:] == [
        " 2 |   b: {",
        "   |   ~~~~",
        "   ...",
        " 5 |   }",
        "   |   ~ all this",
    ]


def test_places_at_the_end_and_empty_spans():
    source = Source("abc", "e.space")
    assert shown(Diagnostic("x", "m", Span(source, 3, 3), "here"))[2:] == [" 1 | abc", "   |    ~ here"]
    empty = Source("", "e.space")
    assert shown(Diagnostic("x", "m", Span(empty, 0, 0)))[2:] == [" 1 |", "   | ~"]


@pytest.mark.parametrize("start", [0, 10, 400, 5000, 9990])
def test_long_lines_are_cut_around_the_place(start):
    source = Source("".join(chr(97 + i % 26) for i in range(10_000)), "l.space")
    lines = shown(Diagnostic("x", "m", Span(source, start, start + 5), "here"))
    assert all(len(line) <= 88 for line in lines)
    column = lines[3].index("~")
    assert lines[2][column : column + 5] == source.text[start : start + 5]
    assert lines[3].count("~") == 5


def test_nothing_steers_the_terminal():
    source = Source("a \x1b[31m\x07 b\n", "s.space")
    lines = shown(Diagnostic("x", "it is \x1b[2J", mark(source, "b")))
    assert all(line.isprintable() for line in lines)
    assert lines[2].index("b") == lines[3].index("~")


def test_colour_is_for_terminals_only(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    found = [Diagnostic("x", "m", None)]
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    out = io.StringIO()
    show_diagnostics(found, out)
    assert out.getvalue() == "error[x]: m\n\n1 error\n"
    out = Terminal()
    show_diagnostics(found, out)
    assert "\x1b[1;31merror[x]\x1b[0m" in out.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    out = Terminal()
    show_diagnostics(found, out)
    assert "\x1b" not in out.getvalue()


def test_many_diagnostics_are_counted():
    out = io.StringIO()
    show_diagnostics([Diagnostic("x", "m", None)] * 150 + [Diagnostic("y", "n", None, severity="warning")], out)
    assert out.getvalue().endswith("150 errors, 1 warning (the first 100 are shown)\n")
    assert out.getvalue().count("error[x]") == 100


def test_tables_and_sizes():
    assert table([("a", "1"), ("bbb", "22")], ("x", "n"), right="1", indent=0) == "x     n\n---  --\na     1\nbbb  22"
    assert table([]) == ""
    assert [sized(n) for n in (5, 2048, 5 * 2**20, 3 * 2**30)] == ["5 B", "2.0 KiB", "5.0 MiB", "3.0 GiB"]


# --- The same in Python -----------------------------------------------------------------------------------------------


def test_the_python_interface(folder):
    space = nasdsl.load("good.space", classes=7)
    assert space.params["classes"] == 7
    assert nasdsl.count(space).total == 60
    (architecture,) = nasdsl.sample(space, 1, seed=4)
    one = nasdsl.pin(space, architecture)
    assert nasdsl.cost(one) == nasdsl.cost(space, architecture)
    low, high = nasdsl.cost_range(space)["macs"]
    assert low <= nasdsl.cost(one)["macs"] <= high
    nasdsl.save(space, architecture, "out.space", note="by hand")
    assert nasdsl.load("out.space").graph == one.graph
    assert nasdsl.cost(nasdsl.loads(nasdsl.expand(one))) == nasdsl.cost(one)
    with pytest.raises(CompileError, match="kernl"):
        nasdsl.load(folder / "bad.space")
    nasdsl.save(nasdsl.loads(GOOD, classes=7), dict(architecture), "below/out.space")
    assert nasdsl.load("below/out.space").graph == one.graph
    with pytest.raises(ValueError, match="was made of a text, and below/good"):
        nasdsl.save(nasdsl.loads(GOOD + "\n", classes=7), dict(architecture), "below/out.space")
    with pytest.raises(AttributeError, match="nothing"):
        _ = nasdsl.nothing


def test_the_supernet_in_python(folder):
    import torch

    space = nasdsl.load("good.space")
    network = nasdsl.supernet(space)
    assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
