"""What values are: their kinds, expressions over decisions, and the one table that says what each function does.

    plain.py      plain values and their kinds; what stands where there is no value
    function.py   what is known of a function, and FUNCTIONS, the table
    tree.py       expressions over decisions: what they are made of, and what they come to
    expr.py       sums, conditions and the like over them in a normal form; substitution
    follows.py    whether one condition holds wherever another one does
    as_json.py    values as JSON, and back
    table.py      a record for each function

A function is added by one record in `table.py`. Folding, checks of kinds and domains, elimination, arrays of
architectures, monotonicity and bounds all read it there.
"""

from nasdsl.compiler.values import table as table
