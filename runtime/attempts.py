"""All attempts at the trials of a study, read from the tables of Optuna's storage at once.

Optuna makes an object of each row of each table, and of each parameter, which takes minutes and gigabytes where there
are many trials. What is wanted here stands in three tables.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Any

from optuna.trial import TrialState
from sqlalchemy import Engine, text

from nasdsl.compiler.diagnostics import cause
from nasdsl.runtime.errors import RunError
from nasdsl.runtime.stored import OTHER

TRIALS = """
    select t.trial_id, t.number, t.state from trials t join studies s on s.study_id = t.study_id
    where s.study_name = :name order by t.number
"""
VALUES = """
    select v.trial_id, v.objective, v.value, v.value_type from trial_values v join trials t on t.trial_id = v.trial_id
    join studies s on s.study_id = t.study_id where s.study_name = :name order by v.trial_id, v.objective
"""
ATTRIBUTES = """
    select a.trial_id, a.key, a.value_json from trial_user_attributes a join trials t on t.trial_id = a.trial_id
    join studies s on s.study_id = t.study_id where s.study_name = :name
"""
INFINITE = {"INF_POS": math.inf, "INF_NEG": -math.inf}


@dataclass
class Attempt:
    """One trial of Optuna's, as far as the ledger of trials asks of it: an `optuna.trial.FrozenTrial` in short."""

    number: int
    state: TrialState
    values: list[float] | None = None
    user_attrs: dict[str, Any] = field(default_factory=dict)


def read_attempts(engine: Engine, name: str) -> list[Attempt]:
    """Those of the study of that name, by rising number.

    Raises:
        RunError: the tables hold something else.
        sqlalchemy.exc.SQLAlchemyError: the database cannot be read.
    """
    found: dict[int, Attempt] = {}
    with engine.connect() as connection:
        try:
            for trial, number, state in connection.execute(text(TRIALS), {"name": name}):
                found[trial] = Attempt(number, TrialState[state])
            for trial, _, value, kind in connection.execute(text(VALUES), {"name": name}):
                attempt = found[trial]
                attempt.values = [*(attempt.values or ()), INFINITE[kind] if kind in INFINITE else float(value)]
            for trial, key, told in connection.execute(text(ATTRIBUTES), {"name": name}):
                found[trial].user_attrs[key] = json.loads(told)
        except (KeyError, TypeError, ValueError) as problem:
            raise RunError(f"the trials of the study `{name}` cannot be read: {cause(problem)}", OTHER) from None
    return list(found.values())
