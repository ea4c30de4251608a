"""The forms of the language: operators that act on branches or on text in braces (`parallel`, `fuse`, `residual`,
...).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from fractions import Fraction
from functools import partial
from typing import Any

from nasdsl.compiler import ops, syntax
from nasdsl.compiler.diagnostics import Diagnostic, error
from nasdsl.compiler.elaborate import values as v
from nasdsl.compiler.elaborate.arguments import default_of
from nasdsl.compiler.elaborate.expressions import evaluate
from nasdsl.compiler.elaborate.frame import Broken, Frame, Scope, join, mismatch
from nasdsl.compiler.elaborate.habits import near
from nasdsl.compiler.elaborate.steps import (
    Term,
    add_up,
    alike,
    apply,
    check_equal,
    choose_shape,
    kind_of,
    merge,
    node_for,
    own_place,
    run_body,
    run_let,
    run_step,
    same_shape,
    select,
    step_names,
    where_there,
)
from nasdsl.compiler.elaborate.values import Branches, Flow, Tensor
from nasdsl.compiler.graph import Edge
from nasdsl.compiler.ops.operator import ShapeProblem
from nasdsl.compiler.source import Span
from nasdsl.compiler.values import expr
from nasdsl.compiler.values.expr import Expr, Value
from nasdsl.compiler.values.plain import Symbol


def apply_form(value: v.Invocation, flow: Flow, frame: Frame, name: str, span: Span) -> Flow:
    """Runs a form. For `parallel` and `fuse` the frame goes by their name; the others leave the path."""
    if v.is_lost(flow) and value.block is None:
        return flow
    return _FORMS[value.name](value, flow, frame, name, span)


def branch_name(scale: Value, label: str = "", number: int = 0) -> str:
    """How a path names a branch: by its scale, or where that is searched by its label, or by its number."""
    return (label or str(number)) if isinstance(scale, Expr) else v.show(scale)


def bundle(flow: Flow) -> tuple[Tensor, ...]:
    if flow is None:
        return ()
    return flow.tensors if isinstance(flow, Branches) else (flow,)


def _bundled(tensors: list[Tensor]) -> Flow:
    if any(tensor.lost for tensor in tensors):
        return v.LOST
    return Branches(tuple(tensors)) if tensors else None


def _parallel(value: v.Invocation, flow: Flow, frame: Frame, name: str, span: Span) -> Flow:
    out: list[Tensor] = []
    shared = "share" in value.arguments
    if shared and value.arguments["share"] != Symbol("weights"):
        raise error("bad-argument", "branches share weights or nothing", value.spans["share"], help="write `weights`")
    for number, tensor in enumerate(bundle(flow)):
        step = f"[{branch_name(tensor.shape.scale, tensor.label, number)}]"
        there = tensor.present  # what is made of a branch is there where the branch is
        tensor = tensor if there is True else replace(tensor, present=True)
        inner = frame.when(there).under(step).but(incoming=tensor, names={})
        if shared:
            inner = inner.but(cuts=(*frame.cuts, (len(frame.path), len(inner.path))))
        if value.block is None:
            result = apply(value.arguments["operator"], tensor, inner, "", span)
        else:
            assert value.frame is not None
            scope = Scope(value.frame.scope)
            scope.bind("width", Broken if tensor.lost else tensor.shape.channels)
            scope.bind("scale", Broken if tensor.lost else tensor.shape.scale)
            inner = value.frame.but(
                scope=scope,
                path=inner.path,
                decisions=inner.decisions,
                uses=inner.uses,
                present=inner.present,
                incoming=tensor,
                cuts=inner.cuts,
                names={},
            )
            result = run_body(value.block.items, tensor, inner)
        out.extend(
            made if there is True else replace(made, present=expr.both(made.present, there)) for made in bundle(result)
        )
    return _bundled(out)


def _residual(value: v.Invocation, flow: Flow, frame: Frame, name: str, span: Span) -> Flow:
    if isinstance(flow, Branches):
        raise error(
            "several-branches",
            "`residual` takes one tensor, and several branches come in",
            span,
            help="use it inside `parallel { ... }`",
        )
    return where_there(flow, frame, partial(_with_shortcut, value, span))


def _with_shortcut(value: v.Invocation, span: Span, flow: Flow, frame: Frame) -> Flow:
    if value.block is None:
        inside = apply(value.arguments["operator"], flow, frame, "", span)
    else:
        assert value.frame is not None
        body = value.frame.but(
            path=frame.path,
            decisions=frame.decisions,
            uses=frame.uses,
            present=frame.present,
            cuts=frame.cuts,
            names=frame.names,
        )
        inside = run_body(value.block.items, flow, body)
    if not isinstance(flow, Tensor) or inside is None:
        return inside if flow is None else flow
    if v.is_lost(flow) or v.is_lost(inside):
        return v.LOST
    assert isinstance(inside, Tensor)
    if (flow.shape.height is None) != (inside.shape.height is None):
        raise error(
            "kind-mismatch",
            f"`residual` gets {kind_of(flow)}, and its body ends in {kind_of(inside)}: they cannot be added",
            span,
            help="leave out of the body what takes the mean over all pixels",
        )
    kept = flow.shape.scale == inside.shape.scale
    stride = 1 if kept else expr.divide(flow.shape.scale, inside.shape.scale)
    finer = mismatch(
        "scale-mismatch",
        "the body of `residual` ends at a scale that no stride leads to from its input",
        span,
        f"this is {v.show(inside.shape.scale)}",
        flow.span,
        f"this is {v.show(flow.shape.scale)}",
        "end the body at the scale that comes in, or at one that a stride leads to",
    )
    whole = expr.equal(stride, expr.apply("max", 1, expr.apply("floor", stride)))
    if not frame.builder.prove(whole, frame, finer, (inside.shape.scale, flow.shape.scale)):
        return v.LOST
    shortcut = _shortcut(flow, inside, stride, frame, span)
    return add_up([(shortcut, True, span), (inside, True, span)], frame, "residual", span)


OF_SHORTCUTS = ("norm", "norm_groups", "standardise", "eps", "momentum")
"""Parameters of a shortcut's convolution that follow the section `defaults`; the others say what a shortcut is."""


