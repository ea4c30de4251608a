"""A campaign of damage: kills, full disks, databases that vanish, damaged data, run folders and databases. Whatever
happens, the end is the same as without it, or a clear word says why there is none.

    NASDSL_CAMPAIGN=1 pytest -s tests/test_campaign.py

runs all of it and prints what came of each; without the variable, a small part is run.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import shutil
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from nasdsl.compiler.diagnostics import NasdslError
from nasdsl.runtime.data import DataSplits, open_data, told
from nasdsl.runtime.runs import is_part
from tests.datafiles import store
from tests.forks import Ended, Forks
from tests.test_reading import LAYOUTS, Members, made

WHOLE = bool(os.environ.get("NASDSL_CAMPAIGN"))


def of(whole: int, part: int) -> int:
    """How often something is tried."""
    return whole if WHOLE else part


SPACE = """
space s {
  input 1 x 8 x 8
  network {
    conv(4, stride: 2)
    body: repeat oneof(1, 2) { oneof(conv(6, kernel: 1), conv(6, kernel: 3), conv(6, kernel: 5)) }
    classify(classes: 10)
  }
  search sample { train: { epochs: 2, batch: 256 }, candidates: 4 }
}
"""
UNITS = """
space sh {
  input 1 x 8 x 8
  operator block(out, stride = 1) {
    residual { mixconv(out, stride, hidden: { 3: units(2 * in), 5: units(2 * in) }) }
    relu()
  }
  network {
    stem: conv(4, stride: 2)
    stage: for out in [4, 8] { block(out) }
    head: classify(classes: 10)
  }
  search shrink { target: macs <= 0.8, every: 0.5 epochs, until: 0.5, train: { epochs: 3, batch: 256 } }
}
"""
FUNCTIONS = "def value(a, space):\n    return {'value': sum(map(ord, str(sorted(a.items())))) % 1000 / 1000}\n"

TRAINED = "--epochs 2 --batch 256"
RUNS = {
    "shrink": "search sh.space",
    "thin": "search sh.space --runtime thin",
    "sample": "search s.space",
    "gradient": f"search s.space --runtime gradient {TRAINED} --set candidates=2",
    "gumbel": f"search s.space --runtime gradient --set rule=gumbel {TRAINED}",
    "screen": f"search s.space --runtime screen --set screen.keep=2 {TRAINED}",
    "function": "search s.space --runtime evolve --function campaign_functions:value --set maximise=value "
    "--set minimise=macs --trials 8",
    "scratch": "search s.space --runtime evolve --set train.epochs=0.3 --batch 256 --trials 4",
    "supernet": "search s.space --runtime evolve --supernet supernet --trials 5",
    "train": f"train one.space {TRAINED}",
}
"""A command of each runtime."""
NAMES = tuple(RUNS) if WHOLE else ("shrink", "function")


class Camp:
    """A folder in which each of the commands can be run, and what came of them undisturbed.

    Attributes:
        ends: of each, the files that it has written.
        seconds: that it took.
    """

    def __init__(self, folder: Path, forks: Forks) -> None:
        self.forks, self.base = partial(forks, every_step=True), folder / "base"
        self.base.mkdir()
        for name, text in (("s.space", SPACE), ("sh.space", UNITS), ("campaign_functions.py", FUNCTIONS)):
            (self.base / name).write_text(text)
        for command in (
            "search s.space --run supernet --out one.space --seed 1",
            "sample s.space -n 1 --out one.space",
        ):
            assert self.forks(self.base, command.split()).code == 0
        self.ends, self.seconds = dict[str, dict[str, bytes]](), dict[str, float]()
        for name in NAMES:
            where = self.copy(folder / "unbroken" / name)
            done = self.run(name, where)
            assert done.code == 0, done.said
            self.ends[name], self.seconds[name] = self.end(name, where), done.seconds

    def copy(self, to: Path) -> Path:
        return Path(shutil.copytree(self.base, to))

    def run(self, name: str, where: Path, kill: float | None = None) -> Ended:
        out = "out.safetensors" if name == "train" else "out.space"
        return self.forks(where, [*RUNS[name].split(), "--run", "run", "--out", out], kill)

    def end(self, name: str, where: Path) -> dict[str, bytes]:
        """What a run leaves: results, weights, and the history."""
        told = [where / "run" / name for name in ("history.jsonl", "choices.jsonl")]
        files = [*where.glob("out*"), *where.glob("out_front/*"), *told]
        whole = [file for file in files if file.is_file() and not is_part(file)]
        return {str(file.relative_to(where)): file.read_bytes() for file in whole}


@pytest.fixture(scope="session")
def camp(tmp_path_factory: pytest.TempPathFactory, forks: Forks) -> Camp:
    return Camp(tmp_path_factory.mktemp("camp"), forks)


def is_clear(done: Ended) -> bool:
    """Whether a command did not do its work for a reason that it told, and not for a mistake of its own."""
    told = "error[" in done.said and "error[internal]" not in done.said
    return done.code == 1 and told and "Traceback" not in done.said


def tell(title: str, found: Counter[str]) -> None:
    if WHOLE:
        print(f"\n{title}: " + ", ".join(f"{n:,} {what}" for what, n in sorted(found.items())))


# --- Kills and full disks ---------------------------------------------------------------------------------------------

KILLS, IN_A_ROW = of(20, 2), 5
"""Kills of each command, and at most so many of the same run."""


@pytest.mark.parametrize("name", NAMES)
def test_a_run_that_is_killed_at_random_moments_ends_as_the_unbroken_one(camp: Camp, tmp_path: Path, name: str) -> None:
    draw, kills, runs = random.Random(name), 0, 0
    while kills < KILLS:
        where, runs = camp.copy(tmp_path / f"{runs}"), runs + 1
        for _ in range(IN_A_ROW):
            done = camp.run(name, where, kill=draw.uniform(0, camp.seconds[name]))
            assert done.code in (0, -9), done.said
            if done.code == 0:
                break
            kills += 1
        done = camp.run(name, where)
        assert done.code == 0, done.said
        assert camp.end(name, where) == camp.ends[name]
    tell(f"kills of {name}", Counter(runs=runs, kills=kills))


@contextlib.contextmanager
def disk(where: Path, size: int) -> Iterator[Path]:
    """A file system with so many bytes."""
    where.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", where], capture_output=True)
    if made.returncode != 0:
        pytest.skip("file systems cannot be mounted here")
    try:
        yield where
    finally:
        subprocess.run(["umount", where], check=True)


@pytest.mark.skipif(not WHOLE, reason="takes long: NASDSL_CAMPAIGN=1")
@pytest.mark.parametrize("name", NAMES)
def test_a_full_disk_is_told_and_loses_nothing(camp: Camp, tmp_path: Path, name: str) -> None:
    draw, found = random.Random(name), Counter[str]()
    unbroken = camp.base.parent / "unbroken" / name
    needed = sum(file.stat().st_size + 4096 for file in unbroken.rglob("*"))
    while found["refused"] < of(5, 1):
        with disk(tmp_path / f"{found.total()}", 8 * needed + (1 << 20)) as place:
            where = camp.copy(place / "here")
            least = sum(file.stat().st_size + 4096 for file in place.rglob("*"))
            size = 4096 * round(draw.uniform(least, needed) / 4096)
            subprocess.run(["mount", "-o", f"remount,size={size}", place], check=True)
            done = camp.run(name, where)
            assert done.code == 0 or is_clear(done), done.said
            found["refused" if done.code else "enough"] += 1
            subprocess.run(["mount", "-o", f"remount,size={8 * needed + (1 << 20)}", place], check=True)
            again = camp.run(name, where)
            assert again.code == 0, (done.said, again.said)
            assert camp.end(name, where) == camp.ends[name]
    tell(f"full disks of {name}", found)


# --- Databases --------------------------------------------------------------------------------------------------------


def in_a_folders_place(file: Path) -> None:
    file.unlink()
    file.mkdir()


GONE: dict[str, Callable[[Path], object]] = {
    "removed": Path.unlink,
    "emptied": lambda file: file.write_bytes(b""),
    "cut": lambda file: os.truncate(file, file.stat().st_size // 2),
    "overwritten": lambda file: file.write_bytes(b"somebody else's" * 1000),
    "moved away": lambda file: file.rename(file.with_suffix(".away")),
    "a folder": in_a_folders_place,
}
"""What becomes of a database while a search is at work with it."""


@pytest.mark.parametrize("how", GONE if WHOLE else ("removed", "cut"))
@pytest.mark.parametrize("name", ["function", "scratch"] if WHOLE else ["function"])
def test_a_database_that_vanishes_is_told(camp: Camp, tmp_path: Path, name: str, how: str) -> None:
    draw, found = random.Random(how), Counter[str]()
    for number in range(of(4, 1)):
        where = camp.copy(tmp_path / f"{number}")
        wait = draw.uniform(0.3, 0.9) * camp.seconds[name]
        watcher = multiprocessing.get_context("fork").Process(
            target=_spoil, args=(where / "run" / "trials.db", GONE[how], wait)
        )
        watcher.start()
        done = camp.run(name, where)
        watcher.join()
        assert done.code == 0 or is_clear(done), done.said
        if done.code == 0:
            assert camp.end(name, where)["out.space"] == camp.ends[name]["out.space"]
        found["refused" if done.code else "the same end"] += 1
        again = camp.run(name, where)
        assert again.code == 0 or is_clear(again), again.said
    tell(f"databases of {name}, {how}", found)


def _spoil(file: Path, how: Callable[[Path], object], wait: float) -> None:
    time.sleep(wait)
    end = time.monotonic() + 20
    while not file.exists() and time.monotonic() < end:
        time.sleep(0.002)
    with contextlib.suppress(OSError):
        how(file)


# --- Damage -----------------------------------------------------------------------------------------------------------


def flipped(data: bytes, draw: random.Random) -> bytes:
    found = bytearray(data)
    for _ in range(draw.choice((1, 1, 3, 20))):
        found[draw.randrange(len(found))] ^= 1 << draw.randrange(8)
    return bytes(found)


def cut(data: bytes, draw: random.Random) -> bytes:
    return data[: draw.randrange(len(data))]


def blank(data: bytes, draw: random.Random) -> bytes:
    """As what a file system leaves that lost a block."""
    start = draw.randrange(len(data))
    end = min(len(data), start + draw.choice((16, 512, 4096)))
    return data[:start] + bytes(end - start) + data[end:]


def doubled(data: bytes, draw: random.Random) -> bytes:
    start = draw.randrange(len(data))
    return data[:start] + data[start // 2 :]


def noise(data: bytes, draw: random.Random) -> bytes:
    return draw.randbytes(len(data))


CHECKED = ("archive", ".png", ".PNG", ".gz")
"""What holds checksums of what is in it."""
DAMAGE = (flipped, cut, blank, doubled, noise)


def learnt_from(data: DataSplits) -> list[Any]:
    """All that a network would learn from."""
    found: list[Any] = [data.task, data.classes, data.ignore_index]
    for split in (data.train, data.val):
        for number in range(len(split)):
            image, target = split[number]
            found += [image.numpy().tobytes(), repr(target)]
    return found


def packed(members: Members, where: Path, as_zip: bool, draw: random.Random) -> tuple[str, str]:
    """A data set of which something is damaged: the archive as a whole or one of its files; and what is, and how."""
    damage = draw.choice(DAMAGE)
    if as_zip and draw.random() < 0.5:
        file = Path(store(where, members, True))
        file.write_bytes(damage(file.read_bytes(), draw))
        return str(file), f"{damage.__name__} archive"
    name = draw.choice(sorted(members))
    damaged = {**members, name: damage(members[name], draw)}
    return store(where, damaged, as_zip), f"{damage.__name__} {Path(name).suffix}"


@pytest.mark.parametrize("as_zip", [False, True], ids=["folder", "zip"])
@pytest.mark.parametrize("row", LAYOUTS, ids=lambda row: f"{row['reader']} {row['files'][:30]}")
def test_damaged_data_is_told(tmp_path: Path, row: Any, as_zip: bool) -> None:
    """What is read otherwise without a word is what nobody can see: other values in the same form."""
    members, task = made(row), row["task"].strip()
    whole = open_data(store(tmp_path, members, as_zip), task)
    wanted, lines = learnt_from(whole), told(whole)[1:]
    draw, found, silent = random.Random(f"{row['files']} {as_zip}"), Counter[str](), Counter[str]()
    for _ in range(of(220, 2)):
        with tempfile.TemporaryDirectory() as place:
            data, what = packed(members, Path(place), as_zip, draw)
            try:
                opened = open_data(data, task)
                same, said = learnt_from(opened) == wanted, told(opened)[1:] != lines
            except NasdslError:
                found["refused"] += 1
                continue
        found["the same" if same else "told" if said else "silent"] += 1
        if not same and not said:
            silent[what] += 1
    tell(f"{row['reader']} ({'zip' if as_zip else 'folder'})", found + silent)
    assert not [what for what in silent if what.endswith(CHECKED)], silent


# --- Damaged runs -----------------------------------------------------------------------------------------------------


def removed(file: Path, draw: random.Random) -> None:
    file.unlink()


def emptied(file: Path, draw: random.Random) -> None:
    file.write_bytes(b"")


def exchanged(file: Path, draw: random.Random) -> None:
    """With another file of the same run."""
    other = draw.choice(sorted(one for one in file.parent.rglob("*") if one.is_file()))
    mine, theirs = file.read_bytes(), other.read_bytes()
    file.write_bytes(theirs)
    other.write_bytes(mine)


def folded(file: Path, draw: random.Random) -> None:
    """A folder in its place."""
    file.unlink()
    file.mkdir()


def leading(file: Path, draw: random.Random) -> None:
    """A link to nowhere in its place."""
    file.unlink()
    file.symlink_to("nowhere")


def in_bytes(file: Path, draw: random.Random) -> None:
    data = file.read_bytes()
    if data:
        file.write_bytes(draw.choice(DAMAGE)(data, draw))


SPOILT = (in_bytes, in_bytes, in_bytes, in_bytes, removed, emptied, exchanged, folded, leading)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("ended", [False, True], ids=["broken off", "ended"])
def test_a_damaged_run_goes_on_to_the_same_end_or_is_told(camp: Camp, tmp_path: Path, name: str, ended: bool) -> None:
    draw, found, silent = random.Random(f"{name} {ended}"), Counter[str](), Counter[str]()
    base = camp.copy(tmp_path / "base")
    moment = None if ended else 0.9 * camp.seconds[name]
    while (camp.run(name, base, moment).code == 0) != ended or not (base / "run" / "run.json").is_file():
        shutil.rmtree(base)
        base, moment = camp.copy(base), draw.uniform(0.5, 1.0) * camp.seconds[name]
    commands = {"go on": None, "report": "report run --out report.html", "eval": "eval out.space"}
    if name in ("function", "screen"):
        del commands["eval"]
    for number in range(of(50, 1)):
        where = Path(shutil.copytree(base, tmp_path / f"{number}", symlinks=True))
        files = [file for file in (where / "run").rglob("*") if file.is_file()]
        file = draw.choice(sorted([*files, *where.glob("out*.s*")]))
        how, what = draw.choice(SPOILT), draw.choice(list(commands) if ended else ["go on", "go on", "report"])
        how(file, draw)
        command = commands[what]
        done = camp.run(name, where) if command is None else camp.forks(where, command.split())
        assert done.code == 0 or is_clear(done), (file.name, how.__name__, what, done.said)
        found["refused" if done.code else "done"] += 1
        if what == "go on" and done.code == 0 and camp.end(name, where) != camp.ends[name]:
            silent[f"{how.__name__} {file.name}"] += 1
        shutil.rmtree(where)
    tell(f"damaged runs of {name}, {'ended' if ended else 'broken off'}", found + silent)
    assert not [what for what in silent if "trials.db" not in what], silent  # SQLite has no checksums of its pages
