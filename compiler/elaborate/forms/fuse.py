"""`fuse(rule)`: branches are brought together by a fusion rule: paths from its sources to each level, merged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any

from nasdsl.compiler import bound
from nasdsl.compiler.diagnostics import error
from nasdsl.compiler.elaborate import values as v
from nasdsl.compiler.elaborate.expressions import evaluate
from nasdsl.compiler.elaborate.forms.bundles import branch_name, bundle, bundled, guarded
from nasdsl.compiler.elaborate.frame import Frame, Scope, mismatch
from nasdsl.compiler.elaborate.merging import Term, check_equal, choose_shape
from nasdsl.compiler.elaborate.steps import apply, run_let, run_step
from nasdsl.compiler.elaborate.values import Flow, Tensor
from nasdsl.compiler.example import Example
from nasdsl.compiler.graph import Edge
from nasdsl.compiler.ops.operator import Operator
from nasdsl.compiler.source import Span
from nasdsl.compiler.values import expr
from nasdsl.compiler.values.expr import Value
from nasdsl.compiler.values.plain import Symbol
from nasdsl.compiler.values.tree import Expr


def run(value: v.Invocation, flow: Flow, frame: Frame, name: str, span: Span) -> Flow:
    rule: v.Fusion = value.arguments["rule"]
    inputs: list[tuple[Tensor, Value]] = (
        guarded(value.arguments["from"], value.spans["from"])
        if "from" in value.arguments and value.arguments["from"] != Symbol("all")
        else []
    )
    listed = bool(inputs) or ("from" in value.arguments and value.arguments["from"] != Symbol("all"))
    if not listed:
        inputs = [(tensor, True) for tensor in bundle(flow)]
    also = value.arguments.get("also", ())
    guarded(also, value.spans.get("also", span))  # once, wherever it is added
    targets = _targets(value, inputs, span)
    if not inputs:
        return None
    named = "to" in value.arguments
    done: dict[int, Tensor] = {}
    for number in _order(rule, targets):
        scale, width = targets[number]
        levelled = len(targets) > 1 or (named and not isinstance(scale, Expr))
        there = True if named or listed else _there(inputs, scale)
        here = frame.when(there)
        step = here.under(f"[{branch_name(scale, '', number)}]") if levelled else here
        made = _level(rule, inputs, list(done.values()), scale, width, listed, here, step, span, also)
        if made is not None:
            done[number] = replace(made, present=expr.both(made.present, there))
    out = [done[number] for number in sorted(done)]
    return out[0] if listed and len(out) == 1 else bundled(out)


def _order(rule: v.Fusion, targets: list[tuple[Any, Any]]) -> list[int]:
    """The outputs by number, each behind the one that it reads."""
    order = list(range(len(targets)))
    if rule.rule.sources in ("finer", "coarser") and not any(isinstance(scale, Expr) for scale, _ in targets):
        order.sort(key=lambda number: targets[number][0], reverse=rule.rule.sources == "finer")
    return order


def _there(inputs: list[tuple[Tensor, Value]], scale: Any) -> Value:
    """Under which choices a level comes in: without `to`, those that come in go out."""
    return expr.either(*[tensor.present for tensor, _ in inputs if tensor.shape.scale == scale])


def _targets(value: v.Invocation, inputs: list[tuple[Tensor, Value]], span: Span) -> list[tuple[Any, Any]]:
    to = value.arguments.get("to")
    if to is None:
        if "from" in value.arguments and inputs:  # a node of a cell: shaped as its first candidate
            return [(inputs[0][0].shape.scale, inputs[0][0].shape.channels)]
        return [(tensor.shape.scale, tensor.shape.channels) for tensor, _ in inputs]
    if not isinstance(to, v.Record):
        raise error(
            "bad-argument",
            "`to` is a record from scale to width",
            value.spans.get("to", span),
            help="write `to: { 1/4: 18, 1/8: 36 }`",
        )
    out = []
    for scale, width in to.entries.items():
        if not isinstance(scale, Expr) and (not isinstance(scale, int | Fraction) or not 0 < scale <= 1):
            raise error(
                "bad-scale",
                f"{v.show(scale)} is not a scale",
                value.spans.get("to", span),
                help="scales are fractions such as 1/4",
            )
        if not isinstance(width, Expr) and (not isinstance(width, int) or width < 1):
            raise error(
                "bad-argument",
                f"a width is a positive whole number, and this is {v.describe(width)}",
                value.spans.get("to", span),
            )
        out.append((scale, width))
    return out


def _level(
    rule: v.Fusion,
    inputs: list[tuple[Tensor, Value]],
    done: list[Tensor],
    scale: Any,
    width: Any,
    listed: bool,
    frame: Frame,
    step: Frame,
    span: Span,
    also: Any,
) -> Tensor | None:
    """One output of a fusion: paths from its sources, merged."""
    scales = [tensor.shape.scale for tensor, _ in inputs]
    if not listed and scale not in scales:
        return _new_level(rule, done, scale, width, frame, span)
    sources = inputs if listed else _sources(rule, inputs, done, scale, span)
    terms: list[Term] = []
    for tensor, when in sources:
        made = _path(rule, tensor, when, scale, width, frame, listed, span)
        if made is not None:
            terms.append((made, when, span))
    if isinstance(also, v.Unused):
        also = v.Guarded(frame.builder.unread([tensor for tensor, _ in also.items]))  # not what the paths have read
    for tensor, when in guarded(also, span):
        fits = expr.both(expr.equal(tensor.shape.scale, scale), expr.equal(tensor.shape.channels, width))
        terms.append((tensor, expr.both(when, fits), tensor.span or span))
    if not terms:
        return None
    merged = _merge(rule, terms, step, span)
    then = rule.rule.entries.get("then")
    if then is not None and isinstance(merged, Tensor):
        merged = run_step(then, merged, _context(rule, step, merged, scale, width))
    if merged is not None and not isinstance(merged, Tensor):
        raise error("several-branches", "a fusion's output is one tensor a level", span)
    return merged


def _sources(
    rule: v.Fusion, inputs: list[tuple[Tensor, Value]], done: list[Tensor], scale: Any, span: Span
) -> list[tuple[Tensor, Value]]:
    how = rule.rule.sources
    if how == "all":
        return inputs
    if any(isinstance(tensor.shape.scale, Expr) for tensor, _ in inputs):
        raise error(
            "not-constant",
            f"which branches are {how or 'neighbours'} must not depend on a decision",
            span,
            "the scales of these do",
            help="let the fusion read `all`, or list what it reads: `fuse(rule, to: ..., from: ...)`",
        )
    ranked = sorted(inputs, key=lambda item: item[0].shape.scale, reverse=True)
    position = next(i for i, (tensor, _) in enumerate(ranked) if tensor.shape.scale == scale)
    if how == "neighbours":
        return ranked[max(position - 1, 0) : position + 2]
    own = ranked[position]
    if how == "finer":
        before = [(tensor, True) for tensor in done if tensor.shape.scale > scale]
        return [*before[-1:], own]
    if how == "coarser":
        before = [(tensor, True) for tensor in done if tensor.shape.scale < scale]
        return [own, *before[-1:]]
    raise error(
        "missing-entry",
        f"the fusion `{rule.rule.name}` does not say which branches feed which",
        span,
        help="add `from: neighbours`, or `from:` in the call",
    )


def _new_level(rule: v.Fusion, done: list[Tensor], scale: Any, width: Any, frame: Frame, span: Span) -> Tensor:
    entry = rule.rule.entries.get("new")
    if entry is None:
        raise error(
            "no-such-branch",
            f"no branch comes in at scale {v.show(scale)}, and the fusion `{rule.rule.name}` makes no new one",
            span,
            help="add an entry `new: ...` to the fusion",
        )
    if not done:
        raise error("no-such-branch", "a new level is made from the coarsest output, and there is none yet", span)
    if any(isinstance(tensor.shape.scale, Expr) for tensor in done):
        raise error("not-constant", "which output is the coarsest must not depend on a decision", span)
    source = min(done, key=lambda tensor: tensor.shape.scale)
    return _run_path(rule, entry, source, scale, width, frame.under(_path_name(source, scale)), span)


def _path_name(source: Tensor, scale: Value) -> str:
    return f"[{branch_name(source.shape.scale, source.label)} -> {branch_name(scale)}]"


def _path(
    rule: v.Fusion, tensor: Tensor, when: Value, scale: Any, width: Any, frame: Frame, listed: bool, span: Span
) -> Tensor | None:
    """The tensor brought to the target's scale and width, by the entry that fits how the two scales compare."""
    source = tensor.shape.scale
    relations = (
        ("same", expr.equal(source, scale)),
        ("down", expr.less(scale, source)),
        ("up", expr.less(source, scale)),
    )
    possible = [(word, test) for word, test in relations if test is not False]
    label = f"[{tensor.label}]" if listed and tensor.label else _path_name(tensor, scale)
    results: list[tuple[Value, Tensor]] = []
    for word, test in possible:
        entry = rule.rule.entries.get(word) or rule.rule.entries.get("any")
        here = frame.when(expr.both(when, test, tensor.present)).under(label)
        if entry is None:
            whose = f"a path{_from_to(source, scale)}" if test is True else "for some choices a path"
            message = f"the fusion `{rule.rule.name}` has no entry `{word}`, and {whose} needs it"
            usage = f"write `{word}: ...` in the fusion, with what ends at `scale` and `width`"
            missing = mismatch("missing-entry", message, span, "", rule.rule.span, "has no such entry", usage)
            frame.builder.prove(expr.negate(test), here, missing)
            continue
        made = _run_path(rule, entry, tensor, scale, width, here if len(possible) == 1 else here.under(word), span)
        if made is not None:
            results.append((test, made))
    if not results:
        return None
    if any(made.lost for _, made in results):
        return v.LOST
    if len(results) == 1:
        return results[0][1]
    shape = results[-1][1].shape
    for test, made in reversed(results[:-1]):
        shape = choose_shape(test, made.shape, shape)
    edges = tuple(Edge(made.node, test) for test, made in results)
    here = frame.when(when).under(label)
    return frame.builder.node(here.path, "select", "select", {}, edges, shape, here.present, span)


