"""What methods of `search evolve` are held to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from nasdsl.api.given import SpaceLike
from nasdsl.compiler.architecture import Architecture
from nasdsl.compiler.cost import cost_of
from nasdsl.compiler.space import Space
from nasdsl.runtime.evolution.candidates import Candidates
from nasdsl.runtime.evolution.loop import Search
from nasdsl.runtime.evolution.methods import Method
from nasdsl.runtime.evolution.objectives import Objectives
from nasdsl.runtime.evolution.trial import Memory, Trial
from nasdsl.testing.contract import require
from nasdsl.testing.spaces import space_or_small

DIRECTIONS: tuple[dict[str, bool], ...] = ({"worth": True}, {"worth": True, "macs": False})
"""One objective, and several."""
MOST = 1000


class _Worth:
    """Worth what it costs, up to a pattern of small steps."""

    def __init__(self, space: Space) -> None:
        self.space = space

    def evaluate(self, architecture: Architecture, seed: int) -> dict[str, float]:
        cost = cost_of(self.space.graph, architecture.indices)
        return {"worth": cost["params"] % 97 + cost["macs"] / 1e6}


def check_method(
    kind: type[Method],
    settings: Mapping[str, Any] | None = None,
    *,
    space: SpaceLike | None = None,
    several: bool = True,
) -> None:
    """Holds a method to the protocol: with one objective and with several it proposes nothing twice and nothing outside
    the budget, and all that is inside before it gives up; parents come before their children; its notes can be written
    down; the same seed gives the same; and a new one goes on from the ledger of another alone.

    Args:
        settings: of the method.
        space: a small one, all of which is gone through.
        several: whether it can have several objectives.

    Raises:
        ContractError: something does not hold.
    """
    given = space_or_small(space)
    candidates = Candidates(given.graph, None, False)
    everything = candidates.encoding.decode(candidates._listed)
    costs = {one: cost_of(given.graph, one.indices)["macs"] for one in everything}
    limit = sorted(costs.values())[len(costs) // 2]
    inside = {one for one, macs in costs.items() if macs <= limit}
    name = kind.__name__
    wanted = DIRECTIONS if several else DIRECTIONS[:1]

    def searched(ledger: Memory, trials: int, directions: Mapping[str, bool]) -> list[Trial]:
        """By a new method."""
        within = Candidates(given.graph, {"macs": (None, float(limit))}, False)
        method = kind.model_validate(dict(settings or {}))
        return Search(within, _Worth(given), Objectives(directions), method, ledger, trials, 7).run()

    for directions in wanted:
        trials = searched(Memory(), MOST, directions)
        asked = [Architecture.of(given.graph, trial.architecture) for trial in trials]
        require(len(asked) == len(set(asked)), f"`{name}` proposes an architecture twice")
        require(set(asked) <= inside, f"`{name}` proposes what lies outside the budget")
        left = len(inside) - len(asked)
        require(not left, f"`{name}` gives up where {left} of {len(inside)} architectures have not been tried")
        for trial in trials:
            before = all(parent < trial.index for parent in trial.parents)
            require(before, f"`{name}` names parents of trial {trial.index} that come after it: {trial.parents}")
            notes = trial.proposal.notes
            try:
                same = json.loads(json.dumps(dict(notes))) == dict(notes)
            except (TypeError, ValueError):
                same = False
            require(same, f"`{name}` has notes that JSON cannot hold: {notes}")
        again = [trial.proposal for trial in searched(Memory(), MOST, directions)]
        require(again == [trial.proposal for trial in trials], f"`{name}` proposes otherwise with the same seed")
        ledger = Memory()
        for n in (3, 8, len(inside)):
            resumed = searched(ledger, n, directions)
        gone_on = [trial.proposal for trial in resumed] == [trial.proposal for trial in trials]
        require(gone_on, f"a new `{name}` does not go on from the ledger as the old one would have")