def _shortcut(flow: Tensor, inside: Tensor, stride: Value, frame: Frame, span: Span) -> Tensor:
    """The identity where the shape stays, else a strided 1x1 convolution with norm."""
    same = expr.both(expr.equal(flow.shape.channels, inside.shape.channels), expr.equal(stride, 1))
    if same is True:
        return flow
    conv = ops.find("conv")
    assert conv is not None
    arguments = {
        p.name: default_of(p, span, frame, conv.name) if p.name in OF_SHORTCUTS else p.default for p in conv.params
    }
    arguments |= {"out": inside.shape.channels, "stride": stride, "act": Symbol("none")}
    changes = frame.when(expr.negate(same)).but(path=join(frame.path, "shortcut"))
    made = node_for(conv, arguments, (flow,), changes, span, {})
    if same is False:
        return made
    # in width and scale both are as the body is, which need not be proven again
    shape = replace(
        choose_shape(same, flow.shape, made.shape), channels=inside.shape.channels, scale=inside.shape.scale
    )
    edges = (Edge(flow.node, same), Edge(made.node, expr.negate(same)))
    return frame.builder.node(
        join(frame.path, "shortcut.select"), "select", "select", {}, edges, shape, frame.present, span
    )


def _branches(value: v.Invocation, flow: Flow, frame: Frame, name: str, span: Span) -> Flow:
    """Labelled tensors and sets of branches as one set; without any, what comes in."""
    if "*" not in value.arguments:
        return flow
    out: list[Tensor] = []
    for item in value.arguments["*"]:
        for part in item if isinstance(item, tuple) else (item,):
            if part is not None and not isinstance(part, Tensor | Branches):
                raise error("not-a-tensor", f"`branches` takes labelled tensors, and this is {v.describe(part)}", span)
            out.extend(bundle(part))
    return _bundled(out)


