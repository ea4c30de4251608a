"""A trial: one architecture, evaluated once; and a ledger of trials, in memory or in a database."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, Protocol

from nasdsl.compiler.architecture import Architecture, Values
from nasdsl.compiler.decision import Decision

State = Literal["waiting", "running", "complete", "failed", "skipped"]


@dataclass(frozen=True)
class Proposal:
    """An architecture that is to be evaluated.

    Attributes:
        architecture: its decisions, as `Architecture.to_json` writes them.
        key: equal for equal architectures, on every machine.
        function: equal for architectures that compute the same function; where that is not asked for, the key.
        costs: MACs, parameters and other measures that are asked for, by name and in their units.
        seed: for whoever evaluates it.
        parents: the indices of the trials that it was made from: none for a random draw, two for a crossover.
        notes: what the method that proposed it wants to find again; anything that JSON can hold.
        decisions: of the space; None where that is not known, such as of trials that are only looked at.
    """

    architecture: Mapping[str, Any]
    key: str
    function: str
    costs: Mapping[str, float]
    seed: int
    parents: tuple[int, ...] = ()
    notes: Mapping[str, Any] = field(default_factory=dict)
    decisions: Mapping[str, Decision] | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, repr=False)
class Trial:
    """A proposal and what became of it.

    Attributes:
        index: counts the proposals of a search from 0. It stays when a trial is taken up again.
        number: under which the ledger has it.
        objectives: in the order of the search's, as measured; empty until it is complete.
        metrics: all that its evaluation gave.
        seconds: that the evaluation took, by the clock.
        error: why it failed, or why it was skipped: it could not have entered the front.
    """

    index: int
    number: int
    proposal: Proposal
    state: State = "waiting"
    objectives: tuple[float, ...] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
    seconds: float | None = None
    error: str = ""

    def __repr__(self) -> str:
        """`Trial(3, complete, value 0.91, macs 732,480)`"""
        figures = {**self.metrics, **{name: cost for name, cost in self.costs.items() if name not in self.metrics}}
        told = [
            f"{name} {value:,}" if isinstance(value, int) else f"{name} {value:.5g}" for name, value in figures.items()
        ]
        return f"Trial({', '.join([str(self.index), self.state, *told])})"

    @cached_property
    def architecture(self) -> Values:
        """The values of its decisions by path."""
        known = self.proposal.decisions
        return self.proposal.architecture if known is None else Architecture.written(known, self.proposal.architecture)

    @property
    def costs(self) -> Mapping[str, float]:
        """MACs, parameters and what else is told of it, by name."""
        return self.proposal.costs

    @property
    def parents(self) -> tuple[int, ...]:
        """The indices of the trials that it was made from."""
        return self.proposal.parents

    @property
    def seed(self) -> int:
        """For whoever evaluates it."""
        return self.proposal.seed


class Tally:
    """The trials of a search by index, and what is asked of them before each proposal, kept up as they change: with
    twenty thousand trials a look at all of them takes longer than what a proposal needs.

    Attributes:
        trials: all, by index.
        functions: of all, how often each stands.
        counts: of each state, how many trials have it.
    """

    def __init__(self) -> None:
        self.trials: dict[int, Trial] = {}
        self.functions: Counter[str] = Counter()
        self.counts: Counter[State] = Counter()
        self._lists: dict[State, list[Trial]] = {state: [] for state in ("waiting", "running", "complete")}
        self._changed = 0

    @property
    def complete(self) -> Sequence[Trial]:
        """By rising index; the list goes on changing."""
        return self._lists["complete"]

    @property
    def pending(self) -> list[Trial]:
        """Those that wait or that someone evaluates, by rising index."""
        return sorted([*self._lists["waiting"], *self._lists["running"]], key=_index)

    @property
    def standing(self) -> int:
        """How many are complete or may still be."""
        return sum(map(len, self._lists.values()))

    def put(self, trial: Trial) -> None:
        """A new trial, or another state of one."""
        self.pop(trial.index)
        self.trials[trial.index] = trial
        self.functions[trial.proposal.function] += 1
        self.counts[trial.state] += 1
        if trial.state in self._lists:
            mine = self._lists[trial.state]
            at = bisect_left(mine, trial.index, key=_index)
            mine.insert(at, trial)
            self._change(trial.state, at)

    def pop(self, index: int) -> None:
        """A trial that does not count, if it did."""
        trial = self.trials.pop(index, None)
        if trial is None:
            return
        self.counts[trial.state] -= 1
        self.functions[trial.proposal.function] -= 1
        if not self.functions[trial.proposal.function]:
            del self.functions[trial.proposal.function]
        if trial.state in self._lists:
            mine = self._lists[trial.state]
            at = bisect_left(mine, index, key=_index)
            del mine[at]
            self._change(trial.state, at)

    def _change(self, state: State, at: int) -> None:
        if state == "complete":
            self._changed = min(self._changed, at)

    def since(self) -> int:
        """The first place of `complete` that may have changed since this was last asked."""
        at, self._changed = self._changed, len(self.complete)
        return at


def _index(trial: Trial) -> int:
    return trial.index


class Ledger(Protocol):
    """The trials of one search. Several workers may share one.

    `tally` has those that count: neither what was withdrawn because another worker was first, nor attempts of a worker
    that died. They are as `refresh` found them.
    """

    @property
    def tally(self) -> Tally: ...

    @property
    def trials(self) -> Mapping[int, Trial]:
        """Those of the tally, by index."""
        ...

    @property
    def proposed(self) -> int:
        """How many proposals there have been, those withdrawn included."""
        ...

    @property
    def alone(self) -> bool:
        """Whether no other worker has anything in hand."""
        ...

    def refresh(self) -> None:
        """Takes notice of what other workers did."""
        ...

    def add(self, proposal: Proposal) -> None:
        """A trial that waits for someone to evaluate it."""
        ...

    def skip(self, proposal: Proposal, why: str) -> None:
        """A trial that nobody is to evaluate."""
        ...

    def claim(self, most: int) -> Trial | None:
        """A waiting trial, now this worker's; None where there is none, or it has gone meanwhile.

        Args:
            most: trials of this search. What lies beyond is withdrawn.
        """
        ...

    def finish(self, trial: Trial, objectives: tuple[float, ...], metrics: Mapping[str, float], seconds: float) -> None:
        """What a trial of this worker's is worth."""
        ...

    def fail(self, trial: Trial, error: str) -> None:
        """A trial of this worker's cannot be evaluated, by anyone."""
        ...

    def give_back(self, trial: Trial) -> None:
        """A trial of this worker's that it does not go on with; others may."""
        ...

    def take_back(self) -> None:
        """Ends a search that was refused: where it has begun here and done nothing, nothing is left of it."""
        ...

    def close(self) -> None:
        """Leaves the ledger to others."""
        ...


