"""A language for neural-architecture search spaces, with a compiler and search runtimes.

    space = nasdsl.load("spaces/hrnas.space", classes=10)
    print(nasdsl.count(space))
    for architecture in nasdsl.sample(space, 3, seed=0):
        print(nasdsl.cost(space, architecture))
    network = nasdsl.supernet(space)  # an ordinary torch module

Importing the package is quick: each function imports what it needs when it is called.
"""

from __future__ import annotations

import importlib as _importlib
from collections.abc import Sequence as _Sequence
from pathlib import Path as _Path
from typing import TYPE_CHECKING
from typing import Any as _Any

from nasdsl.compiler import notebook as _notebook

if TYPE_CHECKING:
    import networkx as _networkx

    from nasdsl.api.exporting import Exported, export
    from nasdsl.api.looping import Draws, draws, recalibrate
    from nasdsl.api.predicting import Numbers, Prediction, Predictions, predict
    from nasdsl.api.reporting import Report, report
    from nasdsl.api.searching import Found, search
    from nasdsl.api.studying import Study, study
    from nasdsl.api.training import Trained, evaluate, train
    from nasdsl.compiler.architecture import Architecture, ArchitectureError, Values
    from nasdsl.compiler.count import Count
    from nasdsl.compiler.diagnostics import CompileError, Diagnostic, NasdslError
    from nasdsl.compiler.population import Population
    from nasdsl.compiler.space import Space
    from nasdsl.compiler.supernet import Supernet
    from nasdsl.progress import Bars
    from nasdsl.runtime.data import Data
    from nasdsl.runtime.evolution.trial import Trial
    from nasdsl.runtime.watch import Progress

__all__ = [
    "Architecture",
    "ArchitectureError",
    "Bars",
    "CompileError",
    "Count",
    "Data",
    "Diagnostic",
    "Draws",
    "Exported",
    "Found",
    "NasdslError",
    "Numbers",
    "Population",
    "Prediction",
    "Predictions",
    "Progress",
    "Report",
    "Space",
    "Study",
    "Supernet",
    "Trained",
    "Trial",
    "Values",
    "__version__",
    "cost",
    "cost_range",
    "count",
    "draw",
    "draws",
    "evaluate",
    "expand",
    "export",
    "graph",
    "load",
    "loads",
    "measured",
    "pin",
    "population",
    "predict",
    "recalibrate",
    "report",
    "sample",
    "save",
    "search",
    "study",
    "supernet",
    "train",
]

_MODULES = {
    "Architecture": "compiler.architecture",
    "ArchitectureError": "compiler.architecture",
    "Bars": "progress",
    "CompileError": "compiler.diagnostics",
    "Count": "compiler.count",
    "Data": "runtime.data",
    "Diagnostic": "compiler.diagnostics",
    "Draws": "api.looping",
    "Exported": "api.exporting",
    "Found": "api.searching",
    "NasdslError": "compiler.diagnostics",
    "Numbers": "api.predicting",
    "Population": "compiler.population",
    "Prediction": "api.predicting",
    "Predictions": "api.predicting",
    "Progress": "runtime.watch",
    "Report": "api.reporting",
    "Space": "compiler.space",
    "Study": "api.studying",
    "Supernet": "compiler.supernet",
    "Trained": "api.training",
    "Trial": "runtime.evolution.trial",
    "Values": "compiler.architecture",
    "draws": "api.looping",
    "evaluate": "api.training",
    "export": "api.exporting",
    "predict": "api.predicting",
    "recalibrate": "api.looping",
    "report": "api.reporting",
    "search": "api.searching",
    "study": "api.studying",
    "train": "api.training",
}


def __getattr__(name: str) -> _Any:
    """Classes, and the jobs that take a while, on first use: their modules would make every import of the package
    slower."""
    if name in _MODULES:
        return getattr(_importlib.import_module(f"nasdsl.{_MODULES[name]}"), name)
    if name == "__version__":
        from nasdsl.compiler.version import version as _version

        return _version()
    raise AttributeError(f"module `nasdsl` has no attribute `{name}`")


def _paint(value: _Any) -> str:
    from nasdsl.notebook import paint as _paint_it

    return _paint_it(value)


_notebook.painter = _paint


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


# --- Spaces -----------------------------------------------------------------------------------------------------------


