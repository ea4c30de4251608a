"""What comes from somewhere (a space, data, tables, weights, the folder of a run) runs no code, is read from no other
place into anything that is written, and has nothing written but what was asked for."""

from __future__ import annotations

import contextlib
import json
import pickle
import runpy
import shutil
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest
import torch

from nasdsl.cli import main
from nasdsl.runtime.checkpoint import load_weights, save_weights
from tests.datafiles import png

SPACE = """
space s {
  input 3 x 8 x 8
  network { conv(oneof(4, 6), stride: 2) -> classify(classes: 2) }
  search sample { train: { epochs: 1, batch: 4, recalibrate: 0 }, candidates: 1, hold_back: 2 }
}
"""
ONE = "space one {\n  input 3 x 8 x 8\n  network { conv(4, stride: 2) -> classify(classes: 2) }\n}\n"
SECRET = "xyzzy-plugh"
RAN = "RAN"
"""The file that code makes which should not run."""
CODE = f"__import__('pathlib').Path('{RAN}').touch()"

SAMPLE = ["search", "s.space", "--data", "data", "--run", "run", "--out", "o.space"]
EVOLVE = ["search", "s.space", "--runtime", "evolve", "--function", "untrusted_functions:value", "--trials", "2",
          "--run", "run", "--out", "o.space"]  # fmt: skip

HOSTILE = {
    "markup": "<script>alert(1)</script>",
    "python": f'"""\n{CODE}\n"""',
    "quote": f"'+{CODE}+'",
    "brace": f"{{{CODE}}}",
    "terminal": "\x1b]0;title\x07\x1b[2J",
    "rich": "[bold]x[/bold][link=file:///etc]",
    "dot": '"];}\ndigraph{a[label="',
}
"""Names that mean something to whoever does not look out."""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with a secret outside of it."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    Path("s.space").write_text(SPACE)
    Path("one.space").write_text(ONE)
    (tmp_path / "outside").mkdir()
    return folder


@pytest.fixture
def outside(here: Path) -> Path:
    return here.parent / "outside"


def image(seed: int) -> bytes:
    return png(np.random.default_rng(seed).integers(0, 256, (8, 8, 3)))


def folders(where: Path, classes: tuple[str, ...] = ("a", "b"), each: int = 4) -> Path:
    for split in ("train", "val"):
        for number, name in enumerate(classes):
            for i in range(each):
                file = where / split / name / f"{i}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(image(100 * number + i + (50 if split == "val" else 0)))
    return where


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what a search and a training leave."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "s.space").write_text(SPACE)
    (folder / "one.space").write_text(ONE)
    (folder / "untrusted_functions.py").write_text("def value(a, space):\n    return float(len(str(a)))\n")
    folders(folder / "data")
    with contextlib.chdir(folder):
        assert main(SAMPLE) == 0
        assert main(["train", "one.space", "--data", "data", "--epochs", "1", "--batch", "4"]) == 0
    return folder


