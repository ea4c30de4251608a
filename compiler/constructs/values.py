"""Values, and what is made of them."""

from __future__ import annotations

from nasdsl.compiler.constructs.construct import Construct
from nasdsl.compiler.example import Example, Manual

CONSTRUCTS = (
    Construct(
        "number",
        "Values",
        Manual(
            "3, 1/4, 0.5, 1.6e-4, 600M, 5 epochs",
            "a number, always exact; K, M and G are thousands, millions and milliards",
            Example("conv(floor(32 * oneof(0.5, 1/4)))", 2),
            "`1/4` and `0.25` are the same. A number with a unit, `5 epochs`, `20 ms`, stands in settings.",
        ),
        rules=("number",),
        also=("unit", "quantity"),
    ),
    Construct(
        "word",
        "Values",
        Manual(
            "relu, retina",
            "a word: what is no name of the text",
            Example(
                "let kind = oneof(plain, deep)\nnetwork { conv(8), repeat (3 if kind == deep else 1) { conv(8) } }",
                2,
            ),
            "A bare word is a name where one is in scope, else a word. Words are compared with `==` and told apart "
            "by `match`. In a number's or a step's place it is an error that names the nearest. `true` and `false` "
            "are truth values.",
        ),
        rules=("name",),
        also=("true", "false", "symbol", "name"),
    ),
    Construct(
        "string",
        "Values",
        Manual(
            '"text"',
            "a text: names of files and paths, in `use` and in settings",
            Example('network { stem: conv(8), classify(10) }\ntrain { epochs: 1, freeze: ["stem"] }', 1),
        ),
        rules=("string",),
    ),
    Construct(
        "[ ]",
        "Values",
        Manual(
            "[a, b, c], list[0], list + list",
            "a list, and an item of one",
            Example("let widths = [8, 16] + [32]\nnetwork { conv(widths[oneof(0, 1, 2)]) }", 3),
            "Items count from 0; which one it is may be decided. A range inside a list stands for its items. A set "
            "of branches is a list, too.",
        ),
        rules=("list", "index"),
        also=("list", "index"),
    ),
    Construct(
        "..",
        "Values",
        Manual(
            "a..b, a..b step s",
            "the whole numbers from a to b, both included",
            Example("conv(oneof(8..32 step 8))", 4),
            "The last may be decided in `for` and in comprehensions.",
        ),
        rules=("range",),
        words=("step",),
        also=("range", "step"),
    ),
    Construct(
        "[for]",
        "Values",
        Manual(
            "[for x in list: value], [for x in a, y in b: value]",
            "a list made of another, item by item",
            Example("conv(16)\nconcat([for k in [1, 3]: conv(8, kernel: k, act: oneof(relu, swish))])", 4),
            "A decision in the value is made for each item. Items that are not there have none.",
        ),
        bound=(("x", "the item"),),
        rules=("comprehension", "bind", "head"),
        words=("for",),
        also=("comprehension",),
    ),
    Construct(
        "{ : }",
        "Values",
        Manual(
            "{ key: value, key: value }",
            "a record, and `record[key]` an entry of one",
            Example("let widths = { small: 8, large: 16 }\nnetwork { conv(widths[oneof(small, large)]) }", 2),
            "Keys are words, numbers or values that are constant, such as scales. `else` is an entry for all others "
            "in `match`.",
        ),
        rules=("block", "named", "index"),
        also=("record",),
    ),
    Construct(
        "x",
        "Values",
        Manual(
            "3 x 224 x 224",
            "a size: channels, height and width of the input",
            Example("input oneof(3 x 32 x 32, 3 x 64 x 64)\nnetwork { conv(8, stride: 2), classify(10) }", 2),
        ),
        rules=("size",),
        words=("x",),
        also=("size",),
    ),
    Construct(
        "+ - * / ^",
        "Values",
        Manual(
            "a + b, a - b, a * b, a / b, a ^ b, -a",
            "arithmetic, exact: 1/3 stays 1/3",
            Example("let n = oneof(1, 2)\nnetwork { conv(8 * 2 ^ n - n / n) }", 2),
            "`^` binds closest, then `-a`, then `* /`, then `+ -`. `a() + b()` of two operators gives both what "
            "comes in, and adds. `list + list` joins lists. Between a keyword and its braces stands arithmetic "
            "alone; else in parentheses.",
        ),
        rules=("sum", "product", "negative", "power", "binary", "unary", "head_sum", "head_product", "head_negative"),
        also=("+", "-", "*", "/", "^", "arithmetic", "plus", "power"),
    ),
    Construct(
        "== != < <= > >=",
        "Values",
        Manual(
            "a == b, a < b, a in list",
            "comparisons, and whether a list has a value",
            Example(
                "let k = oneof(1, 3, 5)\nnetwork { conv(8, kernel: k), conv(16 if k in [3, 5] else 8) }\nrequire k "
                "!= 3",
                2,
            ),
            "A word is compared with a decision by the name of its alternative: `head == retina`.",
        ),
        rules=("comparison", "binary"),
        words=("in",),
        also=("==", "!=", "<", "<=", ">", ">=", "comparison"),
    ),
    Construct(
        "and or not implies",
        "Values",
        Manual(
            "a and b, a or b, not a, a implies b",
            "truth: `not` binds closest, then `and`, `or`, `implies`",
            Example(
                """
                let deep = oneof(false, true)
                let wide = oneof(false, true)
                network { conv(16 if wide else 8), repeat (3 if deep else 1) { conv(8) } }
                require deep implies not wide
                """,
                3,
            ),
        ),
        rules=("implication", "disjunction", "conjunction", "negation", "unary", "binary"),
        words=("and", "or", "not", "implies"),
        also=("and", "or", "not", "implies"),
    ),
    Construct(
        "if",
        "Values",
        Manual(
            "a if condition else b",
            "one of two values or steps, by a condition",
            Example("let wide = oneof(false, true)\nnetwork { conv(16 if wide else 8) }", 2),
            "A decision in `a` is there only where the condition holds.",
        ),
        rules=("conditional", "if"),
        words=("if", "else"),
    ),
    Construct(
        "match",
        "Values",
        Manual(
            "match value { key: a, key: b, else: c }",
            "one of several values or steps, by a decision, a parameter or a number",
            Example(
                """
                let kind = oneof(small, large, none)
                network {
                  conv(8)
                  match kind { small: conv(8, kernel: oneof(1, 3)), large: conv(8, kernel: 5), else: identity() }
                }
                """,
                4,
            ),
            "All alternatives of the value are covered, none twice. Decisions inside are there where their key is; "
            "one under `else` is one decision for all that it covers.",
        ),
        rules=("match", "head", "else"),
        words=("match", "else"),
        also=("else",),
    ),
    Construct(
        ".",
        "Values",
        Manual(
            "tensor.width, tensor.scale, operator.name",
            "a part: of a tensor its width and scale; of an operator the values that a `let`, an argument or a "
            "depth had",
            Example(
                """
                operator stage(out) = repeat oneof(1..3) { conv(out) }
                network { a: stage(8), b: stage(2 * a.width) }
                require sum(stage.depth) == 4
                """,
                3,
            ),
            "`operator.name` is a list with one value for each use that is there, and stands in requirements.",
        ),
        rules=("field",),
        also=("field",),
    ),
)