def _extend(value: v.Invocation, flow: Flow, frame: Frame, name: str, span: Span) -> Flow:
    """Coarser levels behind those that come in: the operator is applied to the coarsest one, again and again.

    Without an operator every second pixel is taken. Where choices decide which levels come in, the coarsest is the
    coarsest one that is there.
    """
    if "levels" not in value.arguments:
        raise error("missing-argument", "`extend` needs levels", span, help="write `extend(1)` for one more level")
    operator = value.arguments.get("operator", _every_second(value, frame))
    tensors = list(bundle(flow))
    if not tensors or any(tensor.lost for tensor in tensors):
        return v.LOST if tensors else None
    if any(isinstance(tensor.shape.scale, Expr) for tensor in tensors):
        raise error("not-constant", "`extend` needs branches whose scales no choice changes", span)
    try:
        place_of = {expr.apply("level_of", tensor.shape.scale): i for i, tensor in enumerate(tensors)}
    except ValueError:
        raise error("bad-scale", "`extend` needs scales that are powers of 1/2", span) from None
    there = {level: tensors[i].present for level, i in place_of.items()}
    wanted = _levels_wanted(value, there)
    last: Tensor | None = None
    for level in range(min(there), max((*wanted, *there)) + 1):
        own = tensors[place_of[level]] if level in there else None
        behind = expr.negate(expr.either(*[present for other, present in there.items() if other >= level]))
        needed = expr.both(behind, expr.either(*[asked for n, asked in wanted.items() if n >= level]))
        if last is not None and frame.builder.possible(needed):
            if (last.shape.height, last.shape.width) == (1, 1):
                message = f"level {level} is no coarser than level {level - 1}, which has a single pixel left"
                warning = Diagnostic("one-pixel", message, value.spans["levels"], severity="warning")
                frame.builder.report([warning])
            inner = frame.when(needed).under(f"{name}[{v.show(Fraction(1, 2**level))}]").but(incoming=last)
            made = apply(operator, last, inner, "", span)
            if made is None or v.is_lost(made):
                return v.LOST
            assert isinstance(made, Tensor)
            message = "the operator of `extend` does not halve the scale"
            place, scale = value.spans.get("operator", span), Fraction(1, 2**level)
            check_equal(made.shape.scale, scale, "scale-mismatch", message, inner, place, span)
            made = replace(made, present=expr.both(made.present, needed))
            if own is None:
                last = made
                if level in wanted:
                    tensors.append(replace(made, present=expr.both(made.present, wanted[level])))
            else:
                both = select([(own.present, own), (made.present, made)], inner.under("select"), span)
                assert isinstance(both, Tensor)
                last = tensors[place_of[level]] = both
            there[level] = last.present
        elif own is not None:
            last = own
    for level, asked in wanted.items():
        scale = Fraction(1, 2**level)
        message = f"no branch comes in at level {level} (scale {v.show(scale)}), and one that is coarser does"
        usage = "levels are only made behind the coarsest one that comes in"
        missing = Diagnostic("no-such-branch", message, value.spans["levels"], help=usage)
        found = expr.either(*[tensor.present for tensor in tensors if tensor.shape.scale == scale])
        frame.builder.prove(found, frame.when(asked), missing)
    return Branches(tuple(tensors))


