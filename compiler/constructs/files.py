"""How files are made of spaces."""

from __future__ import annotations

from nasdsl.compiler.constructs.construct import Construct
from nasdsl.compiler.example import Example, Manual

CONSTRUCTS = (
    Construct(
        "space",
        "Files",
        Manual(
            "space name { declarations }",
            "a set of architectures: parameters, an input, operators, a network, what must hold, and settings of "
            "searches",
            Example("space mine {\n  input 3 x 32 x 32\n  network { conv(oneof(8, 16)), classify(10) }\n}", 2),
            "A file may have several; the first is meant where none is named (`--space NAME`). The order of "
            "declarations does not matter, except that a `let` is made before what stands below it.\n\nA comma or a "
            "line break separates, alike in `( )`, `[ ]` and `{ }`. A line that begins with an infix operator "
            "(minus excepted) goes on with the line before. `nasdsl fmt` brings a file into the canonical layout.",
        ),
        rules=("start", "space"),
        words=("space",),
    ),
    Construct(
        "use",
        "Files",
        Manual(
            'use "file.space", use "file.space" { name, name }',
            "brings what another file declares, all of it or some names",
            Example(
                """
                use "darts.space" { sep }

                space borrowed {
                  input 3 x 32 x 32
                  network { conv(16, kernel: 3), sep(oneof(3, 5), stride: 1), classify(10) }
                }
                """,
                2,
            ),
            "The file lies beside the one that uses it, or is a space that ships, or belongs to an installed package "
            '(`use "acme/blocks.space"`). With names, what these are made of comes along. It may stand inside a space '
            "if it uses none of the space's parameters. A written result names its file with the hash of its content, "
            '`use "hrnas.space#1f2e..."`, and is refused if that has changed.',
        ),
        rules=("use", "names"),
        words=("use",),
    ),
    Construct(
        "#",
        "Files",
        Manual(
            "# text",
            "a comment, up to the end of the line",
            Example("conv(oneof(8, 16))  # the width is searched", 2),
        ),
        also=("comment",),
    ),
)