def _context(rule: v.Fusion, frame: Frame, tensor: Tensor, scale: Any, width: Any) -> Frame:
    """Inside a path `in` and `at` are the source's, `width` and `scale` the target's."""
    scope = Scope(rule.frame.scope)
    scope.bind("width", width)
    scope.bind("scale", scale)
    return frame.but(scope=scope, incoming=tensor, operator=rule.rule.name)


def _run_path(
    rule: v.Fusion, entry: bound.Expr, tensor: Tensor, scale: Any, width: Any, frame: Frame, span: Span
) -> Any:
    inner = _context(rule, frame, tensor, scale, width)
    inner.builder.start((item.name for item in rule.rule.lets), inner)
    for item in rule.rule.lets:
        run_let(item, inner)
    made = run_step(entry, tensor, inner)
    if made is None:
        return None
    if not isinstance(made, Tensor):
        raise error("several-branches", "a path of a fusion ends in one tensor", entry.span)
    if v.is_lost(made):
        return made
    path = f"the path{_from_to(tensor.shape.scale, scale) or f' of `{rule.rule.name}`'}"
    check_equal(
        made.shape.channels,
        width,
        "width-mismatch",
        f"{path} does not end at the width of its target",
        inner,
        entry.span,
        span,
        "the last operator of a path takes `width`",
    )
    check_equal(
        made.shape.scale,
        scale,
        "scale-mismatch",
        f"{path} does not end at the scale of its target",
        inner,
        entry.span,
        span,
        _how_to_end(tensor, scale),
    )
    return replace(made, shape=replace(made.shape, channels=width, scale=scale))  # what differs is told here, once


