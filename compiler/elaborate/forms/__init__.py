"""The operators of the language itself, one in a file each: they act on branches or on text in braces."""

from __future__ import annotations

from collections.abc import Mapping

from nasdsl.compiler import bound
from nasdsl.compiler.elaborate.forms import (
    auxiliary,
    branches,
    concat,
    extend,
    fuse,
    mean,
    parallel,
    pick,
    residual,
    sum,
)

FORMS: Mapping[str, bound.Form] = {
    form.FORM.name: form.FORM
    for form in (parallel, residual, auxiliary, fuse, branches, extend, pick, concat, sum, mean)
}
