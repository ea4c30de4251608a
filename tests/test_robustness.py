"""Absurd and damaged text: a diagnostic or a result, never a traceback, in bounded time."""

from __future__ import annotations

import json
import os
import random
import re
import time
from pathlib import Path

import pytest

from nasdsl import spaces
from nasdsl.cli import main
from nasdsl.compiler.cost import total_cost
from nasdsl.compiler.count import count
from nasdsl.compiler.diagnostics import CompileError
from nasdsl.compiler.engine.limits import TooWide
from nasdsl.compiler.pipeline import elaborate
from nasdsl.compiler.source import Source

FOLDER = Path(__file__).parent / "errors"
SECONDS = 20  # of this process; a few on a machine of its own would be far too many

TOKEN = re.compile(r'"[^"\n]*"|[A-Za-z_]\w*|\d+(?:\.\d+)?[KMG]?|->|\.\.|[<>=!]=|\s+|.', re.DOTALL)
ABSURD = [
    "0",
    "-1",
    "1G",
    "1/0",
    "2^64",
    "16777216",
    "units(1000000)",
    "oneof(1..1000)",
    "earlier",
    "unused",
    "in",
    "at",
    "none",
    "first",
    "sum()",
    "permute(1..9)",
    "oneof(1,2,3)",
    "manyof(3,earlier)",
    "previous(w,else:1)",
    "concat(scale:1/4)",
    "repeat{}",
    "residual{conv(8)}",
    "parallel{conv(width)}",
    "[for(a)in[1]:a]",
    "{3:units(8)}",
]


def texts() -> list[str]:
    """Files that are right, and some that are nearly so."""
    files = [spaces.path(name) for name in spaces.names()] + sorted(FOLDER.glob("*.space"))[::5]
    found = [file.read_text(encoding="utf-8") for file in files]
    return [text for text in found if 'use "' not in text]


DAMAGES = int(os.environ.get("NASDSL_EXAMPLES", "30"))
"""Texts for each seed."""


def damaged(text: str, pool: list[str], draw: random.Random) -> str:
    tokens = TOKEN.findall(text)
    for _ in range(draw.choice((1, 1, 1, 2, 3, 6))):
        at, kind = draw.randrange(len(tokens)), draw.randrange(6)
        if kind == 0 and len(tokens) > 20:
            del tokens[at : at + draw.choice((1, 1, 2, 5))]
        elif kind == 1:
            tokens[at] = draw.choice(pool)
        elif kind == 2:
            tokens[at] = f" {draw.choice(ABSURD)} "
        elif kind == 3:
            other = draw.randrange(len(tokens))
            tokens[at:at] = tokens[other : other + draw.choice((1, 3, 10, 30))]
        elif kind == 4:
            other = draw.randrange(len(tokens))
            tokens[at], tokens[other] = tokens[other], tokens[at]
        else:
            numbers = [i for i, token in enumerate(tokens) if token[0].isdigit()]
            if numbers:
                tokens[draw.choice(numbers)] = str(draw.choice((0, 1, 2, 3, 7, 64, 1000, 99_999, 10**12, 10**30)))
    return "".join(tokens)


def judged(text: str) -> str:
    """What comes of a text; anything but a diagnostic or a result goes up."""
    try:
        graph = elaborate(Source(text)).graph
    except CompileError as problem:
        assert problem.diagnostics
        return "mistakes"
    total_cost(graph)
    try:
        count(graph)
    except TooWide:
        return "tangled"
    return "space"


@pytest.mark.parametrize("seed", [1, *[pytest.param(seed, marks=pytest.mark.long) for seed in (0, *range(2, 8))]])
def test_damaged_files(seed):
    found = texts()
    pool = sorted({token for text in found for token in TOKEN.findall(text) if token.strip()})
    for number in range(DAMAGES):
        text = damaged(found[(seed * DAMAGES + number) % len(found)], pool, random.Random(f"{seed} {number}"))
        started = time.process_time()
        try:
            judged(text)
        except Exception as problem:
            raise AssertionError(f"{type(problem).__name__} from\n{text}") from problem
        assert time.process_time() - started < SECONDS, text


SECRET = "root:x:0:0:secret:/root:/bin/sh\n"