def _levels_wanted(value: v.Invocation, there: Mapping[int, Value]) -> dict[int, Value]:
    """The levels that `extend` is asked for, each with the condition under which it is."""
    levels, place = value.arguments["levels"], value.spans["levels"]
    if isinstance(levels, int) and not isinstance(levels, bool) and 0 < levels <= MOST_LEVELS:
        out: dict[int, Value] = {}
        for level, present in there.items():  # so many behind the coarsest one
            coarsest = expr.both(present, expr.negate(expr.either(*[p for n, p in there.items() if n > level])))
            for n in range(level + 1, level + levels + 1):
                out[n] = expr.either(out.get(n, False), coarsest)
        return out
    items = (
        levels.items
        if isinstance(levels, v.Guarded)
        else [(n, True) for n in levels]
        if isinstance(levels, tuple)
        else ()
    )
    if not items or not all(isinstance(n, int) and 0 <= n <= MOST_LEVELS for n, _ in items):
        message = f"`extend` takes how many levels to add, or a list of levels, up to {MOST_LEVELS}"
        raise error(
            "bad-argument", message, place, f"this is {v.describe(levels)}", help="write `extend(1)` or `extend(2..6)`"
        )
    return {n: expr.either(*[asked for m, asked in items if m == n]) for n, _ in items}


MOST_LEVELS = 30


def _every_second(value: v.Invocation, frame: Frame) -> v.Invocation:
    pool = ops.find("max_pool")
    assert pool is not None
    arguments = {p.name: p.default for p in pool.params} | {"kernel": 1, "stride": 2}
    return v.Invocation(pool, arguments, value.path, value.span, None, frame)


def _pick(value: v.Invocation, flow: Flow, frame: Frame, name: str, span: Span) -> Flow:
    scale = value.arguments.get("scale")
    if scale is None:
        raise error("missing-argument", "`pick` needs a scale", span, help="write `pick(1/32)`")
    tensors = bundle(flow)
    if not tensors or any(tensor.lost for tensor in tensors):
        return v.LOST if tensors else None
    cases, anything = _at_scale([(tensor, True) for tensor in tensors], scale, value.spans.get("scale", span), frame)
    if len(cases) == 1 and cases[0][0].shape.scale == scale:
        return replace(cases[0][0], present=anything)
    if len(cases) > 1 and expr.both(*[there for _, there in cases[:2]]) is True:
        raise error("several-branches", f"there are two branches at scale {v.show(scale)}", span)
    picked: list[tuple[Value, Flow]] = []
    for i, (tensor, there) in enumerate(cases):
        earlier = expr.either(*[other for _, other in cases[:i]])
        picked.append((expr.both(there, expr.negate(earlier)), tensor))
    chosen = select(picked, frame.under(name), span)
    assert isinstance(chosen, Tensor)
    return replace(chosen, shape=replace(chosen.shape, scale=scale), present=anything)


def _at_scale(
    tensors: list[tuple[Tensor, Value]], scale: Value, place: Span, frame: Frame
) -> tuple[list[tuple[Tensor, Value]], Value]:
    """The tensors that may have a scale, each with the condition under which it is there and has it.

    With them the condition under which any tensor is there: that one of that scale is there too is proven.

    Raises:
        CompileError: none has this scale, whatever is chosen.
    """
    cases = [(t, expr.both(when, t.present, expr.equal(t.shape.scale, scale))) for t, when in tensors]
    cases = [(tensor, there) for tensor, there in cases if there is not False]
    known = sorted({t.shape.scale for t, _ in tensors if not isinstance(t.shape.scale, Expr)}, reverse=True)
    help = f"there are {', '.join(map(v.show, known))}" if known else ""
    if not cases:
        raise error("no-such-branch", f"there is no branch at scale {v.show(scale)}", place, help=help)
    anything = expr.either(*[expr.both(when, t.present) for t, when in tensors])
    always = [v.show(s) for s in known if expr.either(*[t.present for t, _ in tensors if t.shape.scale == s]) is True]
    message = f"for some choices there is no branch at scale {v.show(scale)}"
    usage = f"whatever is chosen there are {', '.join(always)}" if always else ""
    missing = Diagnostic("no-such-branch", message, place, help=usage)
    frame.builder.prove(expr.either(*[there for _, there in cases]), frame.when(anything), missing)
    return cases, anything


