"""The compiler against a direct interpreter of the language, on whole random programs."""

from __future__ import annotations

import os
from random import Random

import pytest

from tests.oracle.__main__ import compare_seed
from tests.oracle.generate import program

PROGRAMS = int(os.environ.get("NASDSL_EXAMPLES", "100"))
GROUPS = 5


@pytest.mark.parametrize("group", range(GROUPS))
def test_programs_mean_what_the_interpreter_says(group):
    """Accepted or refused, counts, members, costs, extremes, layers, draws, pins, budgets; some are built and run."""
    share = -(-PROGRAMS // GROUPS)
    for seed in range(group * share, (group + 1) * share):
        _, outcome = compare_seed((seed, seed % 20 == 0))
        assert outcome.state != "differs", f"{outcome.kind}: {outcome.detail}\n{program(Random(seed))}"
