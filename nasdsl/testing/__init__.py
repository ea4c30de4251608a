"""What plug-ins are held to: a check for each kind of thing that a package may add, which nasdsl's own tests call, too.

    from nasdsl.testing import check_operator

    def test_my_operator():
        map = Shape(8, 16, 18, scale=1)
        check_operator(GHOST_CONV, [([map], {"out": 12}), ([map], {"out": 5, "stride": 2})])

Each raises a `ContractError`, which is an `AssertionError`, and says what does not hold. None needs pytest.
"""

from nasdsl.testing.contract import ContractError, offering
from nasdsl.testing.evaluators import check_evaluator
from nasdsl.testing.functions import check_function
from nasdsl.testing.measures import check_measure
from nasdsl.testing.methods import check_method
from nasdsl.testing.networks import check_extraction, check_predictions, check_space
from nasdsl.testing.operators import check_operator
from nasdsl.testing.readers import check_reader
from nasdsl.testing.runtimes import check_runtime
from nasdsl.testing.tasks import check_task

__all__ = [
    "ContractError",
    "check_evaluator",
    "check_extraction",
    "check_function",
    "check_measure",
    "check_method",
    "check_operator",
    "check_predictions",
    "check_reader",
    "check_runtime",
    "check_space",
    "check_task",
    "offering",
]
