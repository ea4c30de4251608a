"""What evaluators of `search evolve` are held to."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from lightning_fabric import Fabric

from nasdsl.api.given import DataLike, SpaceLike, options_of
from nasdsl.compiler.cost import cost_of
from nasdsl.compiler.space import Space
from nasdsl.runtime.evaluators import find_evaluators
from nasdsl.runtime.evolution.candidates import Candidates
from nasdsl.runtime.evolution.evaluator import NamedEvaluator
from nasdsl.runtime.files import folder_of
from nasdsl.runtime.problem import Learning, Problem
from nasdsl.runtime.runs import RunFolder
from nasdsl.runtime.search import fit_to_data
from nasdsl.runtime.strategies.evolve import EvolveSearch, evolve_settings
from nasdsl.testing.contract import ContractError, offering, require
from nasdsl.testing.spaces import some_of, space_or_small


def check_evaluator(
    kind: type[NamedEvaluator],
    settings: Any,
    *,
    name: str | None = None,
    space: SpaceLike | None = None,
    data: DataLike = None,
    reads: str | Path | None = None,
) -> None:
    """Holds an evaluator to the protocol: settings of a file make it; the same seed gives the same finite metrics, its
    headline among them; what it offers as a pool are architectures of the space; a network that it gives is that of the
    architecture; and a search knows when a file that it reads has changed.

    Args:
        settings: as they stand behind its name in `search evolve { NAME: ... }`.
        name: by default that under which a package offers it.
        space: that it evaluates architectures of.
        data: what networks learn from, where it needs data; left out, what ships for the task.
        reads: a file that it reads; one byte is added to it. Without, it must not say that it reads any.

    Raises:
        ContractError: something does not hold.
    """
    found = find_evaluators()
    if name is None:
        name = next((one for one, other in found.items() if other is kind), kind.__name__.lower())
    if found.get(name) is kind:
        _check(kind, name, settings, space, data, reads)
        return
    with offering("nasdsl.evaluators", **{name: kind}):
        _check(kind, name, settings, space, data, reads)


def _check(
    kind: type[NamedEvaluator],
    name: str,
    given: Any,
    space: SpaceLike | None,
    data: DataLike,
    reads: str | Path | None,
) -> None:
    plain = space_or_small(space)
    settings = evolve_settings().model_validate({name: given, "maximise": "x"})
    ((_, own),) = settings.evaluators.items()
    needs = EvolveSearch.needs(settings, plain)
    require(needs.data == kind.needs_data, f"`{name}` needs data, or does not")
    problem = _problem(plain, kind.needs_data, data)
    evaluators = [kind.make(problem, own, ()) for _ in range(2)]
    some = some_of(problem.space)
    pool = evaluators[0].pool(Candidates(problem.space.graph).encoding)
    candidates = Candidates(problem.space.graph, pool=pool)
    if pool is not None:
        require(len(pool), f"`{name}` offers a pool of nothing")
        require(candidates.inside(pool).all(), f"`{name}` offers what is no architecture of the space")
        some = candidates.encoding.decode(pool)
    architecture = some[min(1, len(some) - 1)]
    first, second = (evaluator.evaluate(architecture, 3) for evaluator in evaluators)
    require(first, f"`{name}` gives no metric")
    require(first == second, f"`{name}` gives {first}, and with the same seed {second}")
    finite = all(type(value) is float and math.isfinite(value) for value in first.values())
    require(finite, f"`{name}` gives {first}, and metrics are finite numbers of the type `float`")
    headline = evaluators[0].headline
    require(headline is None or headline in first, f"the headline of `{name}` is `{headline}`, and it gives {first}")
    require(all(isinstance(line, str) for line in evaluators[0].told()), f"`{name}` tells what is no text")
    result = evaluators[0].result(architecture, {})
    if result is not None:
        require(result.architecture == architecture, f"`{name}` gives the network of another architecture")
        params = sum(p.numel() for p in result.network.parameters())
        wanted = cost_of(problem.space.graph, architecture.indices)["params"]
        require(params == wanted, f"`{name}` gives a network of {params:,} parameters, and it has {wanted:,}")
    if reads is None:
        require(not kind.contents(own, folder_of(plain)), f"`{name}` reads a file: say which with `reads`")
        return
    with Path(reads).open("ab") as file:
        file.write(b" ")
    changed = EvolveSearch.needs(settings, plain).contents
    require(changed != needs.contents, f"`{name}` does not tell that {reads} has changed")


def _problem(space: Space, learns: bool, data: DataLike) -> Problem:
    def no_run() -> RunFolder:
        raise ContractError("an evaluator needs no folder of a run")

    if not learns:
        return Problem(space, no_run)
    fitted, splits, task = fit_to_data(space, options_of(data, {}, device="cpu"))
    learning = Learning(task, splits, Fabric(accelerator="cpu", devices=1))
    return Problem(fitted, no_run, learning)
