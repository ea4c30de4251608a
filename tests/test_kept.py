"""What is the user's stays: files that a run has not written, inputs of commands, results under any name and layout."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from zipfile import ZipFile

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nasdsl import pin, sample
from nasdsl.cli import main
from nasdsl.compiler.diagnostics import CompileError
from nasdsl.compiler.files import quoted, unquoted, write_text
from nasdsl.compiler.parse import read
from nasdsl.compiler.pipeline import elaborate
from nasdsl.compiler.source import Source
from nasdsl.compiler.structure import structure
from nasdsl.compiler.supernet import Supernet
from nasdsl.compiler.tokens import is_name
from nasdsl.compiler.write import expanded, write_pinned
from nasdsl.runtime.checkpoint import save_weights
from nasdsl.runtime.errors import RunError
from nasdsl.runtime.files import fingerprint
from nasdsl.runtime.front import Front
from nasdsl.runtime.outputs import OutputError, check_output, check_result
from nasdsl.runtime.runs import About, RunFolder, has_work, put_back, set_aside
from nasdsl.runtime.storage import open_storage
from nasdsl.runtime.trained import load_network
from nasdsl.runtime.trials import read_database

SPACE = """
space s {
  input 1 x 8 x 8
  network { conv(4, stride: 2) -> repeat oneof(1, 2) { conv(oneof(4, 6), act: oneof(relu, swish)) } -> classify(3) }
  search evolve { maximise: value, trials: 4 }
}
"""
FUNCTIONS = "def value(a, space): return float(len(str(a)))\ndef both(a, space): return {'value': 1.0, 'other': 2.0}\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    Path("s.space").write_text(SPACE)
    Path("kept_functions.py").write_text(FUNCTIONS)
    return tmp_path


def search(*more: str, file: str = "s.space", out: str = "best.space") -> int:
    return main(["search", file, "--function", "kept_functions:value", "--out", out, *more])


# --- Runs and fronts --------------------------------------------------------------------------------------------------


def test_a_front_leaves_files_that_no_search_wrote(folder: Path) -> None:
    front = folder / "best_front"
    front.mkdir()
    for name in ("2024.space", "2024.safetensors", "07.txt"):
        (front / name).write_text("mine")
    assert search("--set", "minimise=macs") == 0
    assert all((front / name).read_text() == "mine" for name in ("2024.space", "2024.safetensors", "07.txt"))
    (front / "01.space").write_text("mine")
    assert search("--set", "minimise=macs", "--trials", "5") == 1
    assert (front / "01.space").read_text() == "mine"


def test_of_a_longer_front_only_what_is_as_it_was_written_goes(tmp_path: Path) -> None:
    front = Front(tmp_path)
    for number in range(1, 5):
        front.write(f"{number:02}.space", b"%d" % number)
    front.end([f"{number:02}.space" for number in range(1, 5)])
    (tmp_path / "03.space").write_text("edited")
    later = Front(tmp_path)
    later.write("01.space", b"new")
    later.end(["01.space"])
    left = {file.name: file.read_text() for file in tmp_path.glob("*.space")}
    assert left == {"01.space": "new", "03.space": "edited"}
    with pytest.raises(RunError, match=r"03\.space was not written by a search"):
        later.check(3)
    later.check(2)
    (tmp_path / "02.space").symlink_to(tmp_path / "03.space")
    with pytest.raises(RunError, match=r"02\.space was not written"):
        later.write("02.space", b"x")
    assert (tmp_path / "03.space").read_text() == "edited"


def about(search: str = "shrink", seed: int = 0) -> About:
    return About(space="0", search=search, seed=seed, settings={})


@pytest.mark.parametrize("name", ["notes.txt", "events/mine.txt", "old/run.json", "checkpoint.pt.bak"])
def test_fresh_removes_what_a_run_has_written_and_nothing_else(tmp_path: Path, name: str) -> None:
    run = tmp_path / "run"
    RunFolder(run, about())
    (run / "checkpoint.pt").write_text("state")
    (run / name).parent.mkdir(exist_ok=True)
    (run / name).write_text("mine")
    set_aside(run, "shrink")
    assert (run / name).read_text() == "mine" and not has_work(run)
    RunFolder(run, about(seed=1))
    put_back(run)
    assert json.loads((run / "run.json").read_text())["seed"] == 0 and (run / "checkpoint.pt").read_text() == "state"
    with pytest.raises(RunError, match="another search") as caught:
        set_aside(run, "train")
    assert "fresh" not in caught.value.help and has_work(run)


def test_what_a_search_found_is_trained_in_a_folder_of_its_own(folder: Path, bars: None) -> None:
    assert search() == 0
    before = (folder / "runs" / "best" / "trials.db").read_bytes()
    for more in ([], ["--fresh"]):
        command = ["train", "best.space", "--set", "epochs=1", "--out", "best.safetensors", "--device", "cpu", *more]
        main(command)
    assert (folder / "runs" / "best" / "trials.db").read_bytes() == before


@pytest.mark.parametrize(
    "wrong",
    [
        ["--set", "maximise=nothing"],
        ["--budget", "macs <= 1"],
        ["--latency", "no.json"],
        ["--set", "method=none"],
        ["--set", "study=a", "--set", "minimise=nothing"],
    ],
)
@pytest.mark.parametrize("fresh", [False, True])
def test_a_start_that_is_refused_claims_and_loses_nothing(folder: Path, wrong: list[str], fresh: bool) -> None:
    if fresh:
        assert search() == 0
        trials = (folder / "runs" / "best" / "run.json").read_bytes()
        assert search(*wrong, "--fresh") == 1
        assert (folder / "runs" / "best" / "run.json").read_bytes() == trials
        assert has_work(folder / "runs" / "best")
    else:
        assert search(*wrong) == 1
        assert not (folder / "runs").exists() and not (folder / "best.space").exists()
    assert search() == 0


@pytest.mark.parametrize("wrong", [["--set", "maximise=nothing"], ["--set", "minimise=nothing"]])
def test_a_start_that_is_refused_leaves_no_study(folder: Path, wrong: list[str]) -> None:
    where = ["--storage", "sqlite:///mine.db"]
    assert search(*wrong, *where) == 1
    assert search(*where) == 0
    assert search(*wrong, *where) == 1  # that one has another beginning
    assert search(*where, "--trials", "6") == 0
    assert len(read_database("sqlite:///mine.db", None).tally.complete) == 6


# --- Outputs ----------------------------------------------------------------------------------------------------------

WRITERS = [
    ["pin", "s.space", "repeat.depth=1", "-o"],
    ["pin", "s.space", "--number", "0", "-o"],
    ["sample", "s.space", "-n", "1", "-o"],
    ["compile", "s.space", "--stage", "graph", "--graph"],
    ["cost", "s.space", "--svg"],
    ["cost", "s.space", "--least"],
    ["search", "s.space", "--function", "kept_functions:value", "--out"],
]


@pytest.mark.parametrize("command", WRITERS)
@pytest.mark.parametrize("out", ["s.space", "./s.space", "link.space", "hard.space", "folder.space", "s.space/x.space"])
def test_an_output_is_never_an_input(folder: Path, command: list[str], out: str) -> None:
    Path("link.space").symlink_to("s.space")
    os.link("s.space", "hard.space")
    Path("folder.space").mkdir()
    assert main([*command, out]) == 1
    assert Path("s.space").read_text() == SPACE and Path("link.space").is_symlink()
    assert not (folder / "runs").exists()


def test_a_file_that_an_input_uses_is_one_too(folder: Path) -> None:
    Path("front.space").write_text('use "s.space"\nspace front = s with { repeat.depth: 1 }\n')
    assert main(["pin", "front.space", "--number", "0", "-o", "s.space"]) == 1
    assert search(file="front.space", out="s.space") == 1
    assert Path("s.space").read_text() == SPACE


def test_a_space_that_somebody_wrote_is_not_taken_for_a_result(folder: Path) -> None:
    Path("other.space").write_text(SPACE.replace("space s", "space other"))
    with pytest.raises(OutputError, match=r"no result"):
        check_result(Path("other.space"))
    assert search(out="other.space") == 1
    assert search() == 0 and search() == 0  # its own


@pytest.mark.parametrize("out", ["/dev/null", "/proc/nothing/x", "s.space/x", "n" * 300])
def test_what_cannot_be_written_is_told_before_any_work(folder: Path, out: str) -> None:
    with pytest.raises(OutputError):
        check_output(Path(out))
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_devices_take_text(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["pin", "s.space", "--number", "0", "-o", "/dev/null"]) == 0
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    with pytest.raises(OSError, match="device"):
        write_text(Path("/dev/null"), "x")


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o755])
def test_the_mode_of_a_file_is_kept(tmp_path: Path, mode: int) -> None:
    file = tmp_path / ("n" * 250)
    file.write_text("before")
    file.chmod(mode)
    write_text(file, "after")
    assert file.read_text() == "after" and stat.S_IMODE(file.stat().st_mode) == mode


def test_fmt_of_a_link_changes_the_file_that_it_leads_to(folder: Path) -> None:
    Path("link.space").symlink_to("s.space")
    Path("s.space").write_text(SPACE.replace("  ", "      "))
    assert main(["fmt", "link.space"]) == 0
    assert Path("link.space").is_symlink() and Path("s.space").read_text() != SPACE.replace("  ", "      ")


def test_looking_writes_nothing(folder: Path) -> None:
    Path("mine.db").write_bytes(b"")
    before = {file.name for file in folder.iterdir()}
    for url in ("sqlite:///nothing.db", "sqlite:///mine.db", "sqlite://"):
        assert main(["trials", "--storage", url]) == 1
        assert main(["report", ".", "--storage", url, "--file", "s.space"]) == 1
        with pytest.raises(RunError):
            open_storage(url, 60, to_read=True)
    assert {file.name for file in folder.iterdir()} == before and Path("mine.db").read_bytes() == b""


# --- Results ----------------------------------------------------------------------------------------------------------

NAMES = ["a#b", 'a"b', "a%22b", os.fsdecode(b"a\xffb"), "a\nb", "C# work/s", "if", "x", "#0123456789abcdef", "é ü"]


@pytest.mark.parametrize("name", NAMES)
def test_results_of_files_of_any_name_can_be_read(folder: Path, name: str) -> None:
    file = Path(f"{name}.space")
    file.parent.mkdir(exist_ok=True)
    file.write_text(SPACE)
    space = elaborate(read(file))
    Path("out").mkdir()
    for out in ("out/best.space", f"{name}_best.space"):
        write_pinned(Path(out), space, sample(space)[0], "found")
        assert not elaborate(read(Path(out))).graph.decisions
    assert search(file=str(file), out="out/best.space") == 0
    assert main(["sample", str(file), "-n", "1", "--budget", "macs <= 100M"]) == 0


@given(st.text(st.characters(blacklist_categories=[]), max_size=30).filter(lambda text: "\0" not in text))
def test_any_path_can_be_quoted(text: str) -> None:
    path = os.fsdecode(text.encode("utf-8", "replace"))
    for one in (path, os.fsdecode(path.encode() + b"\xff\x80")):
        written = quoted(one)
        assert unquoted(written) == one and not set('"\r\n') & set(written)
        written.encode()


@pytest.mark.parametrize("name", ["if", "space", "résumé", "2nd", "a-b", ""])
def test_names_that_a_file_cannot_have(name: str) -> None:
    assert not is_name(name) and is_name("macs") and is_name("y")


@pytest.mark.parametrize("name", ["pinned_here", "required_here", "found", "pinned"])
def test_spaces_may_have_the_names_that_commands_give(folder: Path, name: str) -> None:
    Path("s.space").write_text(SPACE.replace("space s", f"space {name}"))
    assert main(["pin", "s.space", "repeat.depth=1", "-o", "p.space"]) == 0
    assert main(["check", "p.space"]) == 0
    assert main(["sample", "s.space", "-n", "1", "--budget", "macs <= 100M"]) == 0


def test_sources_and_folders_behind_links(folder: Path) -> None:
    Path("store").mkdir()
    Path("base.space").write_text(SPACE)
    Path("store/s.space").write_text('use "base.space"\nspace front = s with { repeat.depth: 2 }\n')
    Path("s.space").unlink()
    Path("s.space").symlink_to("store/s.space")  # what it uses lies beside the link
    Path("deep").mkdir()
    Path("deep/results").mkdir()
    Path("results").symlink_to("deep/results")
    for out in ("best.space", "results/best.space"):
        space = elaborate(read(Path("s.space")))
        write_pinned(Path(out), space, sample(space)[0], "found")
        assert not elaborate(read(Path(out))).graph.decisions
    Path("again.space").symlink_to("deep/results/best.space")
    assert not elaborate(read(Path("again.space"))).graph.decisions


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "# a comment\n\n" + text.replace("  ", "      "),
        lambda text: text.replace("oneof(1, 2)", "oneof(1,\n      2)"),
        lambda text: text.replace(" 8 x 8", " 8 x 8 # pixels").replace("conv(4,", "conv(4.0,"),
        lambda text: text.replace("\n", "\r\n"),
    ],
)
def test_layout_does_not_matter_to_results(folder: Path, change: object) -> None:
    assert search() == 0
    digest = elaborate(read(Path("s.space"))).digest()
    Path("s.space").write_bytes(change(SPACE).encode())  # type: ignore[operator]
    assert elaborate(read(Path("s.space"))).digest() == digest
    assert main(["check", "best.space"]) == 0
    assert main(["fmt", "s.space"]) == 0 and main(["check", "best.space"]) == 0
    assert search("--trials", "5") == 0  # it goes on
    Path("s.space").write_text(SPACE.replace("conv(4,", "conv(5,"))
    assert main(["check", "best.space"]) == 1


# --- Weights ----------------------------------------------------------------------------------------------------------


def trained(folder: Path, depth: int, act: str) -> tuple[Path, Supernet]:
    """A result file with weights as a search writes them."""
    space = elaborate(read(folder / "s.space"))
    values = dict.fromkeys(space.graph.decisions, 0)
    chosen = {path: act for path in values if path.endswith("act")} | {"repeat.depth": depth}
    architecture = sample(pin(space, {path: value for path, value in chosen.items() if path in values}))[0]
    file = folder / "best.space"
    write_pinned(file, pin(space, {p: v for p, v in chosen.items() if p in values}), architecture, "found")
    network = Supernet(elaborate(read(file)).graph)
    form = structure(network.graph)
    told = {"space": "s", "digest": space.digest(), "task": "classification", "outputs": "3"}
    told |= {"architecture": form.whole, "body": form.body, "units": form.units, "layers": json.dumps(form.layers)}
    save_weights(file.with_suffix(".safetensors"), network.state_dict(), told)
    return file, network.eval()


def test_weights_of_another_result_are_refused(folder: Path) -> None:
    file, network = trained(folder, 1, "relu")
    images = torch.randn(2, 1, 8, 8)
    torch.testing.assert_close(load_network(elaborate(read(file)))[0](images), network(images))
    older = file.with_suffix(".safetensors").read_bytes()
    trained(folder, 1, "swish")
    file.with_suffix(".safetensors").write_bytes(older)  # of the same shapes
    with pytest.raises(CompileError, match="weights of another network: it computes otherwise"):
        load_network(elaborate(read(file)))


@pytest.mark.parametrize("before", [[], ["best.1.safetensors"]])
def test_what_trains_nothing_takes_no_weights_that_lie_there(
    folder: Path, before: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert search() == 0
    network = Supernet(elaborate(read(Path("best.space"))).graph)
    form = structure(network.graph)
    metadata = {"architecture": form.whole, "body": form.body, "units": form.units, "layers": json.dumps(form.layers)}
    metadata |= {"digest": "0" * 16, "mean": "0", "std": "1", "outputs": "3", "task": "classify"}
    save_weights(Path("best.safetensors"), network.state_dict(), metadata)
    for name in before:
        Path(name).write_text("mine")
    weights = Path("best.safetensors").read_bytes()
    assert search() == 0  # the very same result: these are its weights
    load_network(elaborate(read(Path("best.space"))))
    capsys.readouterr()
    assert search("--run", "runs/again", "--trials", "12", "--seed", "1") == 0
    away = Path(f"best.{len(before) + 1}.safetensors")
    assert f"best.safetensors held the weights of an earlier result, and is {away} now" in "".join(capsys.readouterr())
    assert away.read_bytes() == weights and not Path("best.safetensors").exists()
    assert all(Path(name).read_text() == "mine" for name in before)
    with pytest.raises(CompileError, match=r"best\.safetensors are missing"):
        load_network(elaborate(read(Path("best.space"))))


def test_an_architecture_in_full_takes_the_weights(folder: Path) -> None:
    file, network = trained(folder, 2, "swish")
    full = elaborate(Source(expanded(elaborate(read(file)))))
    images = torch.randn(2, 1, 8, 8)
    found = load_network(full, file.with_suffix(".safetensors"))[0]
    assert set(found.state_dict()) != set(network.state_dict())
    torch.testing.assert_close(found(images), network(images))


def test_another_head_is_begun_anew_where_that_is_asked_for(folder: Path) -> None:
    file, network = trained(folder, 1, "relu")
    other = elaborate(Source(expanded(elaborate(read(file))).replace("classify(3)", "classify(7)")))
    weights = file.with_suffix(".safetensors")
    with pytest.raises(CompileError, match="another network") as caught:
        load_network(other, weights)
    assert "--fresh-head" in caught.value.help
    found = load_network(other, weights, fresh_head=True)[0]
    assert found(torch.randn(2, 1, 8, 8)).shape == (2, 7)
    first = next(iter(network.state_dict().values()))
    assert any(torch.equal(first, one) for one in found.state_dict().values() if one.shape == first.shape)


# --- Data -------------------------------------------------------------------------------------------------------------


def test_data_is_known_by_its_content(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "else" / "other"
    for top in (one, other):
        for name in ("train/cat/1.png", "val/cat/2.png"):
            (top / name).parent.mkdir(parents=True)
            (top / name).write_bytes(name.encode())
    (one / ".hidden").write_text("x")
    with ZipFile(tmp_path / "data.zip", "w") as archive:
        for file in sorted(other.rglob("*.png")):
            archive.write(file, file.relative_to(tmp_path / "else"))  # with a folder around it
    assert fingerprint(one) == fingerprint(other) == fingerprint(tmp_path / "data.zip")
    (other / "val/cat/2.png").write_bytes(b"val/cat/3.png")
    assert fingerprint(one) != fingerprint(other)
    (other / "val/cat/2.png").write_bytes(b"val/cat/2.png")
    assert fingerprint(one) == fingerprint(other)
    (other / "val/cat/2.png").rename(other / "val/cat/3.png")
    assert fingerprint(one) != fingerprint(other)
