"""The constructs of the language: what is written with keywords and marks, and the words that mean something of the
place where they stand. The reference and `nasdsl help` tell them from here; forms, functions and operators have
records of their own.
"""

from nasdsl.compiler.constructs import declarations, files, narrowing, places, sections, steps, values
from nasdsl.compiler.constructs.construct import Construct

CONSTRUCTS: tuple[Construct, ...] = tuple(
    construct
    for group in (files, declarations, sections, steps, values, places, narrowing)
    for construct in group.CONSTRUCTS
)
"""All, in the order of the reference."""
