"""A worker of a search whose evaluations are quick, for tests that kill it.

It logs the number of each trial that it has finished, after the ledger has said so.
"""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from typing import Any

import nasdsl
from nasdsl.runtime.evolution.candidates import Candidates
from nasdsl.runtime.evolution.loop import Search
from nasdsl.runtime.evolution.methods import Regularised
from nasdsl.runtime.evolution.objectives import Objectives
from nasdsl.runtime.trials import Database

SPACE = """
space many {
  input 1 x 8 x 8
  network {
    conv(oneof(4, 8, 12, 16, 20, 24), kernel: oneof(1, 3, 5))
    conv(oneof(4, 8, 12, 16, 20, 24), kernel: oneof(1, 3, 5))
    conv(oneof(4, 8, 12, 16, 20, 24), kernel: oneof(1, 3, 5))
    classify(classes: 4)
  }
}
"""


def worth(architecture: dict[str, Any]) -> float:
    """A number that is as good as random, and the same everywhere."""
    text = json.dumps(architecture, sort_keys=True)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big") / (1 << 48)


class Slow:
    def __init__(self, space: Any, seconds: float):
        self.space, self.seconds = space, seconds

    def evaluate(self, architecture: Any, seed: int) -> dict[str, float]:
        time.sleep(self.seconds)
        return {"worth": worth(architecture.to_json())}


class Logged(Database):
    log: Path

    def finish(self, trial: Any, *results: Any) -> None:
        super().finish(trial, *results)
        with self.log.open("a") as file:
            file.write(f"{trial.proposal.key}\n")


def main(url: str, trials: int, log: Path, seconds: float) -> None:
    space = nasdsl.loads(SPACE)
    objectives = Objectives({"worth": True})
    Logged.log = log
    ledger = Logged(url, "many", objectives.directions, {"space": space.digest()}, space.graph.decisions, 1)
    candidates = Candidates(space.graph, None, functions=False)
    evaluator = Slow(space, seconds)
    Search(candidates, evaluator, objectives, Regularised(), ledger, trials).run()
    ledger.close()