def test_nothing_is_shown_of_a_file_that_is_no_space(tmp_path, monkeypatch, capsys):
    """By a file that is used, whatever its name and wherever a link leads; one's own spaces are shown."""
    monkeypatch.chdir(tmp_path)
    Path("passwd").write_text(SECRET)
    Path("link.space").symlink_to("passwd")
    Path("own.space").write_text(SECRET)
    Path("fine.txt").write_text("operator mine(out) = conv(out)\n")
    for name, shown in (("passwd", False), ("link.space", False), ("./link.space", False), ("own.space", True)):
        Path("a.space").write_text(f'use "{name}"\nspace a {{ input 1 x 8 x 8\n network {{ classify(2) }} }}\n')
        assert main(["check", "a.space"]) == 1
        told = capsys.readouterr()
        assert ("secret" in told.out + told.err) == shown
        assert main(["check", "a.space", "--format", "json"]) == 1
        (first, *_) = json.loads(capsys.readouterr().out)
        assert shown or (first["code"], first["line"], first["column"]) == ("not-a-space", 1, 5)
    Path("a.space").write_text('use "fine.txt"\nspace a { input 1 x 8 x 8\n network { mine(2) -> classify(2) } }\n')
    assert main(["check", "a.space"]) == 0


def test_what_never_ends_is_not_read(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe.space")
    Path("device.space").symlink_to("/dev/zero")
    with open("sparse.space", "wb") as sparse:
        sparse.truncate(1 << 40)
    space = "space a { input 1 x 8 x 8\n network { classify(2) } }\n"
    for name, message in (("pipe", "a pipe or a device"), ("device", "a pipe or a device"), ("sparse", "is too long")):
        assert main(["check", f"{name}.space"]) == 1
        assert message in capsys.readouterr().err
        Path("a.space").write_text(f'use "{name}.space"\n{space}')
        assert main(["check", "a.space"]) == 1
        assert message in capsys.readouterr().err


def test_long_chains_of_spaces_are_checked_at_once(tmp_path, monkeypatch, capsys):
    """From the last to the first: what grew with the cube of their number would take half a minute."""
    monkeypatch.setattr("nasdsl.compiler.pipeline.LONGEST_CHAIN", 400)
    for number, ending in ((399, 0), (400, 1)):
        spaces_of = [f"space s{i + 1} = s{i} with {{ }}" for i in range(number)]
        text = "\n".join([*spaces_of, "space s0 { input 1 x 8 x 8\n network { classify(classes: 2) } }\n"])
        (tmp_path / "chain.space").write_text(text)
        started = time.process_time()
        assert main(["check", "--all", str(tmp_path / "chain.space")]) == ending
        assert time.process_time() - started < SECONDS / 4
        assert ending == 0 or "more than 400 deep" in capsys.readouterr().err


CHAIN = range(40)

ABSURDITIES = {
    "functions that double": "\n".join(f"let f{i}(x) = f{i + 1}(x) + f{i + 1}(x)" for i in CHAIN)
    + "\nlet f40(x) = x\nlet y = f0(1)",
    "lists that double": "let a0 = [1]\n" + "\n".join(f"let a{i + 1} = a{i} + a{i}" for i in CHAIN),
    "lists of lists": "let a0 = [1]\n" + "\n".join(f"let a{i + 1} = [a{i}, a{i}]" for i in CHAIN),
    "numbers that square": "let a0 = 3\n" + "\n".join(f"let a{i + 1} = a{i} * a{i}" for i in CHAIN),
    "a long comprehension": "let a = [for a in 1..1000, b in 1..1000: a]",
    "a long range": "let a = 1..1000000000000",
    "a function without end": "let f(x) = f(x) + f(x)\nlet a = f(1)",
    "many search units": "network { conv(8), repeat 50 { mixconv(8, hidden: { 3: units(100000) }) }, classify(3) }",
    "a long repeat": "network { repeat 100000 { relu() }, classify(3) }",
    "repeats in repeats": "network { repeat 1000 { repeat 1000 { repeat 1000 { } } }, classify(3) }",
    "operators that double": "\n".join(f"operator o{i}() = o{i + 1}() -> o{i + 1}()" for i in CHAIN)
    + "\noperator o40() = relu()\nnetwork { o0(), classify(3) }",
    "values that double": "let a0 = relu()\n"
    + "\n".join(f"let a{i + 1} = a{i} -> a{i}" for i in CHAIN)
    + "\nnetwork { a40, classify(3) }",
    "operators without end": "operator o() { p() + p() }\noperator p() { o() + o() }\nnetwork { o(), classify(3) }",
}


@pytest.mark.parametrize("name", ABSURDITIES)
def test_absurd_text_is_a_mistake(name):
    text = ABSURDITIES[name]
    network = "" if "network" in text else "\nnetwork { classify(3) }"
    started = time.process_time()
    with pytest.raises(CompileError) as caught:
        elaborate(Source(f"space absurd {{\n  input 3 x 8 x 8\n{text}{network}\n}}\n"))
    assert {d.code for d in caught.value.diagnostics} <= {"too-large", "recursion", "too-deep"}
    assert time.process_time() - started < SECONDS
