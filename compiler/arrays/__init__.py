"""Many architectures at once: one row of a matrix of small integers each.

A row gives every decision its value in columns of its own (`encoding.py`). Costs, requirements and conditions of
presence are computed for all rows together (`vector.py`, `evaluator.py`), and so is what makes two rows equal: the
same values, or the same function by what the operators declare of themselves (`identity.py`).

Rows are the arrays' form of `Architecture`; every result equals that of the scalar code row by row.
"""