def _concat(value: v.Invocation, flow: Flow, frame: Frame, name: str, span: Span) -> Flow:
    operator = ops.find("concat")
    assert operator is not None
    if "*" in value.arguments and isinstance(flow, Tensor) and flow.present is not True:
        return where_there(flow, frame, lambda flow, frame: _concat(value, flow, frame, name, span))
    if "*" in value.arguments:
        outcomes = [
            apply(item, flow, frame, f"{name}[{i}]", own_place(item, span))
            for i, item in enumerate(value.arguments["*"])
        ]
        tensors = [(tensor, True) for outcome in outcomes for tensor in bundle(outcome)]
    elif "from" in value.arguments:
        tensors = [(t, when) for t, when in _guarded(value.arguments["from"], span)]
    else:
        tensors = [(tensor, True) for tensor in bundle(flow)]
    if not tensors:
        return None
    if any(t.lost for t, _ in tensors):
        return v.LOST
    alike("concatenated", [(t, when, t.span or span) for t, when in tensors], frame)
    if "*" in value.arguments or "from" in value.arguments or len(tensors) == 1:
        default = tensors[0][0].shape.scale
    else:  # the finest that is there
        default = expr.apply("max", *[expr.choose(t.present, t.shape.scale, 0) for t, _ in tensors])
    scale = value.arguments.get("scale", default)
    attrs = {"scale": scale, "mode": value.arguments.get("mode", Symbol("bilinear"))}
    if tensors[0][0].shape.height is not None:
        _at_scale(tensors, scale, value.spans.get("scale", span), frame)
    try:
        shape = operator.shape([tensor.shape for tensor, _ in tensors], attrs)
    except ShapeProblem as problem:
        raise error("bad-shape", f"`concat`: {problem.message}", span, help=problem.help) from None
    channels = expr.add(*[expr.choose(expr.both(when, t.present), t.shape.channels, 0) for t, when in tensors])
    return merge("concat", attrs, tensors, shape.with_channels(channels), frame, name, span)


def _mean(value: v.Invocation, flow: Flow, frame: Frame, name: str, span: Span) -> Flow:
    given = value.arguments.get("from")
    tensors = [(tensor, True) for tensor in bundle(flow)] if given is None else _guarded(given, span)
    if not tensors:
        return None
    if any(tensor.lost for tensor, _ in tensors):
        return v.LOST
    terms = [(tensor, when, tensor.span or span) for tensor, when in tensors]
    alike("averaged", terms, frame)
    return merge("mean", {}, tensors, same_shape("averaged", terms, frame, resized=True), frame, name, span)


def _guarded(value: Any, span: Span) -> list[tuple[Tensor, Value]]:
    items = (
        value.items
        if isinstance(value, v.Guarded)
        else [(item, True) for item in (value if isinstance(value, tuple) else (value,))]
    )
    for item, _ in items:
        if item is not None and not isinstance(item, Tensor):
            raise error("not-a-tensor", f"labelled tensors are needed here, and one is {v.describe(item)}", span)
    return [(item, there) for item, there in items if item is not None]


def _sum(value: v.Invocation, flow: Flow, frame: Frame, name: str, span: Span) -> Flow:
    if "from" in value.arguments:
        tensors = _guarded(value.arguments["from"], value.spans.get("from", span))
    else:
        tensors = [(tensor, True) for tensor in bundle(flow)]
    return add_up([(tensor, when, tensor.span or span) for tensor, when in tensors], frame, name, span)


# --- Fusion -----------------------------------------------------------------------------------------------------------

ENTRIES = ("same", "down", "up", "any", "from", "merge", "then", "new")
SOURCES = ("neighbours", "all", "finer", "coarser")