def load(path: str | _Path, space: str | None = None, **params: _Any) -> Space:
    """The space of a file, checked as a whole.

    Args:
        path: a `.space` file, or the name of one that ships with the package, such as `"tiny"`.
        space: which of the file's spaces; the first where it is left out.
        params: values for the space's parameters: numbers, truth values, lists of these, or text in the language.

    Raises:
        CompileError: with a diagnostic for every mistake in the file.
    """
    from nasdsl.compiler.pipeline import elaborate as _elaborate
    from nasdsl.files import source_of as _source_of

    return _elaborate(_source_of(str(path)), space, {name: _text(value) for name, value in params.items()})


def loads(text: str, space: str | None = None, **params: _Any) -> Space:
    """The space of a text; `use "..."` in it is resolved in the present folder. Otherwise as `load`."""
    from nasdsl.compiler.pipeline import elaborate as _elaborate
    from nasdsl.compiler.source import Source as _Source

    return _elaborate(_Source(text), space, {name: _text(value) for name, value in params.items()})


def _text(value: _Any) -> str:
    """A parameter's value in the language."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_text, value)) + "]"
    return str(value)


def pin(space: Space, values: Values) -> Space:
    """The smaller space in which some decisions have values; an architecture where all have.

    Args:
        values: by path, such as `{"stage.depth": 2, "op": "conv", "inputs": ["a", "b"]}`; search units as a list of the
            kept ones or as `"0..11, 14"`. Or an `Architecture`.

    Raises:
        ArchitectureError: a path that no decision has, a value that a decision does not take, or values with which a
            requirement or a budget cannot hold.
    """
    from nasdsl.compiler.decide import decide as _decide

    return _decide(space, values)


def save(space: Space, values: Values | None, path: str | _Path, name: str = "found", note: str = "") -> None:
    """Writes a result file: the space, named by its file and content, with its decisions set to values. The text of a
    space that was made by `loads` is written beside it, as `NAME.space`.

    Args:
        values: an architecture, or its values by path; None writes a space that was made smaller by `pin` as it is.
        name: of the space in the new file.
        note: a comment above it.

    Raises:
        ArchitectureError: as `pin`, and a decision without a value.
        ArgumentError: the name is no word, or beside the file lies another one that has the name of the space.
    """
    from nasdsl.compiler.architecture import Architecture as _Architecture
    from nasdsl.compiler.as_file import as_file as _as_file
    from nasdsl.compiler.as_file import write_source as _write_source
    from nasdsl.compiler.decide import decide as _decide
    from nasdsl.compiler.diagnostics import ArgumentError as _ArgumentError
    from nasdsl.compiler.tokens import is_name as _is_name
    from nasdsl.compiler.write import write_pinned as _write_pinned

    if not _is_name(name):
        raise _ArgumentError(f"a space's name is a word, and `{name}` is none")
    space = _as_file(space, _Path(path).parent)
    architecture = None if values is None else _Architecture.of(space, values)
    if architecture is not None:
        _decide(space, architecture)  # refuses what the file's reader would
    _write_source(space)
    _write_pinned(_Path(path), space, architecture, name, note)


def expand(space: Space) -> str:
    """The text of an architecture, every layer written out.

    Raises:
        ArgumentError: the space still has decisions.
    """
    from nasdsl.compiler.write import expanded as _expanded

    return _expanded(space)


def draw(space: Space, path: str | _Path | None = None, level: str = "module", opened: _Sequence[str] = ()) -> str:
    """A picture of a space or an architecture, as graphviz text; with a path it is also rendered (svg, pdf, png, dot),
    or the graph itself is written (graphml, json).

    Args:
        level: `module`, which a page holds: choices between modules are closed, equal copies and cells that are decided
            once are drawn once; `block`, a node for each use of one of the file's operators, or `operator`, a node for
            each layer.
        opened: paths or decisions of closed choices whose options are to be drawn, or names of cells that are to be
            drawn where they are used.

    Raises:
        ArgumentError: a level that there isn't, or a name that opens nothing.
    """
    from nasdsl.drawing.dot import to_dot as _to_dot
    from nasdsl.drawing.render import render as _render

    if path is not None:
        _render(space, _Path(path), level, opened)
    return _to_dot(space, level, opened)


def graph(space: Space) -> _networkx.MultiDiGraph[str]:
    """The graph of a space or an architecture as a `networkx.MultiDiGraph`: a node for each tensor, by its path; an
    edge to each node that reads it. All attributes are texts and numbers, so networkx's writers take it as it is:
    `networkx.write_graphml(nasdsl.graph(space), "tiny.graphml")`.

    `docs/api/graph.md` lists the attributes, as does `nasdsl.compiler.as_networkx.as_networkx`. Nodes have `kind`,
    `operator`, `label`, `inside`, `shape`, `channels`, `height`, `width`, `scale`, `decisions`, `present`,
    `parameters`, `weight`, `macs` and `params`, numbers that hang on decisions as `macs_least` and `macs_most`; edges
    have `input` and `when`; the graph has `name`, `input`, `outputs`, `decisions` and `requirements`.
    """
    from nasdsl.compiler.as_networkx import as_networkx as _as_networkx

    return _as_networkx(space)


# --- What holds for all architectures ---------------------------------------------------------------------------------


def count(space: Space) -> Count:
    """The number of architectures, exactly (`.total`), and its factors (`.factors`)."""
    from nasdsl.compiler.count import count as _count

    return _count(space.graph)


def measured(space: Space, **files: str | _Path) -> Space:
    """The space with measures that are read from files: `measured(space, latency="table.json")`, as `nasdsl profile`
    makes it. Budgets on them can then be counted and drawn from.

    Raises:
        CompileError: a file cannot be read or does not fit the space, or no architecture meets a budget on its measure.
        ArgumentError: there is no such measure, or it is known without a file.
    """
    from nasdsl.compiler.measured import measured as _measured

    return _measured(space, {name: _Path(file) for name, file in files.items()})


def cost(
    space: Space, architecture: Values | None = None, measures: _Sequence[str] = ("macs", "params")
) -> dict[str, _Any]:
    """What an architecture costs, such as `{"macs": 732480, "params": 21890}`.

    Args:
        architecture: or its values by path; left out where the space has no decision left.
        measures: by name: `macs`, `flops`, `params`, `memory` (bytes of the activations that training keeps of one
            image), `access` (numbers read and written), `latency` (milliseconds by the table that `measured` was
            given), or what other packages offer. Whole numbers, but for a latency.

    Raises:
        ArchitectureError: values that are no architecture of the space.
        ArgumentError: there is no such measure.
        MissingTable: one is read from a file, and `measured` was not given any.
    """
    from nasdsl.compiler.architecture import Architecture as _Architecture
    from nasdsl.compiler.cost import cost_of as _cost_of

    values = _Architecture.of(space, {} if architecture is None else architecture).indices
    return _cost_of(space.graph, values, names=measures)


def cost_range(space: Space, measures: _Sequence[str] = ("macs", "params")) -> dict[str, tuple[_Any, _Any]]:
    """The least and the greatest MACs and parameters of a space, or other measures, exactly; budgets are not applied.

    Raises:
        ArgumentError, MissingTable: as `cost`.
    """
    from nasdsl.compiler.population import eliminated as _eliminated

    found = {name: _eliminated(space.graph, name) for name in measures}
    return {name: (low.cost, high.cost) for name, (low, high) in found.items()}


def sample(space: Space, n: int = 1, seed: int = 0) -> list[Architecture]:
    """Random architectures, each as likely as any other that meets all requirements, budgets too.

    The same seed gives the same ones everywhere. For many at once, `population` has arrays.

    Raises:
        Infeasible: no architecture meets them.
    """
    from nasdsl.compiler.sample import sample as _sample

    if any(requirement.origin == "budget" for requirement in space.graph.requirements):
        everything = population(space)
        return everything.diagram.encoding.decode(everything.draw(n, seed))
    return _sample(space.graph, n, seed)


def population(space: Space, measures: _Sequence[str] = ("macs", "params")) -> Population:
    """All architectures of a space together: their number, distribution of costs and draws, as numpy arrays.

    Args:
        measures: the columns of its costs.

    Raises:
        Infeasible: there is no architecture.
    """
    from nasdsl.compiler.population import Population as _Population

    return _Population(space.graph, measures)


def supernet(space: Space) -> Supernet:
    """The torch module that holds the weights of every architecture; `.activate(architecture)` chooses one."""
    from nasdsl.compiler.supernet import Supernet as _Supernet

    return _Supernet(space.graph)
