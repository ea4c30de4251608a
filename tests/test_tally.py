"""What a ledger keeps up of its trials, against a look at all of them."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nasdsl.runtime.evolution.trial import Proposal, State, Tally, Trial

STATES: tuple[State, ...] = ("waiting", "running", "complete", "failed", "skipped")


def trial(index: int, state: State, worth: int) -> Trial:
    proposal = Proposal({}, f"{index}", f"{worth % 3}", {}, 0)
    return Trial(index, index, proposal, state, (float(worth),) if state == "complete" else ())


STEPS = st.tuples(st.integers(0, 12), st.sampled_from((*STATES, None)), st.integers(0, 9), st.booleans())


@given(st.lists(STEPS, max_size=60))
def test_what_is_kept_up_is_what_a_look_at_all_gives(steps: list[tuple[int, State | None, int, bool]]) -> None:
    """Trials come, change and go in any order; who asks what has changed need only read from there on."""
    tally, plain, seen = Tally(), dict[int, Trial](), list[float]()
    for index, state, worth, ask in steps:
        if state is None:
            tally.pop(index)
            plain.pop(index, None)
        else:
            plain[index] = trial(index, state, worth)
            tally.put(plain[index])
        rows = [plain[i] for i in sorted(plain)]
        assert tally.trials == plain
        assert list(tally.complete) == [one for one in rows if one.state == "complete"]
        assert tally.pending == [one for one in rows if one.state in ("waiting", "running")]
        assert tally.standing == sum(one.state not in ("failed", "skipped") for one in rows)
        assert +tally.counts == Counter(one.state for one in rows)
        assert tally.functions == Counter(one.proposal.function for one in rows)
        if ask:
            since = tally.since()
            seen = [*seen[:since], *(one.objectives[0] for one in tally.complete[since:])]
            np.testing.assert_array_equal(seen, [one.objectives[0] for one in rows if one.state == "complete"])
