"""What is printed, whatever it is printed on: terminals of other encodings, narrow ones, closed pipes, full disks."""

from __future__ import annotations

import io
import json
import math
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasdsl.compiler.files import to_json
from nasdsl.streams import ERRORS, PLAIN, prepare_streams, write_program

TEXT = """\
# Größe, 大きさ
space s {
  input 1 x 8 x 8
  network { conv(4, stride: 2) -> repeat oneof(1, 2) { conv(4, kernel: oneof(1, 3)) } -> classify(classes: 10) }
}
"""


def nasdsl(command: str, folder: Path, redirect: str = "", **environment: str) -> subprocess.CompletedProcess[bytes]:
    """What a shell makes of a command line."""
    (folder / "s.space").write_text(TEXT, encoding="utf-8")
    line = f'{sys.executable} -m nasdsl {command} {redirect}; code=$?; exit "$code"'
    variables = {**os.environ, "COLUMNS": "20", **environment}
    return subprocess.run(
        ["bash", "-c", line], cwd=folder, env=variables, capture_output=True, check=False, timeout=100
    )


def calm(done: subprocess.CompletedProcess[bytes]) -> bool:
    """Whether nothing was told of nasdsl's inside."""
    told = done.stdout + done.stderr
    return not any(word in told for word in (b"Traceback", b"error[internal]", b"Exception ignored"))


@pytest.mark.parametrize(
    ("command", "encoding"),
    [("cost s.space", "ascii"), ("operators", "cp1252"), ("compile s.space", "latin-1"), ("check 大.space", "ascii")],
)
def test_commands_print_in_any_encoding(command: str, encoding: str, tmp_path: Path) -> None:
    done = nasdsl(command, tmp_path, PYTHONIOENCODING=encoding)
    assert calm(done)
    assert done.returncode == ("大" in command)
    assert done.stdout.decode(encoding) + done.stderr.decode(encoding)


def test_a_program_is_utf8_whatever_the_terminal_is(tmp_path: Path) -> None:
    done = nasdsl("fmt --stdout s.space", tmp_path, PYTHONIOENCODING="ascii")
    assert calm(done)
    assert "# Größe, 大きさ" in done.stdout.decode("utf-8")


@pytest.mark.parametrize(
    ("command", "redirect", "code"),
    [
        ("operators", "| head -1 >/dev/null; exit ${PIPESTATUS[0]}", None),
        ("cost s.space", ">&-", 0),
        ("check missing.space", "2>&-", 1),
        ("count s.space", "<&- >&- 2>&-", 0),
        ("cost s.space", ">/dev/full", 1),
        ("cost s.space --format json", ">/dev/full", 1),
    ],
)
def test_streams_that_take_nothing_are_no_mistake_of_nasdsl(
    command: str, redirect: str, code: int | None, tmp_path: Path
) -> None:
    done = nasdsl(command, tmp_path, redirect)
    assert calm(done)
    assert done.returncode in ((0, 141) if code is None else (code,))
    if "full" in redirect:
        assert b"No space left on device" in done.stderr


def test_names_of_files_that_are_no_text_are_told(tmp_path: Path) -> None:
    done = nasdsl(r"check $'a\xff.space'", tmp_path)
    assert calm(done) and done.returncode == 1
    assert b"no-such-file" in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="it has other terminals")
def test_bars_and_tables_fit_on_a_terminal_of_twenty_columns(tmp_path: Path) -> None:
    import fcntl
    import pty
    import struct
    import termios

    (tmp_path / "s.space").write_text(TEXT, encoding="utf-8")
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 5, 20, 0, 0))
    command = [sys.executable, "-m", "nasdsl", "cost", "s.space"]
    with subprocess.Popen(command, cwd=tmp_path, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        told = b""
        while True:
            try:
                more = os.read(ours, 4096)
            except OSError:  # the other end is closed
                break
            if not more:
                break
            told += more
        os.close(ours)
        assert process.wait() == 0
    assert b"Traceback" not in told and b"macs" in told.lower()


def test_what_an_encoding_lacks_becomes_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii", write_through=True))
    prepare_streams()
    print("3 × 3 ≤ 9 … █▎| é \udcff")
    assert raw.getvalue() == b"3 x 3 <= 9 ... # | ? \xff\n"
    assert sys.stdout.errors == ERRORS
    write_program("é")
    assert raw.getvalue().endswith("é".encode())
    assert all(plain.isascii() for plain in PLAIN.values())


# --- JSON -------------------------------------------------------------------------------------------------------------


def no(constant: str) -> Any:
    raise AssertionError(f"{constant} is no JSON")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=10,
)


@given(VALUES)
def test_json_is_strict(value: Any) -> None:
    """Every number that JSON has no word for is null; all else is what it was."""

    def expected(one: Any) -> Any:
        if isinstance(one, float) and not math.isfinite(one):
            return None
        if isinstance(one, Mapping):
            return {key: expected(inner) for key, inner in one.items()}
        return [expected(inner) for inner in one] if isinstance(one, list | tuple) else one

    text = to_json(value)
    assert text.isascii()
    assert json.loads(text, parse_constant=no) == expected(value)


FUNCTION = """\
calls = 0
def f(a, s):
    global calls
    calls += 1
    if calls == 2:
        raise ValueError("[bold]no[/] \\x1b[31m [/data/x]")
    return {"acc": 1.0, "gap": float("nan"), "far": float("-inf")}
"""
SEARCH = "search s.space --runtime evolve --function m:f --set maximise=acc --trials 2 --set failures=1 --out b.space"


def test_trials_with_what_is_no_number_are_strict_json_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the database, in lists, tables and reports; and what a failed trial says steers no terminal."""
    import sqlite3

    from nasdsl.cli import main
    from nasdsl.runtime.storage import database_url
    from nasdsl.runtime.trials import read_database

    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.space").write_text(TEXT, encoding="utf-8")
    (tmp_path / "m.py").write_text(FUNCTION)
    monkeypatch.delitem(sys.modules, "m", raising=False)
    assert main([*SEARCH.split(), "--format", "json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out, parse_constant=no)["trials"] == 2
    assert "[bold]no[/]" in said.err and "\x1b" not in said.err
    for form in ("json", "csv", "text"):
        assert main(["trials", "runs/b", "--format", form]) == 0
        told = capsys.readouterr().out
        assert "\x1b" not in told and "[/data/x]" in told
        if form == "json":
            metrics = [one["metrics"] for one in json.loads(told, parse_constant=no) if one["state"] == "complete"]
            assert metrics == [{"acc": 1.0, "gap": None, "far": None}] * 2
    with sqlite3.connect("runs/b/trials.db") as database:
        for (value,) in database.execute("select value_json from trial_user_attributes"):
            json.loads(value, parse_constant=no)
    ledger = read_database(database_url(None, Path("runs/b")), None)
    try:
        complete = [trial for trial in ledger.trials.values() if trial.state == "complete"]
        assert all(math.isnan(trial.metrics["gap"]) for trial in complete)
    finally:
        ledger.close()
    assert main(["report", "runs/b", "-o", "b.html"]) == 0
    assert "NaN" not in Path("b.html").read_text(encoding="utf-8").split('id="data">')[1].split("</script>")[0]