def _from_to(source: Value, scale: Value) -> str:
    """The two scales in words, where no choice changes them."""
    known = not isinstance(source, Expr) and not isinstance(scale, Expr)
    return f" from {v.show(source)} to {v.show(scale)}" if known else ""


def _how_to_end(tensor: Tensor, scale: Any) -> str:
    source = tensor.shape.scale
    if isinstance(source, Expr) or isinstance(scale, Expr) or source == scale:
        return "end the path with `resize(to: scale)`"
    if source < scale:
        return "end the path with `upsample(to: scale)`"
    stride = v.show(expr.divide(source, scale))
    return f"give an operator of the path `stride: {stride}`, or begin with `resize(to: scale)`"


def _merge(rule: v.Fusion, terms: list[Term], frame: Frame, span: Span) -> Flow:
    """`merge` acts where two or more meet: a merging operator, and what follows it."""
    entry = rule.rule.entries.get("merge")
    if len(terms) == 1 and terms[0][1] is True and isinstance(terms[0][0], Tensor) and terms[0][0].present is True:
        return terms[0][0]
    if entry is None:
        raise error(
            "missing-entry",
            f"several branches meet, and the fusion `{rule.rule.name}` has no entry `merge`",
            span,
            help="add `merge: sum()`",
        )
    first, *further = entry.steps if isinstance(entry, bound.Pipe) else (entry,)
    call = evaluate(first, frame)
    tensors = v.Guarded(tuple((flow, when) for flow, when, _ in terms))
    merged: Flow
    if isinstance(call, v.Invocation) and isinstance(call.definition, bound.Form) and call.name in _MERGING:
        merged = call.definition.run(_with(call, {"from": tensors}), None, frame, call.name, entry.span)
    elif isinstance(call, v.Invocation) and _takes_several(call.definition):
        flow = v.as_branches(tensors)
        merged = (
            v.LOST if any(v.is_lost(one) for one, _, _ in terms) else apply(call, flow, frame, call.name, entry.span)
        )
    else:
        help = "write `merge: sum()`, `concat()`, `mean()`, or an operator that takes several tensors"
        raise error("bad-argument", "`merge` begins with what makes one tensor of several", first.span, help=help)
    for step in further:
        assert isinstance(merged, Tensor)
        inner = _context(rule, frame, merged, merged.shape.scale, merged.shape.channels)
        merged = run_step(step, merged, inner)
    return merged


