"""Packages that an extra brings: the table of them is whole, and a command that lacks one says what to install."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nasdsl.compiler.extras import CORE, PACKAGES, advice, is_there
from tests.test_predict import data_of, trained, write_images

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("compiler", "runtime", "nasdsl", "spaces")
OURS = ("nasdsl", *FOLDERS)
ALWAYS = {*CORE, "torch"}


def names(requirements: list[str]) -> set[str]:
    """What the packages are called."""
    return {re.split(r"[\[<>=!~ ]", one)[0].lower() for one in requirements if not one.startswith("nasdsl[")}


def project() -> dict[str, list[str]]:
    """Requirements by extra; those of all under no name."""
    told = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return {"": told["dependencies"], **told["optional-dependencies"]}


def imported() -> set[str]:
    """Packages of others that any module imports, wherever in it."""
    found: set[str] = set()
    for folder in FOLDERS:
        for file in (ROOT / folder).rglob("*.py"):
            if any(part.is_symlink() for part in file.parents):
                continue
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Import):
                    found |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and not node.level:
                    found.add((node.module or "").partition(".")[0])
    return {name for name in found if name not in sys.stdlib_module_names and name not in OURS}


def test_every_package_is_of_the_core_or_of_an_extra() -> None:
    assert imported() <= ALWAYS | set(PACKAGES), imported() - ALWAYS - set(PACKAGES)


def test_the_table_says_what_the_project_says() -> None:
    wanted = project()
    assert names(wanted[""]) == ALWAYS
    for extra in dict.fromkeys(extra for extra, _ in PACKAGES.values()):
        told = {package for own, package in PACKAGES.values() if own == extra}
        assert told <= names(wanted[extra]), extra
        assert names(wanted[extra]) - told <= {"safetensors"}, extra  # of two extras, and told with the first
    assert {f"nasdsl[{extra}]" for extra in ("all", "docs")} <= {
        f"nasdsl[{one}]" for text in wanted["dev"] if text.startswith("nasdsl[") for one in text[7:-1].split(",")
    }


def test_what_to_install() -> None:
    assert all(is_there(module) for module in PACKAGES)
    assert advice("optuna") == "pip install 'nasdsl[search]'"
    assert advice("onnxruntime", "export") == "pip install 'nasdsl[onnx]'"


@pytest.fixture(scope="module")
def without(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., tuple[int, str]]]:
    """Runs a command where some packages are not installed; beside it lie a trained network and images."""
    folder = tmp_path_factory.mktemp("without")
    trained("classification", folder, data_of("classification", folder / "data"))
    write_images(folder / "photos")
    command = [sys.executable, str(ROOT / "tests" / "without.py"), str(folder)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None and server.stdout is not None
        asked, answered = server.stdin, server.stdout

        def run(hidden: list[str], text: str) -> tuple[int, str]:
            asked.write(json.dumps([hidden, text.split()]) + "\n")
            asked.flush()
            told = json.loads(answered.readline())
            return told["code"], told["said"]

        yield run
        server.stdin.close()


CORE_COMMANDS = (
    "check tiny found.space",
    "compile tiny",
    "count tiny",
    "cost tiny",
    "sample tiny -n 2",
    "draw tiny -o tiny.dot",
    "expand found.space -D classes=3",
    "pin tiny stage[0].block.mixconv.hidden[3]=0..2 -o smaller.space",
    "diff tiny tiny",
    "operators",
    "fmt --stdout found.space",
    "check found.safetensors",
)


@pytest.mark.parametrize("command", CORE_COMMANDS)
def test_core_commands_need_no_extra(command: str, without: Callable[..., tuple[int, str]]) -> None:
    code, said = without(list(PACKAGES), command)
    assert code == 0, said


@pytest.mark.parametrize(
    ("command", "extras"),
    [
        ("search tiny --out x.space", "search,vision"),
        ("train found.space -D classes=3", "search,vision"),
        ("eval found.space --data data", "search,vision"),
        ("predict found.safetensors photos -o out", "search,vision"),
        ("demo", "search,vision"),
        ("trials runs/x", "search"),
        ("report runs/x", "search"),
        ("export found.safetensors -o x.py", "search"),
        ("export found.safetensors --to onnx -o x.onnx", "search"),
    ],
)
def test_others_say_what_to_install(command: str, extras: str, without: Callable[..., tuple[int, str]]) -> None:
    code, said = without(list(PACKAGES), command)
    assert code == 1 and f"pip install 'nasdsl[{extras}]'" in said, said
    assert len(said.strip().splitlines()) <= 4 and "internal" not in said


@pytest.mark.parametrize(
    ("module", "command", "extra"),
    [
        ("lightning_fabric", "eval found.space --data data", "search"),
        pytest.param("moocore", "report runs/x", "search", marks=pytest.mark.long),
        ("optuna", "trials runs/x", "search"),
        ("rich", "train found.space -D classes=3", "search"),
        ("safetensors", "export found.safetensors -o x.py", "search"),
        pytest.param("scipy", "search tiny --runtime evolve --out x.space", "search", marks=pytest.mark.long),
        pytest.param("sqlalchemy", "trials runs/x", "search", marks=pytest.mark.long),
        pytest.param("torchmetrics", "eval found.space --data data", "search", marks=pytest.mark.long),
        ("PIL", "predict found.safetensors photos -o out", "vision"),
        ("onnx", "export found.safetensors --to onnx -o x.onnx", "onnx"),
        ("onnxruntime", "export found.safetensors --to onnx -o x.onnx", "onnx"),
        ("onnxscript", "export found.safetensors --to onnx -o x.onnx", "onnx"),
    ],
)
def test_a_single_package_that_is_missing(
    module: str, command: str, extra: str, without: Callable[..., tuple[int, str]]
) -> None:
    code, said = without([module], command)
    assert code == 1 and f"`{module}`" in said and f"pip install 'nasdsl[{extra}]'" in said, said
