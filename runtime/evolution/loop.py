"""The loop of every search by evaluations: propose, write down, evaluate, write down."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nasdsl.compiler.architecture import Architecture
from nasdsl.runtime.errors import RunError
from nasdsl.runtime.evolution.candidates import Candidates
from nasdsl.runtime.evolution.evaluator import Evaluator
from nasdsl.runtime.evolution.methods import History, Idea, Method
from nasdsl.runtime.evolution.objectives import EvaluationError, Objectives, Untrainable, Values
from nasdsl.runtime.evolution.pruning import Pruning
from nasdsl.runtime.evolution.trial import Ledger, Trial
from nasdsl.runtime.watch import Silent, Watch

WAIT_SECONDS = 0.2  # until one looks again whether others have finished
FORGIVEN = 10
"""Architectures that cannot be trained, beside as many as have been evaluated, before a search stops."""
UNLIMITED = 10**9
"""Trials that no search has."""
SKIPPED = 10_000
"""Candidates in a row that need not be evaluated, after which a search counts as exhausted."""


class Search:
    """One worker's part in a search: it asks for a trial, evaluates it, and tells what came of it.

    Args:
        evaluator: None where somebody else evaluates, who asks and tells.
        trials: how many evaluations the whole search has.
        failures: how many of them may fail before it stops; None allows none but of architectures that cannot be
            trained (`Untrainable`): of these as many as there are complete trials, and `FORGIVEN`.
        pruning: says which candidates need not be evaluated.
    """

    def __init__(
        self,
        candidates: Candidates,
        evaluator: Evaluator | None,
        objectives: Objectives,
        method: Method,
        ledger: Ledger,
        trials: int,
        seed: int = 0,
        failures: int | None = 0,
        watch: Watch | None = None,
        pruning: Pruning | None = None,
    ):
        self.candidates, self.evaluator, self.objectives = candidates, evaluator, objectives
        self.method, self.ledger = method, ledger
        self.most, self.seed, self.failures = trials, seed, failures
        self.watch = watch or Silent()
        self.pruning = pruning
        self._skipped = 0  # in a row
        self._rows: dict[int, Any] = {}
        self._spent: set[int] = set()
        self._losses = objectives.losses([])
        self._salt = int.from_bytes(np.random.SeedSequence().generate_state(2).tobytes(), "little")

    def run(self) -> list[Trial]:
        """Evaluates until there are enough, or nothing is left. All complete trials of the search, by index.

        Raises:
            RunError: an evaluation failed, and one too many did.
        """
        tally = self.ledger.tally
        self.watch.start("search", self.most, len(tally.complete))
        try:
            while (trial := self.ask()) is not None:
                self._evaluate(trial)
        finally:
            self.watch.stop()
        return list(tally.complete)

    def ask(self, waits: bool = True) -> Trial | None:
        """A trial that is now this worker's to evaluate; None where there are enough, or nothing is left. Several may
        be asked for before one is told.

        Args:
            waits: for what others have in hand, since that may fail.
        """
        ledger, tally = self.ledger, self.ledger.tally
        while True:
            ledger.refresh()
            if len(tally.complete) >= self.most:
                return None
            trial = ledger.claim(self.most)
            if trial is not None:
                return trial
            busy = tally.standing > len(tally.complete)
            if tally.standing < self.most and self._propose():
                continue
            if not busy:
                self._tell_of_end()
                return None
            if not waits:
                return None
            time.sleep(WAIT_SECONDS)

    def tell(self, trial: Trial, metrics: Mapping[str, float], seconds: float) -> None:
        """What a trial of this worker's has come to.

        Raises:
            RunError: nothing measures an objective.
            EvaluationError: one is no finite number.
        """
        self._finish(trial, self.objectives.of(metrics, trial.costs), metrics, seconds)

    def fail(self, trial: Trial, problem: EvaluationError) -> None:
        """A trial of this worker's cannot be evaluated.

        Raises:
            RunError: one too many.
        """
        self.ledger.fail(trial, problem.message)
        failed = self.ledger.tally.counts["failed"]
        allowed, why = self.failures, f"`failures: {self.failures}` allows no more"
        if allowed is None:
            complete = len(self.ledger.tally.complete)
            allowed = FORGIVEN + complete if isinstance(problem, Untrainable) else 0
            why = f"{complete} are complete; `failures` allows more"
        if failed > allowed:
            raise RunError(
                f"trial {trial.index} cannot be evaluated: {problem.message}",
                f"{failed} trials failed and {why}; the same command goes on",
            )
        self.watch.note(f"trial {trial.index} failed: {problem.message}")

    def _known(self) -> Values:
        """[n, objectives] the losses of all complete trials."""
        complete = self.ledger.tally.complete
        since = min(self.ledger.tally.since(), len(self._losses))
        if since < len(complete) or len(self._losses) != len(complete):
            fresh = self.objectives.losses([complete[at].objectives for at in range(since, len(complete))])
            self._losses = np.concatenate([self._losses[:since], fresh])
        return self._losses

    def _tell_of_end(self) -> None:
        """A search that ends before it has as many trials as were asked for says why."""
        tally = self.ledger.tally
        if tally.standing < self.most and self._skipped < SKIPPED:
            failed = tally.counts["failed"]
            also = f", and {failed:,} cannot be evaluated" if failed else ""
            of = f" of {self.most:,}" if self.most < UNLIMITED else ""
            self.watch.note(
                f"the search is complete: nothing is left to evaluate after {len(tally.complete):,}{of} trials{also}"
            )

    def _propose(self) -> bool:
        """Writes down a proposal; False where nothing is left to propose."""
        tally, index = self.ledger.tally, self.ledger.proposed
        trials = list(tally.complete)
        history = History(
            trials,
            self._known(),
            self.objectives,
            tally.pending,
            set(tally.functions),
            index,
            self._rows,
            self._spent,
            self.candidates,
        )
        # Workers that propose at the same time must not all propose the same.
        key = (self.seed, index) if self.ledger.alone else (self.seed, index, self._salt)
        sequence = np.random.SeedSequence(key)
        idea = self.method.propose(history, np.random.Generator(np.random.PCG64(sequence)))
        if idea is None:
            return False
        if self._skipped >= SKIPPED:
            self.watch.note(f"nothing is left: none of {SKIPPED:,} candidates in a row could have entered the front")
            return False
        self._write(idea, int(np.random.SeedSequence((self.seed, index)).generate_state(1)[0]), trials)
        return True

    def _write(self, idea: Idea, seed: int, trials: Sequence[Trial]) -> None:
        proposal = self.candidates.proposal(idea.row, seed, idea.parents, idea.notes or {})
        why = None if self.pruning is None else self.pruning.reason(idea.row, proposal, trials)
        if why is None:
            self._skipped = 0
            self.ledger.add(proposal)
        else:
            self._skipped += 1
            self.ledger.skip(proposal, why)

    def _evaluate(self, trial: Trial) -> None:
        assert self.evaluator is not None
        start = time.monotonic()
        try:
            architecture = Architecture.of(self.candidates.graph, trial.architecture)
            metrics = self.evaluator.evaluate(architecture, trial.seed)
            values = self.objectives.of(metrics, trial.costs)
        except EvaluationError as problem:
            self.fail(trial, problem)
            return
        except BaseException:  # an interrupt too: others shall not wait for what nobody does
            self.ledger.give_back(trial)
            raise
        self._finish(trial, values, metrics, time.monotonic() - start)

    def _finish(self, trial: Trial, values: tuple[float, ...], metrics: Mapping[str, float], seconds: float) -> None:
        self.ledger.finish(trial, values, metrics, seconds)
        self._show()

    def _show(self) -> None:
        losses = self._known()
        best = [
            float(-least if up else least)
            for least, up in zip(losses.min(axis=0), self.objectives.maximised, strict=True)
        ]
        self.watch.step(len(losses), dict(zip(self.objectives.names, best, strict=True)))