_MERGING = ("sum", "concat", "mean")
"""The forms that make one tensor of several."""


def _takes_several(definition: object) -> bool:
    """Whether an operator may be given several tensors; one of the file looks at its `inputs` itself."""
    return isinstance(definition, bound.Operator) or (isinstance(definition, Operator) and definition.inputs != 1)


def _with(call: v.Invocation, more: Mapping[str, Any]) -> v.Invocation:
    arguments = {**call.arguments, **more}
    return v.Invocation(call.definition, arguments, call.path, call.span, call.block, call.frame, call.spans)


FORM = bound.Form(
    "fuse",
    (
        bound.Parameter(
            "rule",
            "rule",
            "the name of a `fusion`",
            missing="`fuse` needs a fusion rule",
            usage="write `fuse(name)` with the name of a `fusion`",
        ),
        bound.Parameter(
            "to",
            doc="a record from scale to width: what goes out. Left out, what comes in; with `from`, as its first item",
        ),
        bound.Parameter(
            "from",
            "value",
            "a list of tensors that is read in place of what comes in, such as `manyof(2, earlier)`",
            ("all",),
        ),
        bound.Parameter("also", doc="tensors that are added without a path where they fit, such as `unused`"),
    ),
    run,
    "brings branches together by a fusion rule",
    "The rule says how a tensor is brought from one scale and width to another (`same`, `down`, `up`, `any`), which "
    "branches feed which (`from`), how what meets is merged, what follows (`then`), and how a level is made that "
    "did not come in (`new`). With `from` in the call the rule needs none, and one output is a tensor, not a set of "
    "branches.",
    Example(
        """
        fusion exchange {
          same: conv(width, kernel: 3)
          down: conv(width, kernel: oneof(3, 5), stride: 2)
          up: conv(width) -> upsample(to: scale)
          from: all
          merge: sum()
        }
        network {
          branches(conv(8), conv(16, stride: 2))
          fuse(exchange)
          fuse(exchange, to: { 1/1: 8, 1/2: 16 })
          pick(1/1)
        }
    """,
        4,
    ),
    own_step=True,
)