class Memory:
    """A ledger that lasts as long as the process. For tables, whose evaluations cost nothing."""

    def __init__(self) -> None:
        self.tally = Tally()
        self._waiting: deque[int] = deque()

    @property
    def trials(self) -> Mapping[int, Trial]:
        return self.tally.trials

    @property
    def proposed(self) -> int:
        return len(self.trials)

    @property
    def alone(self) -> bool:
        return True

    def refresh(self) -> None:
        pass

    def add(self, proposal: Proposal) -> None:
        index = len(self.trials)
        self.tally.put(Trial(index, index, proposal))
        self._waiting.append(index)

    def skip(self, proposal: Proposal, why: str) -> None:
        index = len(self.trials)
        self.tally.put(Trial(index, index, proposal, "skipped", error=why))

    def claim(self, most: int) -> Trial | None:
        if not self._waiting:
            return None
        return self._set(self._waiting.popleft(), state="running")

    def _set(self, index: int, **changes: Any) -> Trial:
        trial = replace(self.trials[index], **changes)
        self.tally.put(trial)
        return trial

    def finish(self, trial: Trial, objectives: tuple[float, ...], metrics: Mapping[str, float], seconds: float) -> None:
        self._set(trial.index, state="complete", objectives=objectives, metrics=metrics, seconds=seconds)

    def fail(self, trial: Trial, error: str) -> None:
        self._set(trial.index, state="failed", error=error)

    def give_back(self, trial: Trial) -> None:
        self._set(trial.index, state="waiting")
        self._waiting.append(trial.index)

    def take_back(self) -> None:
        pass

    def close(self) -> None:
        pass
