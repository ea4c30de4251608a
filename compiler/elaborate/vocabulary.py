"""The words of the language: forms, functions, and words with a value."""

from __future__ import annotations

from nasdsl.compiler.bind.base import Vocabulary
from nasdsl.compiler.elaborate.forms import FORMS
from nasdsl.compiler.elaborate.functions import FUNCTIONS
from nasdsl.compiler.elaborate.operations import BUILT_IN_NAMES

VOCABULARY = Vocabulary(FORMS, FUNCTIONS, BUILT_IN_NAMES)
