"""One number of a space that ships becomes an extreme one: `check` answers soon, in little memory.

`NASDSL_EXTREMES=500` tries so many changes rather than a few.
"""

from __future__ import annotations

import os
import random
import re
import resource
import subprocess
import sys
from pathlib import Path

from nasdsl import spaces

SECONDS = 30  # of a processor that others use too; each takes a few on a quiet one
MEMORY = 1 << 30
TOKEN = re.compile(r'#[^\n]*|"[^"\n]*"|[A-Za-z_]\w*|\d+(?:\.\d+)?[KMG]?|->|\.\.|[<>=!]=|\s+|.', re.DOTALL)
EXTREMES = [
    "0",
    "1024",
    "99999",
    "16777216",
    "1000000000000",
    "2^60",
    "1/1000003",
    "oneof(1..64)",
    "oneof(1..1000)",
    "units(16000)",
    "units(1000000)",
    "manyof(5,1..40)",
    "permute(1..12)",
    "permute(1..40)",
]


def checked(file: Path, *options: str) -> str:
    """What `check` says on standard error, within the limits."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))

    command = [sys.executable, "-m", "nasdsl", "check", str(file), *options]
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **threads}, preexec_fn=limit, check=False
    )
    assert done.returncode in (0, 1), (done.returncode, done.stderr)
    assert "error[internal]" not in done.stderr and "error[memory]" not in done.stderr, done.stderr
    return done.stderr


def test_very_wide_units_are_proven_at_once(tmp_path: Path) -> None:
    text = spaces.read("ofa_mobilenetv3")
    assert text.count("stage(40,") == 1
    file = tmp_path / "wide.space"
    file.write_text(text.replace("stage(40,", "stage(units(16000),"))
    assert "for example with `stage2.out: []`" in checked(file)


def test_extreme_numbers_in_the_spaces_that_ship(tmp_path: Path) -> None:
    for number in range(int(os.environ.get("NASDSL_EXTREMES", "2"))):
        draw = random.Random(number)
        name = draw.choice(spaces.names())
        parts = TOKEN.findall(spaces.read(name))
        at = draw.choice([i for i, part in enumerate(parts) if part[0].isdigit()])
        parts[at] = draw.choice(EXTREMES)
        before = "".join(parts[:at])
        file = tmp_path / f"{name}_{number}.space"
        file.write_text("".join(parts))
        inside = re.findall(r"^space (\w+)", before, re.MULTILINE)[-1:]
        checked(file, *(["--space", *inside] if inside else []))
