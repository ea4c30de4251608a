"""What a file may use: files beside it, spaces that ship, those of installed packages, and some of a file by name."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from nasdsl.compiler.bind import library
from nasdsl.compiler.count import count
from nasdsl.compiler.diagnostics import CompileError, NasdslError
from nasdsl.compiler.meaning import meaning
from nasdsl.compiler.parse import parse, read
from nasdsl.compiler.pipeline import elaborate
from nasdsl.compiler.source import Source
from nasdsl.compiler.space import Space

BLOCKS = """
let wide(n) = 2 * n

operator inner(out) { conv(wide(out), kernel: oneof(3, 5)) }

operator block(out) { inner(out), conv(out) }

operator other() { conv(1) }

space home {
  param size = 4
  input 3 x 8 x 8
  operator free(out) { block(out), relu() }
  operator bound() { conv(size) }
  network { free(8), bound(), classify(2) }
}
"""


def made(folder: Path, text: str) -> Space:
    path = folder / "own.space"
    path.write_text(text)
    return elaborate(read(path))


def own(use: str, steps: str) -> str:
    return f"{use}\nspace own {{\n  input 3 x 8 x 8\n  network {{ {steps}, classify(2) }}\n}}\n"


def test_a_space_that_ships_is_used_from_anywhere(tmp_path: Path) -> None:
    space = made(tmp_path, 'use "nasbench201.space"\nspace own = nasbench201 with {}\n')
    assert count(space.graph).total == 5**6


def test_a_file_beside_goes_before_one_that_ships(tmp_path: Path) -> None:
    (tmp_path / "tiny.space").write_text("operator mine() { conv(oneof(1, 2, 3)) }\n")
    assert count(made(tmp_path, own('use "tiny.space"', "mine()")).graph).total == 3


def test_some_of_a_file_comes_with_what_it_is_made_of(tmp_path: Path) -> None:
    """Under the names alone that are asked for: `other` may be the file's own."""
    (tmp_path / "blocks.space").write_text(BLOCKS)
    text = own('use "blocks.space" { free }\noperator other() { conv(oneof(2, 3)) }', "free(4), other()")
    space = made(tmp_path, text)
    assert count(space.graph).total == 2 * 2
    assert next(node for node in space.graph.operators()).shape.channels == 8
    assert "space `own`" not in str(space.sources)
    with pytest.raises(CompileError, match="no space named `home`"):
        made(tmp_path, 'use "blocks.space" { block }\nspace own = home with {}\n')


def test_a_space_by_name_comes_whole(tmp_path: Path) -> None:
    (tmp_path / "blocks.space").write_text(BLOCKS)
    assert count(made(tmp_path, 'use "blocks.space" { home }\nspace own = home with { size: 8 }\n').graph).total == 2


@pytest.mark.parametrize(
    ("use", "message"),
    [
        ('use "blocks.space" { blok }', "`blocks.space` declares no `blok`"),
        ('use "blocks.space" { bound }', "`bound` cannot be used alone: it uses `size` of the space `home`"),
        ('use "blcks.space"', "there is no file `blcks.space` beside this one, none that ships, and none of an"),
        ('use "nowhere/blocks.space"', "there is no file `nowhere/blocks.space` beside this one"),
        ('use "two.space" { free }', "several spaces of `two.space` have an operator `free`"),
    ],
)
def test_what_is_not_there_is_told(tmp_path: Path, use: str, message: str) -> None:
    (tmp_path / "blocks.space").write_text(BLOCKS)
    spaces = (f"space {name} {{ operator free() {{ conv(1) }}\n network {{ free() }} }}\n" for name in "ab")
    (tmp_path / "two.space").write_text("".join(spaces))
    with pytest.raises(CompileError) as caught:
        made(tmp_path, own(use, "conv(1)"))
    assert message in str(caught.value)


def package(folder: Path, target: str) -> None:
    """An installed package that names its folder of spaces."""
    info = folder / "acme-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[nasdsl.spaces]\nacme = {target}\n")


def test_a_package_offers_spaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its code is not run."""
    site = tmp_path / "site"
    (site / "acme_nas").mkdir(parents=True)
    (site / "acme_nas" / "__init__.py").write_text("raise SystemExit\n")
    (site / "acme_nas" / "blocks.space").write_text(BLOCKS)
    package(site, "acme_nas")
    monkeypatch.setattr(sys, "path", [str(site), *sys.path])
    space = made(tmp_path, own('use "acme/blocks.space" { block }', "block(4)"))
    assert count(space.graph).total == 2
    with pytest.raises(CompileError, match=r"there is no file `acme/nothing\.space`"):
        made(tmp_path, own('use "acme/nothing.space"', "conv(1)"))


def test_a_package_without_its_folder_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package(tmp_path, "acme_lost")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    with pytest.raises(NasdslError, match="there is no such package"):
        made(tmp_path, own('use "acme/blocks.space"', "conv(1)"))


def test_what_a_file_means_hangs_on_what_it_uses_of_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    used = parse(Source(own("", "resnet_stage(8, blocks: 1)")))
    plain = parse(Source(own("", "conv(8)")))
    before = meaning(used), meaning(plain)
    file = library.OPERATORS["resnet_stage"]
    more = parse(Source("operator more() { conv(1) }")).items
    texts = {name: library.items_of(name) for name in library.FILES}
    monkeypatch.setattr(library, "items_of", lambda name: texts[name] + (more if name == file else ()))
    assert meaning(used) != before[0] and meaning(plain) == before[1]
