"""The shape of the code base: which folders ship, which module may import which, what a wheel holds."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import networkx as nx
import pytest

ROOT = Path(__file__).resolve().parents[1]
SETUPTOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]

# Each folder at the top is one layer; a module imports from its own layer and from those before it.
FOLDERS = {"nasdsl.spaces": "spaces", "nasdsl.compiler": "compiler", "nasdsl.runtime": "runtime", "nasdsl": "nasdsl"}
LAYERS = tuple(FOLDERS)

# Where torch modules are made, or gradients, so where `import torch` may stand at the top.
MAKES_MODULES = (
    "nasdsl.compiler.supernet",
    "nasdsl.compiler.relaxed",
    "nasdsl.compiler.gates",
    "nasdsl.compiler.odds",
    "nasdsl.compiler.layers",
    "nasdsl.compiler.slices",
)


@cache
def modules() -> dict[str, Path]:
    """Every module of the package, by its full name."""
    found = {}
    for package, folder in FOLDERS.items():
        for file in (ROOT / folder).rglob("*.py"):  # rglob does not enter the links, so no file comes twice
            parts = file.relative_to(ROOT / folder).with_suffix("").parts
            name = ".".join((package, *parts)).removesuffix(".__init__")
            found[name] = file
    return found


@cache
def tree(name: str) -> ast.Module:
    return ast.parse(modules()[name].read_text(encoding="utf-8"), filename=name)


def imports(name: str) -> Iterator[tuple[str, int]]:
    """The package's own modules that `name` imports, anywhere in its text, with the line."""
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Import):
            wanted = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            wanted = [module if module in modules() else node.module for module in inner]
        else:
            continue
        yield from ((module, node.lineno) for module in wanted if module in modules())


def layer(module: str) -> str:
    return next(package for package in LAYERS if module == package or module.startswith(f"{package}."))


def python(code: str) -> str:
    """What a fresh interpreter prints for `code`."""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_listed_packages_are_the_folders_with_an_init() -> None:
    packages = {name for name, file in modules().items() if file.name == "__init__.py"}
    assert sorted(SETUPTOOLS["packages"]) == sorted(packages)
    assert SETUPTOOLS["package-dir"] == FOLDERS


def test_every_module_is_inside_a_package() -> None:
    astray = [name for name, file in modules().items() if not (file.parent / "__init__.py").exists()]
    assert not astray, "a folder without an __init__.py does not ship"


@pytest.mark.parametrize("folder", ["compiler", "runtime", "spaces"])
def test_the_links_lead_to_the_folders_beside(folder: str) -> None:
    link = ROOT / "nasdsl" / folder
    if not link.is_symlink():
        pytest.skip("this checkout has no symbolic links")
    assert link.resolve() == ROOT / folder


def test_imports_point_one_way() -> None:
    wrong = [
        f"{name}:{line} imports {module}"
        for name in modules()
        for module, line in imports(name)
        if LAYERS.index(layer(module)) > LAYERS.index(layer(name))
    ]
    assert not wrong, f"the order of the layers is {', '.join(LAYERS)}"


def test_no_import_cycles() -> None:
    graph = nx.DiGraph((name, module) for name in modules() for module, _ in imports(name))
    knots = [sorted(knot) for knot in nx.strongly_connected_components(graph) if len(knot) > 1]
    assert not knots, "modules that need each other hide a third one between them"


def test_imports_are_absolute() -> None:
    wrong = [
        f"{name}:{node.lineno}"
        for name in modules()
        for node in ast.walk(tree(name))
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert not wrong


def test_the_compiler_answers_without_torch() -> None:
    names = [
        name for name in sorted(modules()) if layer(name) == "nasdsl.compiler" and not name.startswith(MAKES_MODULES)
    ]
    code = f"""
import importlib, sys
for name in {[*names, "nasdsl", "nasdsl.cli"]!r}:
    importlib.import_module(name)
    if "torch" in sys.modules:
        print(name)
        break
"""
    assert not python(code), "importing this module imports torch"


def test_the_public_names_are_exact() -> None:
    import nasdsl

    bound = set()
    for node in ast.walk(tree("nasdsl")):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "nasdsl":
            bound |= {alias.asname or alias.name for alias in node.names}
    for node in tree("nasdsl").body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            bound.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            bound |= {target.id for target in targets if isinstance(target, ast.Name)}
    public = {name for name in bound if not name.startswith("_")}
    listed = list(nasdsl.__all__)
    assert len(listed) == len(set(listed))
    assert public <= set(listed), "public names that __all__ does not list"
    missing = [name for name in listed if not hasattr(nasdsl, name)]
    assert not missing, "names in __all__ that do not exist"


@pytest.mark.slow
def test_the_wheel_holds_what_running_needs(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for folder in FOLDERS.values():
        shutil.copytree(ROOT / folder, source / folder, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source / file)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    done = subprocess.run([*build, "-w", tmp_path, source], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    wanted = set()
    for package, folder in FOLDERS.items():
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and path.suffix not in (".pyc", ".md"):
                wanted.add(f"{package.replace('.', '/')}/{path.relative_to(ROOT / folder).as_posix()}")
    assert {"nasdsl/py.typed", "nasdsl/compiler/grammar.lark"} <= wanted
    assert held == wanted


def test_each_message_of_the_front_end_stands_once():
    """Where two places say the same they call one function."""
    found: dict[str, list[str]] = {}
    for path in [*(ROOT / "compiler" / "bind").glob("*.py"), *(ROOT / "compiler" / "elaborate").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and called(node) in ("error", "Diagnostic", "report") and len(node.args) > 1:
                message = template(node.args[1])
                if message:
                    found.setdefault(message, []).append(f"{path.name}:{node.lineno}")
    assert len(found) > 100
    assert {message: places for message, places in found.items() if len(places) > 1} == {}


def called(node):
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def template(node):
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
    return ""