class _Rule:
    """A fusion's entries, with its `let`s evaluated for each path."""

    def __init__(self, fusion: v.UserFusion):
        self.fusion = fusion
        self.lets: list[syntax.Let] = []
        self.entries: dict[str, syntax.Named] = {}
        for item in fusion.body.items:
            if isinstance(item, syntax.Let):
                self.lets.append(item)
            elif isinstance(item, syntax.Named) and isinstance(item.key, syntax.Name):
                key = item.key.name
                if key not in ENTRIES:
                    raise error(
                        "unknown-entry",
                        f"a fusion has no entry `{key}`",
                        item.key.span,
                        help=near(key, ENTRIES) or "it has " + ", ".join(ENTRIES),
                    )
                if key in self.entries:
                    raise error("duplicate", f"the entry `{key}` stands here twice", item.key.span)
                self.entries[key] = item
            else:
                raise error("misplaced", "a fusion holds `let`s and entries such as `same: ...`", item.span)

    @property
    def sources(self) -> str | None:
        entry = self.entries.get("from")
        if entry is None:
            return None
        word = entry.value.name if isinstance(entry.value, syntax.Name) else ""
        if word not in SOURCES:
            raise error(
                "bad-argument",
                "`from` of a fusion says which branches feed which",
                entry.value.span,
                help=near(word, SOURCES) or "one of " + ", ".join(f"`{w}`" for w in SOURCES),
            )
        return word


def _fuse(value: v.Invocation, flow: Flow, frame: Frame, name: str, span: Span) -> Flow:
    rule = _Rule(value.arguments["rule"])
    inputs: list[tuple[Tensor, Value]] = (
        _guarded(value.arguments["from"], value.spans["from"])
        if "from" in value.arguments and value.arguments["from"] != Symbol("all")
        else []
    )
    listed = bool(inputs) or ("from" in value.arguments and value.arguments["from"] != Symbol("all"))
    if not listed:
        inputs = [(tensor, True) for tensor in bundle(flow)]
    also = value.arguments.get("also", ())
    _guarded(also, value.spans.get("also", span))  # once, wherever it is added
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
    return out[0] if listed and len(out) == 1 else _bundled(out)


def _order(rule: _Rule, targets: list[tuple[Any, Any]]) -> list[int]:
    """The outputs by number, each behind the one that it reads."""
    order = list(range(len(targets)))
    if rule.sources in ("finer", "coarser") and not any(isinstance(scale, Expr) for scale, _ in targets):
        order.sort(key=lambda number: targets[number][0], reverse=rule.sources == "finer")
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
    rule: _Rule,
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
    for tensor, when in _guarded(also, span):
        fits = expr.both(expr.equal(tensor.shape.scale, scale), expr.equal(tensor.shape.channels, width))
        terms.append((tensor, expr.both(when, fits), tensor.span or span))
    if not terms:
        return None
    merged = _merge(rule, terms, step, span)
    then = rule.entries.get("then")
    if then is not None and isinstance(merged, Tensor):
        merged = run_step(
            then.value, merged, _context(rule, step, merged, scale, width).but(names=step_names([then.value]))
        )
    if merged is not None and not isinstance(merged, Tensor):
        raise error("several-branches", "a fusion's output is one tensor a level", span)
    return merged


def _sources(
    rule: _Rule, inputs: list[tuple[Tensor, Value]], done: list[Tensor], scale: Any, span: Span
) -> list[tuple[Tensor, Value]]:
    how = rule.sources
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
        f"the fusion `{rule.fusion.name}` does not say which branches feed which",
        span,
        help="add `from: neighbours`, or `from:` in the call",
    )


