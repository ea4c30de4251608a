"""Mistakes of values and of decisions."""

from __future__ import annotations

from nasdsl.reference.mistakes.mistake import Mistake as M

TITLE = "Values and decisions"

MISTAKES = (
    M(
        "not-a-number",
        "A number is needed, and this is something else.",
        "Write a number; a word is a name only where one is in scope.",
        'conv(2 * "a")',
    ),
    M(
        "not-an-integer",
        "A whole number is needed, and this one is none for some or all choices.",
        "Round it: `floor`, `ceil`, `round`, or `divisible(width, 8)`.",
        "repeat 5 / 2 { conv(8) }",
    ),
    M(
        "not-a-condition",
        "A truth value is needed, and this is something else.",
        "Write a comparison.",
        "conv(8 if 3 else 16)",
    ),
    M(
        "not-a-list",
        "A list is needed, and this is something else.",
        "Write `[a, b]` or `a..b`.",
        "for i in 3 { conv(8) }",
    ),
    M(
        "not-comparable",
        "Two values are of kinds that cannot be compared.",
        "Compare numbers with numbers, words with words.",
        "let k = oneof(8, 16)\nnetwork { conv(k) }\nrequire [k] == k",
    ),
    M(
        "not-constant",
        "A value must not depend on a decision here: a list to choose from, how many to choose, a parameter, the "
        "weight of an `auxiliary`.",
        "Say what depends with `match` or `require`.",
        "let n = oneof(1, 2)\nnetwork { conv(oneof(8..8 * n)) }",
    ),
    M(
        "no-value",
        "A calculation has no value for some or all choices.",
        "Exclude the case with a condition or `require`.",
        command="nasdsl check mine.space",
        told=False,
    ),
    M("division-by-zero", "Something is divided by zero, for some or all choices.", "Exclude the case.", "conv(8 / 0)"),
    M(
        "too-large",
        "A number, a list, a repeat or a power is larger than can be worked with.",
        "Look whether a factor is too much.",
        "repeat 1000000 { conv(8) }",
    ),
    M(
        "empty-list",
        "The least, the greatest or an item of an empty list is asked for.",
        "Make sure that it has one.",
        "conv(max([]))",
    ),
    M(
        "bad-range",
        "A range is empty, or its step leads away from its end.",
        "Write the smaller end first.",
        "conv(oneof(8..4))",
    ),
    M(
        "bad-key",
        "A key of a record, of a `match` or of `hidden` is of a kind that cannot be one.",
        "Keys are numbers and words; kernel sizes are odd.",
        "mixconv(8, hidden: { 4: 8 })",
    ),
    M(
        "bad-size",
        "A size is no size: its parts are positive whole numbers, three for an input.",
        "Write `input 3 x 224 x 224`.",
        "input 3 x 0 x 8\nnetwork { conv(8) }",
    ),
    M(
        "bad-scale",
        "A scale is no fraction such as 1/4, or is none of 1/2^n where a level is asked for.",
        "Write `1/4`, not 4.",
        "conv(8 + level_of(1/3))",
    ),
    M("no-such-item", "A list or a record has no such item.", "Items count from 0.", "conv([8, 16][2])"),
    M("no-items", "What is indexed has no items.", "Index lists, records and sets of branches.", "conv(8[0])"),
    M(
        "no-fields",
        "What is asked for a part has none.",
        "Tensors, records and operators have parts.",
        "let a = [1, 2]\nnetwork { conv(a.size) }",
    ),
    M(
        "not-covered",
        "A `match` does not say what is meant for every alternative.",
        "Write the missing key, or `else`.",
        "let k = oneof(a, b)\nnetwork { conv(match k { a: 8 }) }",
    ),
    M("empty-choice", "`oneof` has nothing to choose from.", "Give it an alternative.", "conv(oneof([]))"),
    M(
        "too-many",
        "More different items are to be chosen than there are.",
        "Choose fewer.",
        "conv(8)\nconcat([for k in manyof(3, [1, 3]): conv(8, kernel: k)])",
    ),
    M(
        "mixed-options",
        "The alternatives of a choice are of different kinds.",
        "Let all be numbers, all be words, or all be operators.",
        'conv(oneof(8, "a"))',
    ),
    M(
        "not-searchable",
        "This argument cannot be search units.",
        "Write `oneof(...)`; units are for `mixconv`, `transformer` and widths.",
        "conv(8, stride: units(4))",
    ),
    M(
        "tied-domains",
        "A tied decision would have other alternatives at another use.",
        "Make its alternatives independent of where it is used.",
        "operator block() { mixconv(16, hidden: { 3: units(in) }) }\nlet tied = block()\nnetwork { conv(16), tied, "
        "conv(32), tied }",
    ),
    M(
        "never-holds",
        "A warning: a condition of a `require` or an `if` never holds.",
        "Look at the alternatives.",
        "let k = oneof(8, 16)\nnetwork { conv(k) }\nrequire k == 24",
    ),
    M(
        "never-taken",
        "A warning: an alternative is in no architecture, because with it nothing would reach the output.",
        "Write `identity()` where what comes in is to go on, or leave the alternative out.",
        "conv(8)\noneof(conv(8), none)\nclassify(10)",
    ),
    M(
        "unproven",
        "A warning: whether this holds for all architectures is too tangled to be proven in time. Each single "
        "architecture is still checked.",
        "Nothing, or say with `require` what should hold.",
        command="nasdsl check mine.space",
        told=False,
    ),
)
