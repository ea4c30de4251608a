"""The library of operators and the command that lists what there is."""

from __future__ import annotations

import json

import pytest

from nasdsl.cli import main
from nasdsl.compiler import ops, syntax
from nasdsl.compiler.bind import library
from nasdsl.compiler.parse import parse
from nasdsl.compiler.source import Source
from nasdsl.compiler.unparse import unparse


def test_the_table_of_the_library_is_what_its_files_hold() -> None:
    """Every name that is offered is there and explained; no operator is both in the catalogue and in the library."""
    assert {path.stem for path in library.FOLDER.glob("*.space")} == set(library.FILES)
    for file, names in library.FILES.items():
        items = parse(Source((library.FOLDER / f"{file}.space").read_text(encoding="utf-8"))).items
        assert set(names) <= {item.name.name for item in items if isinstance(item, syntax.Operator)}
        for name in names:
            assert library.texts()[name].name.name == name
            assert library.texts()[name].span.comment, name
            assert name not in ops.CATALOGUE


@pytest.mark.parametrize("file", library.FILES)
def test_the_layout_of_the_library_is_canonical(file: str) -> None:
    text = (library.FOLDER / f"{file}.space").read_text(encoding="utf-8")
    assert unparse(parse(Source(text, file))) == text


def test_all_operators_are_listed_and_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["operators"]) == 0
    listed = capsys.readouterr().out
    names = [*ops.CATALOGUE, *library.OPERATORS]
    for name in names:
        assert f"\n  {name} " in listed
    assert main(["operators", *names]) == 0
    told = capsys.readouterr().out
    assert "operator bottleneck(" in told
    assert "conv(out, kernel = 1" in told
    assert main(["operators", "conv", "resnet", "--format", "json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["conv"]["parameters"][0]["name"] == "out"
    assert data["resnet"]["where"] == "library"
    assert data["resnet"]["parameters"][0]["name"] == "depth"


def test_a_name_that_is_no_operator(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["operators", "bottelneck"]) == 1
    assert "did you mean `bottleneck`?" in capsys.readouterr().err
