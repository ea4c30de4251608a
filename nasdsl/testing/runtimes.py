"""What runtimes, ways of searching, are held to."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from nasdsl.api.given import DataLike, SpaceLike, options_of, space_like
from nasdsl.compiler.as_file import as_file
from nasdsl.compiler.cost import cost_of
from nasdsl.compiler.parse import read
from nasdsl.compiler.pipeline import elaborate
from nasdsl.runtime.problem import Exploration, Narrowing, Result, Strategy
from nasdsl.runtime.search import Found, search_space
from nasdsl.runtime.strategies import find_strategies
from nasdsl.runtime.watch import Progress, watching
from nasdsl.testing.contract import offering, require


class _Stopped(BaseException):
    """As an interrupt of the user's: no search catches it."""


def check_runtime(
    strategy: type[Strategy],
    space: SpaceLike,
    data: DataLike = None,
    *,
    settings: Mapping[str, Any] | None = None,
    stop: float = 0.5,
) -> None:
    """Holds a way of searching to its word with a small space: it ends with an architecture, a shorter space or trials
    that can be written and read back, with costs, and metrics where it measures; the same seed gives the same; and a
    run that is interrupted goes on and gives the same.

    Args:
        space: that it can search.
        data: what networks learn from; left out, what ships for the task.
        settings: of the search, which make it short.
        stop: after which share of its steps it is interrupted; 0 leaves that out.

    Raises:
        ContractError: something does not hold.
    """
    name = strategy.name
    require(hasattr(strategy, "settings"), f"`{name}` has no `settings`")
    known = find_strategies().get(name)
    if known is strategy:
        _check(strategy, space, data, settings, stop)
        return
    with offering("nasdsl.runtimes", **{name: strategy}):
        _check(strategy, space, data, settings, stop)


def _check(
    strategy: type[Strategy], space: SpaceLike, data: DataLike, settings: Mapping[str, Any] | None, stop: float
) -> None:
    name, given = strategy.name, space_like(space)
    refused = [one.path for one in given.graph.decisions.values() if not strategy.handles(one)]
    require(not refused, f"`{name}` cannot decide `{refused[0] if refused else ''}`")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        placed = as_file(given, folder)

        def run(word: str, on_progress: Any = None) -> Found:
            how = options_of(data, dict(settings or {}), run=folder / word, seed=2, device="cpu")
            return search_space(placed, folder / f"{word}.space", how, name, watching(on_progress))

        steps: list[Progress] = []
        first = run("first", steps.append)
        _check_result(name, first)
        _check_same(f"`{name}` with the same seed", folder, "first", run("second"), "second")
        total = sum(one.kind == "step" for one in steps)
        if not stop or total < 2:
            return
        seen = 0

        def stopping(progress: Progress) -> None:
            nonlocal seen
            seen += progress.kind == "step"
            if seen == max(1, round(stop * total)):
                raise _Stopped

        try:
            run("third", stopping)
        except _Stopped:
            pass
        _check_same(f"`{name}`, interrupted and gone on with,", folder, "first", run("third"), "third")


def _check_result(name: str, found: Found) -> None:
    result = found.result
    out = found.files[0]
    made = elaborate(read(out))
    if isinstance(result, Narrowing):
        require(result.narrowed, f"`{name}` shortens nothing")
        return
    require(not made.graph.decisions, f"`{name}` leaves decisions open in {out.name}")
    if isinstance(result, Exploration):
        require(result.trials and result.front, f"`{name}` has no complete trial")
        return
    require(isinstance(result, Result), f"`{name}` gives a {type(result).__name__}")
    require(found.weights, f"`{name}` writes no weights")
    costs = cost_of(found.space.graph, result.architecture.indices)
    told = {key: int(result.costs[key]) for key in ("macs", "params")}
    require(told == costs, f"`{name}` says that its architecture costs {told}, and it costs {costs}")
    params = sum(p.numel() for p in result.network.parameters())
    require(
        params == costs["params"], f"the network of `{name}` has {params:,} parameters, and not {costs['params']:,}"
    )
    if found.learning is not None:
        headline = found.learning.task.headline
        require(headline in result.metrics, f"`{name}` does not measure `{headline}`")


def _check_same(where: str, folder: Path, one: str, other: Found, word: str) -> None:
    texts = [(folder / f"{name}.space").read_text(encoding="utf-8").replace(name, "NAME") for name in (one, word)]
    require(texts[0] == texts[1], f"{where} finds another architecture")
    files = [folder / f"{name}.safetensors" for name in (one, word)]
    if not other.weights:
        return
    from nasdsl.runtime.checkpoint import load_weights

    first, second = (load_weights(file)[0] for file in files)
    same = first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)
    require(same, f"{where} finds other weights")