def _new_level(rule: _Rule, done: list[Tensor], scale: Any, width: Any, frame: Frame, span: Span) -> Tensor:
    entry = rule.entries.get("new")
    if entry is None:
        raise error(
            "no-such-branch",
            f"no branch comes in at scale {v.show(scale)}, and the fusion `{rule.fusion.name}` makes no new one",
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
    rule: _Rule, tensor: Tensor, when: Value, scale: Any, width: Any, frame: Frame, listed: bool, span: Span
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
        entry = rule.entries.get(word) or rule.entries.get("any")
        here = frame.when(expr.both(when, test, tensor.present)).under(label)
        if entry is None:
            whose = f"a path{_from_to(source, scale)}" if test is True else "for some choices a path"
            message = f"the fusion `{rule.fusion.name}` has no entry `{word}`, and {whose} needs it"
            usage = f"write `{word}: ...` in the fusion, with what ends at `scale` and `width`"
            missing = mismatch("missing-entry", message, span, "", rule.fusion.span, "has no such entry", usage)
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


def _context(rule: _Rule, frame: Frame, tensor: Tensor, scale: Any, width: Any) -> Frame:
    """Inside a path `in` and `at` are the source's, `width` and `scale` the target's."""
    scope = Scope(rule.fusion.frame.scope)
    scope.bind("width", width)
    scope.bind("scale", scale)
    return frame.but(scope=scope, incoming=tensor, operator=rule.fusion.name, names={})


def _run_path(
    rule: _Rule, entry: syntax.Named, tensor: Tensor, scale: Any, width: Any, frame: Frame, span: Span
) -> Any:
    inner = _context(rule, frame, tensor, scale, width)
    inner.builder.start((item.name.name for item in rule.lets), inner)
    for item in rule.lets:
        run_let(item, inner)
    made = run_step(entry.value, tensor, inner.but(names=step_names([entry.value])))
    if made is None:
        return None
    if not isinstance(made, Tensor):
        raise error("several-branches", "a path of a fusion ends in one tensor", entry.value.span)
    if v.is_lost(made):
        return made
    path = f"the path{_from_to(tensor.shape.scale, scale) or f' of `{rule.fusion.name}`'}"
    check_equal(
        made.shape.channels,
        width,
        "width-mismatch",
        f"{path} does not end at the width of its target",
        inner,
        entry.value.span,
        span,
        "the last operator of a path takes `width`",
    )
    check_equal(
        made.shape.scale,
        scale,
        "scale-mismatch",
        f"{path} does not end at the scale of its target",
        inner,
        entry.value.span,
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


def _merge(rule: _Rule, terms: list[Term], frame: Frame, span: Span) -> Flow:
    """`merge` acts where two or more meet: a merging operator, and what follows it."""
    entry = rule.entries.get("merge")
    if len(terms) == 1 and terms[0][1] is True and isinstance(terms[0][0], Tensor) and terms[0][0].present is True:
        return terms[0][0]
    if entry is None:
        raise error(
            "missing-entry",
            f"several branches meet, and the fusion `{rule.fusion.name}` has no entry `merge`",
            span,
            help="add `merge: sum()`",
        )
    steps = entry.value.steps if isinstance(entry.value, syntax.Pipe) else (entry.value,)
    word = steps[0].function.name if isinstance(steps[0], syntax.Call) else ""
    if word == "sum":
        merged: Flow = add_up(terms, frame, "sum", entry.value.span)
    elif word == "concat":
        call = evaluate(steps[0], frame)
        tensors = tuple((flow, when) for flow, when, _ in terms)
        merged = _concat(replace_arguments(call, {"from": v.Guarded(tensors)}), None, frame, "concat", span)
    else:
        raise error("bad-argument", "`merge` begins with `sum()` or `concat()`", steps[0].span)
    for step in steps[1:]:
        assert isinstance(merged, Tensor)
        inner = _context(rule, frame, merged, merged.shape.scale, merged.shape.channels)
        merged = run_step(step, merged, inner.but(names=step_names(steps[1:])))
    return merged


def replace_arguments(call: v.Invocation, more: Mapping[str, Any]) -> v.Invocation:
    return v.Invocation(
        call.definition, {**call.arguments, **more}, call.path, call.span, call.block, call.frame, call.spans
    )


_FORMS: Mapping[str, Callable[..., Flow]] = {
    "parallel": _parallel,
    "residual": _residual,
    "fuse": _fuse,
    "branches": _branches,
    "extend": _extend,
    "pick": _pick,
    "concat": _concat,
    "sum": _sum,
    "mean": _mean,
}