@pytest.fixture
def ended(made: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The present folder with the same."""
    shutil.copytree(made, here, dirs_exist_ok=True)
    monkeypatch.syspath_prepend(str(here))
    return here


def run(capsys: pytest.CaptureFixture[str], *command: str) -> tuple[int, str]:
    """The status of a command and all that it says."""
    capsys.readouterr()
    code = main([str(part) for part in command])
    said = capsys.readouterr()
    return code, said.out + said.err


def everything(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


# --- Spaces -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "section",
    [
        'search evolve { function: "os:getcwd", trials: 1 }',
        'search evolve { table: { file: "t.csv", rows: "subprocess:getoutput" }, maximise: acc, trials: 1 }',
        'search evolve { storage: "sqlite:///../outside/made.db", maximise: value, trials: 1 }',
    ],
)
def test_a_space_runs_no_function_and_makes_no_database(
    here: Path, outside: Path, capsys: pytest.CaptureFixture[str], section: str
) -> None:
    Path("t.csv").write_text(f"touch {RAN},acc\n1,2\n")
    Path("evil.space").write_text(
        SPACE.replace("search sample", f"{section}\n  search sample", 1).split("search sam")[0] + "}"
    )
    code, said = run(capsys, "search", "evil.space", "--out", "o.space")
    assert code == 1 and "if you trust it, type it" in said
    assert not Path(RAN).exists() and not any(outside.iterdir())


@pytest.mark.parametrize("ending", ["csv", "json", "space", "safetensors", "pth", "txt"])
@pytest.mark.parametrize("how", ["use", "table", "column", "init"])
def test_a_space_shows_nothing_of_other_files(
    here: Path, outside: Path, capsys: pytest.CaptureFixture[str], how: str, ending: str
) -> None:
    file = outside / f"file.{ending}"
    file.write_text(f"{SECRET},{SECRET}\n1,{SECRET}\n")
    text = {
        "use": f'use "../outside/{file.name}"\n{SPACE}',
        "table": SPACE.replace(
            "search sample {", f'search evolve {{ table: "../outside/{file.name}", trials: 1 }}\n  other {{'
        ),
        "column": SPACE.replace(
            "search sample {",
            f'search evolve {{ table: {{ file: "../outside/{file.name}", column: {SECRET[:3]}, '
            'pattern: "{conv.out}" }, trials: 1 }\n  other {',
        ),
        "init": SPACE.replace("epochs: 1", f'epochs: 1, init: "../outside/{file.name}"'),
    }[how]
    if how in ("table", "column"):
        text = text[: text.index("  other {")] + "}\n"
    Path("evil.space").write_text(text)
    code, said = run(capsys, "search", "evil.space", "--out", "o.space")
    assert code == 1 and "internal" not in said
    assert SECRET not in said or (how, ending) == ("use", "space")  # what ends so is text of the language


# --- Data -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["file", "folder", "split"])
def test_links_out_of_the_data_are_followed_only_if_asked(
    here: Path, outside: Path, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    data = folders(here / "data")
    (outside / "c").mkdir()
    (outside / "c" / "private.png").write_bytes(image(9))
    folders(outside / "other")
    link, to = {
        "file": (data / "train" / "a" / "9.png", outside / "c" / "private.png"),
        "folder": (data / "train" / "b" / "more", outside / "c"),
        "split": (data / "test", outside / "other" / "val"),
    }[what]
    link.symlink_to(to)
    (data / "train" / "b" / "inside.png").symlink_to(data / "train" / "b" / "1.png")
    code, said = run(capsys, "train", "one.space", "--data", "data", "--epochs", "1", "--batch", "4")
    assert code == 0 and "training: 9 images" in said
    assert f"{link.relative_to(data)}" in said and "a link that leads out of the data (`--links` follows it)" in said
    more = ["--links", "--fresh"]
    code, said = run(capsys, "train", "one.space", "--data", "data", "--epochs", "1", "--batch", "4", *more)
    assert code == 0 and "a link that" not in said
    assert f"training: {9 if what == 'split' else 10} images" in said


def test_images_to_predict_may_not_lead_out_either(
    ended: Path, outside: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (outside / "private.png").write_bytes(image(9))
    (ended / "photos").mkdir()
    (ended / "photos" / "own.png").write_bytes(image(8))
    (ended / "photos" / "link.png").symlink_to(outside / "private.png")
    code, said = run(capsys, "predict", "one.space", "photos", "--out", "found")
    assert code == 0 and not any("link" in name for name in everything(ended / "found"))
    assert "link.png" in said and "--links" in said
    assert run(capsys, "predict", "one.space", "photos", "--links", "--out", "more")[0] == 0
    assert any("link" in name for name in everything(ended / "more"))
    assert run(capsys, "predict", "one.space", "photos/link.png", "--out", "named")[0] == 0  # it was named itself


@pytest.mark.parametrize("name", ["../outside/private.png", "/private.png", "a/../../outside/private.png"])
@pytest.mark.parametrize("packed", [False, True], ids=["folder", "zip"])
def test_annotations_name_nothing_outside(
    here: Path, outside: Path, capsys: pytest.CaptureFixture[str], name: str, packed: bool
) -> None:
    (outside / "private.png").write_bytes(image(9))
    members: dict[str, bytes] = {f"images/{i}.png": image(i) for i in range(4)}
    document: dict[str, Any] = {
        "images": [{"id": i, "file_name": f"{i}.png", "width": 8, "height": 8} for i in range(4)],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [{"id": i, "image_id": i, "category_id": 1, "bbox": [1, 1, 5, 5]} for i in range(5)],
    }
    document["images"].append({"id": 4, "file_name": name, "width": 8, "height": 8})
    members["annotations.json"] = json.dumps(document).encode()
    if packed:
        members[name] = image(9)
    with ZipFile("set.zip", "w") as archive:
        for member, content in members.items():
            archive.writestr(member, content)
    if not packed:
        with ZipFile("set.zip") as archive:
            archive.extractall("set")
    text = "space d {\n  input 3 x 8 x 8\n  network { conv(4) -> classify(classes: 2) }\n}\n"
    Path("d.space").write_text(text)
    from nasdsl.runtime.data import DataError, open_data

    try:
        opened = open_data("set.zip" if packed else "set", "detection", size=(8, 8))
    except DataError as problem:
        assert SECRET not in str(problem)
        return
    seen = [np.asarray(split[i][0]).tobytes() for split in (opened.train, opened.val) for i in range(len(split))]
    assert len(seen) == 4 and len(set(seen)) == 4


def test_entities_of_annotations_are_not_looked_up(here: Path, outside: Path) -> None:
    from nasdsl.runtime.data import open_data
    from nasdsl.runtime.data.errors import DataError

    (outside / "secret.txt").write_text(SECRET)
    box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>6</xmax><ymax>6</ymax></bndbox>"
    plain = f"<annotation><object><name>cat</name>{box}</object></annotation>"
    entity = f'<!DOCTYPE a [<!ENTITY x SYSTEM "file://{outside}/secret.txt">]>' + plain.replace("cat", "&x;")
    laughs = "<!DOCTYPE a [<!ENTITY a 'ha'>" + "".join(
        f"<!ENTITY {b} '{f'&{a};' * 10}'>" for a, b in zip("abcdefghi", "bcdefghij", strict=True)
    )
    laughs += f"]>{plain.replace('cat', '&j;')}"
    for evil in (entity, laughs):
        data = here / f"set{len(evil)}"
        for i in range(4):
            for folder, content in (("images", image(i)), ("annotations", (evil if i == 2 else plain).encode())):
                (data / folder).mkdir(parents=True, exist_ok=True)
                (data / folder / f"{i}.{'png' if folder == 'images' else 'xml'}").write_bytes(content)
        with pytest.raises(DataError) as caught:
            open_data(str(data), "detection", size=(8, 8))
        assert SECRET not in str(caught.value) and len(str(caught.value)) < 2000


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_names_of_classes_are_names_wherever_they_are_written(
    here: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    plain = name.replace("/", "|")  # of a folder
    folders(here / "data", ("a", plain))
    code, said = run(capsys, "search", "s.space", "--data", "data", "--out", "o.space")
    assert code == 0, said
    commands = [
        ["eval", "o.space", "--data", "data"],
        ["report", "runs/o"],
        ["export", "o.space", "--out", "o.py"],
        ["predict", "o.space", "data/val/a", "--out", "found"],
        ["draw", "o.space", "--out", "o.svg"],
    ]
    for command in commands:
        code, more = run(capsys, *command)
        assert code == 0, (command, more)
        said += more
    assert "\x1b]0" not in said and "\x1b[2J" not in said
    page = Path("runs/o/report.html").read_text()
    assert "<script>alert" not in page and "\x1b" not in page
    runpy.run_path("o.py", run_name="o")
    assert not Path(RAN).exists()


# --- Tables and weights -----------------------------------------------------------------------------------------------


def test_of_a_table_only_numbers_are_written(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [f"4,{HOSTILE['markup']},1.5,=cmd()", "6,x,2.5,=cmd()"]
    Path("t.csv").write_text("\n".join(["conv.out,note,acc,<b>sum</b>", *rows]) + "\n")
    text = "space s {\n  input 3 x 8 x 8\n  network { conv(oneof(4, 6), stride: 2) -> classify(classes: 2) }\n}\n"
    Path("t.space").write_text(text)
    command = ["search", "t.space", "--runtime", "evolve", "--table", "t.csv", "--set", "maximise=acc", "--trials", "2"]
    code, said = run(capsys, *command, "--out", "o.space")
    assert code == 0, said
    assert run(capsys, "report", "runs/o")[0] == 0
    for name, content in everything(here).items():
        if name not in ("t.csv", "runs/o/trials.db"):
            assert b"<script>alert" not in content and b"=cmd()" not in content, name


class Evil:
    """Runs code where it is unpickled."""

    def __reduce__(self) -> Any:
        return exec, (CODE,)


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_weights_that_are_pickles_run_nothing(here: Path, capsys: pytest.CaptureFixture[str], ending: str) -> None:
    torch.save({"a": Evil()}, f"evil.{ending}")
    init = f'init={{ matching: "evil.{ending}" }}'
    folders(here / "data")
    code, said = run(capsys, "train", "one.space", "--data", "data", "--epochs", "1", "--batch", "4", "--set", init)
    assert code == 1 and "internal" not in said
    Path("one.safetensors").write_bytes(pickle.dumps(Evil()))
    for command in (["eval", "one.space"], ["export", "one.space", "--out", "o.py"]):
        code, said = run(capsys, *command)
        assert code == 1 and "internal" not in said
    assert not Path(RAN).exists()


RARE = [pytest.param(key, marks=pytest.mark.long) for key in ("classes", "task", "space", "mean", "joints", "outputs")]


@pytest.mark.parametrize("key", ["layers", *RARE])
def test_what_weights_say_of_themselves_is_data(ended: Path, capsys: pytest.CaptureFixture[str], key: str) -> None:
    tensors, metadata = load_weights(Path("one.safetensors"))
    for evil in (HOSTILE["python"], HOSTILE["terminal"]):
        value = json.dumps(["a", evil]) if key in ("classes", "layers") else evil
        save_weights(Path("one.safetensors"), tensors, {**metadata, key: value})
        said = ""
        for command in (
            ["export", "one.space", "--out", "o.py"],
            ["predict", "one.space", "data/val/a", "--out", "found", "--overwrite"],
        ):
            code, more = run(capsys, *command)
            assert code in (0, 1) and "internal" not in more
            said += more
        assert "\x1b" not in said
        if Path("o.py").exists():
            runpy.run_path("o.py", run_name="o")
            Path("o.py").unlink()
        assert not Path(RAN).exists()


# --- Runs -------------------------------------------------------------------------------------------------------------

LINKS = [
    *((SAMPLE, name) for name in ("checkpoint.pt", "supernet.safetensors", "history.jsonl", "events", ".before")),
    *((EVOLVE, name) for name in ("run.json", "space.json", "trials.db", "report.html")),
]


@pytest.mark.parametrize(("command", "name"), LINKS, ids=[name for _, name in LINKS])
def test_links_in_a_run_write_nothing_elsewhere(
    ended: Path, outside: Path, capsys: pytest.CaptureFixture[str], command: list[str], name: str
) -> None:
    if command == EVOLVE:
        assert run(capsys, *command, "--fresh", "--run", "other")[0] == 0
        shutil.rmtree("run")
        Path("other").rename("run")
    link, to = ended / "run" / name, outside / "theirs"
    if name in ("events", ".before"):
        to.mkdir()
        shutil.rmtree(link, ignore_errors=True)
    else:
        to.write_bytes(link.read_bytes() if link.exists() else b"")
        link.unlink(missing_ok=True)
    link.symlink_to(to)
    before = everything(outside)
    for more in ([*command, "--fresh"], command, ["report", "run"]):
        code, said = run(capsys, *more)
        assert code == 1 and f"run/{name} is a link, and a run keeps its files in its own folder" in said
    assert everything(outside) == before and sorted(outside.iterdir()) == [to]


def test_a_run_shows_only_what_it_learnt_from(ended: Path, outside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder may name any other as its data; a report would have the images of that."""
    folders(outside / "private", each=5)
    (ended / "data").rename(ended / "elsewhere")
    assert run(capsys, "report", "run", "--data", "elsewhere")[0] == 0
    assert "data:image" in Path("run/report.html").read_text()
    told = json.loads(Path("run/result.json").read_text())
    Path("run/result.json").write_text(json.dumps({**told, "data": str(outside / "private")}))
    assert run(capsys, "report", "run", "--out", "evil.html")[0] == 0
    page = Path("evil.html").read_text()
    assert "data:image/jpeg" not in page and "data:image/png" not in page
    assert "did not learn from" in page


def test_checkpoints_that_are_pickles_run_nothing(ended: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"step": Evil()}, "run/checkpoint.pt")
    code, said = run(capsys, *SAMPLE)
    assert code == 1 and "it is no checkpoint, or holds more than tensors and plain values" in said
    Path("run/supernet.safetensors").write_bytes(pickle.dumps(Evil()))
    code, said = run(capsys, "train", "o.space", "--data", "data", "--inherit", "run", "--epochs", "1", "--batch", "4")
    assert code == 1 and "internal" not in said
    assert not Path(RAN).exists()
