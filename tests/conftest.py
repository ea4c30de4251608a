"""What every test shares: quiet threads, data outside the checkout, expected files that one option renews."""

from __future__ import annotations

import difflib
import gc
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from nasdsl import spaces
from tests.forks import Forks

ROOT = Path(__file__).resolve().parents[1]

# Before anything imports torch or numpy, and for the processes that tests start: one thread each, and no spinning.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# Whole spaces stay in memory for later tests: looking through them for garbage took a third of the time.
gc.set_threshold(100_000, 50, 100)

settings.register_profile("default", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ci" if os.environ.get("CI") else "default")


# Of each space that ships, the word that it begins with; of that word, itself.
SPACES = {name: word for file in spaces.names() for word in [file.partition("_")[0]] for name in (file, word)}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--golden", action="store_true", help="rewrite the expected files instead of comparing with them")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for marker, why in (("long", "takes long"), ("docs", "a page of the documentation")):
        variable = f"NASDSL_{marker.upper()}"
        for item in items:
            if item.get_closest_marker(marker) and not os.environ.get(variable):
                item.add_marker(pytest.mark.skip(reason=f"{why}: {variable}=1"))
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(group_of(item)))
    needs_gpu = [item for item in items if item.get_closest_marker("gpu")]
    if not needs_gpu:
        return
    import torch

    if not torch.cuda.is_available():
        for item in needs_gpu:
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


def group_of(item: pytest.Item) -> str:
    """Where tests run in several processes, those of a group run in one: of a file, which may share a search that took
    long, or of spaces that ship and begin with the same word, which are elaborated once."""
    file = item.path.stem.removeprefix("test_")
    given = item.callspec.params.values() if hasattr(item, "callspec") else ()
    names = [value for value in given if isinstance(value, str) and value in SPACES]
    return next((SPACES[name] for name in [*names, file] if name in SPACES), file)


@pytest.fixture(autouse=True)
def _one_torch_thread() -> None:
    """Tests run side by side, so each keeps to one core; torch is not imported for the sake of it."""
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(1)


@pytest.fixture
def bars(monkeypatch: pytest.MonkeyPatch) -> None:
    """Searches read bars in noise, whatever data they are given."""
    from nasdsl.runtime import search
    from tests.test_search import small_data

    monkeypatch.setattr(search, "open_data", small_data)


@pytest.fixture(scope="session")
def forks() -> Iterator[Forks]:
    """Runs commands and scripts in processes of their own that need not import anything."""
    with Forks() as forks:
        yield forks


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of larger data sets beside the checkout; tests that want it skip where it is absent."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no larger data sets beside the checkout ({folder})")
    return folder


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[Path, str], None]:
    """`golden(path, text)`: the file at `path` holds exactly `text`. With `--golden` it is written instead."""

    def compare(path: Path, text: str) -> None:
        if request.config.getoption("--golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists() or path.read_text(encoding="utf-8") != text:
                path.write_text(text, encoding="utf-8")
            return
        if not path.exists():
            pytest.fail(f"{path.name} does not exist; `make golden` writes it")
        expected = path.read_text(encoding="utf-8")
        if text != expected:
            lines = difflib.unified_diff(expected.splitlines(), text.splitlines(), path.name, "now", lineterm="")
            pytest.fail("\n".join([*lines, "if this is meant: `make golden`"]), pytrace=False)

    return compare
