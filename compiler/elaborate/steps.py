"""Steps run: operators are applied to what comes in, and nodes are added to the graph."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from nasdsl.compiler import ops, syntax
from nasdsl.compiler.diagnostics import CompileError, Diagnostic, Label, error
from nasdsl.compiler.elaborate import library
from nasdsl.compiler.elaborate import values as v
from nasdsl.compiler.elaborate.expressions import condition, evaluate, items_of, match_cases
from nasdsl.compiler.elaborate.frame import DEEPEST_CALLS, FATAL, Broken, Frame, Labels, Scope, each, join, mismatch
from nasdsl.compiler.elaborate.habits import near
from nasdsl.compiler.elaborate.values import Branches, Flow, Tensor
from nasdsl.compiler.graph import Edge, Shape
from nasdsl.compiler.ops.operator import Operator, ShapeProblem
from nasdsl.compiler.source import Span
from nasdsl.compiler.values import expr
from nasdsl.compiler.values.expr import Among, Apply, Case, Expr, Value
from nasdsl.compiler.values.plain import Symbol

DEEPEST = 128
"""Copies under a searchable count. Each can be the last, so that the work of every analysis grows with the square."""

# --- Names of steps ---------------------------------------------------------------------------------------------------


def step_names(body: Iterable[syntax.Item]) -> dict[int, str]:
    """The name of each call that is a step of the body, by identity: its operator's name, numbered where there are
    several.

    A label takes the place of the name; `residual`, `match`, braces and the two sides of a sum belong to the same body.
    """
    found: list[tuple[int, str]] = []

    def visit(node: syntax.Item) -> None:
        if isinstance(node, syntax.Named):
            if not isinstance(node.key, syntax.Name):  # a computed key is no step
                return
            if isinstance(node.value, syntax.Call):
                return  # it goes by the label
            return
        if isinstance(node, syntax.Pipe):
            for step in node.steps:
                visit(step)
        elif isinstance(node, syntax.Binary) and node.operator == "+":
            visit(node.left)
            visit(node.right)
        elif isinstance(node, syntax.If):
            visit(node.then)
            visit(node.otherwise)
        elif isinstance(node, syntax.Block):
            for item in node.items:
                visit(item)
        elif isinstance(node, syntax.Call):
            if node.function.name == "residual" and node.body is not None:
                visit(node.body)
            else:
                found.append((id(node), _step_name(node)))
        elif isinstance(node, syntax.Repeat):
            found.append((id(node), "repeat"))
        elif isinstance(node, syntax.For):
            found.append((id(node), "for"))

    for item in body:
        visit(item)
    totals: dict[str, int] = {}
    for _, name in found:
        totals[name] = totals.get(name, 0) + 1
    seen: dict[str, int] = {}
    out: dict[int, str] = {}
    for key, name in found:
        if totals[name] == 1:
            out[key] = name
        else:
            out[key] = f"{name}[{seen.get(name, 0)}]"
            seen[name] = seen.get(name, 0) + 1
    return out


def _step_name(call: syntax.Call) -> str:
    """`fuse(rule)` goes by the rule's name, any other call by its operator's."""
    first = call.arguments[0] if call.arguments else None
    if call.function.name == "fuse" and isinstance(first, syntax.Name):
        return first.name
    return call.function.name


# --- Running text -----------------------------------------------------------------------------------------------------


def run_body(items: Iterable[syntax.Item], flow: Flow, frame: Frame) -> Flow:
    """Runs the steps of a body in order, in a scope of their own."""
    items = tuple(items)
    frame.builder.spend(1, None)
    frame = frame.nested().but(names={**frame.names, **step_names(items)})
    frame.builder.start((item.name.name for item in items if isinstance(item, syntax.Let)), frame)
    for item in items:
        frame.builder.flow = flow
        if isinstance(item, syntax.Let):
            try_let(item, frame)
        else:
            before, flow = flow, _try_item(item, flow, frame)
            frame.builder.come_to(flow, before, item.span)
    return flow


def try_step(node: syntax.Expr, flow: Flow, frame: Frame) -> Flow:
    """Runs a step; after a mistake in it the next ones are still looked at."""
    try:
        return run_step(node, flow, frame)
    except CompileError as problem:
        if any(d.code in FATAL for d in problem.diagnostics):
            raise
        frame.builder.report(problem.diagnostics)
        return v.LOST


def _try_item(item: syntax.Item, flow: Flow, frame: Frame) -> Flow:
    """Runs a step or a `require` of a body. After a mistake in it the next ones are still looked at."""
    try:
        if isinstance(item, syntax.Require):
            run_require(item, frame)
            return flow
        if isinstance(item, syntax.Named):
            return _run_labelled(item, flow, frame)
        assert not isinstance(item, syntax.Let)
        return run_step(item, flow, frame)
    except CompileError as problem:
        if any(d.code in FATAL for d in problem.diagnostics):
            raise
        frame.builder.report(problem.diagnostics)
        if isinstance(item, syntax.Named) and isinstance(item.key, syntax.Name):
            frame.labels.lost = True
            frame.scope.bind(item.key.name, Broken, item.key.span)
        return flow if isinstance(item, syntax.Require) and not frame.builder.library_calls else v.LOST


def run_let(item: syntax.Let, frame: Frame) -> None:
    name = item.name.name
    if item.formals is not None:
        frame.scope.bind(name, v.Function(name, item.formals, item.value, frame), item.name.span)
        return
    value = evaluate(item.value, frame, join(frame.decisions, name))
    frame.scope.bind(name, value, item.name.span)
    frame.builder.record(frame, name, value)


def try_let(item: syntax.Let, frame: Frame) -> None:
    """Runs a `let`. After a mistake in it work goes on: what does not use the name may have mistakes of its own."""
    try:
        run_let(item, frame)
    except CompileError as problem:
        frame.scope.bind(item.name.name, Broken, item.name.span)
        if any(d.code in FATAL for d in problem.diagnostics):
            raise
        frame.builder.report(problem.diagnostics)


def run_require(item: syntax.Require, frame: Frame) -> None:
    held = condition(item.condition, frame)
    words = " ".join(item.condition.span.text.split())
    if held is False and frame.present is True:
        raise error("never-holds", f"`{words}` never holds", item.condition.span)
    origin = "budget" if expr.measures_of(held) else "require"
    frame.builder.require(held, frame, words, origin, item.condition.span)


def _run_labelled(item: syntax.Named, flow: Flow, frame: Frame) -> Flow:
    if isinstance(item.key, syntax.Else):
        raise error("misplaced", "`else` belongs to `match`", item.key.span)
    if not isinstance(item.key, syntax.Name):
        raise error("bad-label", "a step's label is a word", item.key.span)
    label = item.key.name
    flow = run_labelled(label, item.value, flow, frame)
    if v.is_lost(flow):
        frame.labels.lost = True
        frame.scope.bind(label, Broken, item.key.span)
        return flow
    if isinstance(flow, Tensor):
        flow = frame.labels.add(label, flow, frame)
    elif flow is None:
        frame.labels.absent.add(label)
    frame.scope.bind(label, flow, item.key.span)
    return flow


def try_labelled(label: str, value: syntax.Expr, flow: Flow, frame: Frame) -> Flow:
    """As `run_labelled`; after a mistake what follows is still looked at."""
    try:
        return run_labelled(label, value, flow, frame)
    except CompileError as problem:
        if any(d.code in FATAL for d in problem.diagnostics):
            raise
        frame.builder.report(problem.diagnostics)
        return v.LOST


def run_labelled(label: str, value: syntax.Expr, flow: Flow, frame: Frame) -> Flow:
    """Runs a step that goes by a label: a single call takes it as its name, anything else as a prefix."""
    if isinstance(value, syntax.Call | syntax.Repeat | syntax.For):
        return run_step(value, flow, frame.but(names={**frame.names, id(value): label}))
    inner = frame.under(label)
    return run_step(value, flow, inner.but(names=step_names([value])))


def run_step(node: syntax.Expr, flow: Flow, frame: Frame) -> Flow:
    """Runs one step on what comes in."""
    frame.builder.flow = flow
    if isinstance(node, syntax.Pipe):
        for step in node.steps:
            before, flow = flow, try_step(step, flow, frame)
            frame.builder.come_to(flow, before, step.span)
        return flow
    if isinstance(node, syntax.Binary) and node.operator == "+":
        return _run_sum(node, flow, frame)
    if isinstance(node, syntax.If):
        test = condition(node.condition, frame)
        if not isinstance(test, Expr):
            return run_step(node.then if test else node.otherwise, flow, frame)
        cases = [(test, "then", node.then), (expr.negate(test), "else", node.otherwise)]
        outcomes = each([partial(run_step, body, flow, frame.when(c)) for c, _, body in cases])
        _note_left_out([(c, made, body.span) for (c, _, body), made in zip(cases, outcomes, strict=True)], flow, frame)
        return select(
            [(c, flow) for (c, _, _), flow in zip(cases, outcomes, strict=True)], frame.under("if"), node.span
        )
    if isinstance(node, syntax.Match):
        return _run_match(node, flow, frame)
    if isinstance(node, syntax.Block):
        return run_body(node.items, flow, frame)
    if isinstance(node, syntax.Repeat):
        return _run_repeat(node, flow, frame, frame.names.get(id(node), "repeat"))
    if isinstance(node, syntax.For):
        return _run_for(node, flow, frame, frame.names.get(id(node), "for"))
    if isinstance(node, syntax.Call):
        name = frame.names.get(id(node), _step_name(node))
        adds = not (node.function.name == "residual" and node.body is not None)  # its steps belong to this body
        value = evaluate(node, frame, join(frame.decisions, name) if adds else frame.decisions)
        return apply(value, flow, frame, name, node.span)
    value = evaluate(node, frame)
    name = node.name if isinstance(node, syntax.Name) else ""
    return apply(value, flow, frame, name, node.span)


def _run_match(node: syntax.Match, flow: Flow, frame: Frame) -> Flow:
    head, cases = match_cases(node, frame)
    if len(cases) == 1 and cases[0][0] is True:
        label, body = cases[0][1], cases[0][2]
        return run_labelled(label, body, flow, frame) if isinstance(head, Expr) else run_step(body, flow, frame)
    flows = each(
        [partial(run_labelled, label, body, _given(flow, test), frame.when(test)) for test, label, body in cases]
    )
    _note_left_out([(test, made, body.span) for (test, _, body), made in zip(cases, flows, strict=True)], flow, frame)
    outcomes = [(test, made) for (test, _, _), made in zip(cases, flows, strict=True)]
    return select(outcomes, frame.under("match"), node.span)


def _given(flow: Flow, test: Value) -> Flow:
    """A tensor as it is under one option of a choice, so that what comes behind need not be proven of all."""
    if not isinstance(flow, Tensor) or not isinstance(test, Among) or len(test.options) != 1:
        return flow
    taken = {test.path: next(iter(test.options))}

    def put(leaf: Expr) -> Value | None:
        return leaf.evaluate(taken) if isinstance(leaf, Among | Case) and leaf.path == test.path else None

    shape = flow.shape
    parts = (shape.channels, shape.height, shape.width, shape.scale, shape.items)
    channels, height, width, scale, items = (expr.substitute(part, put) for part in parts)
    return replace(flow, shape=Shape(channels, height, width, scale, items))


def _terms(node: syntax.Expr) -> list[syntax.Expr]:
    if isinstance(node, syntax.Binary) and node.operator == "+":
        return [*_terms(node.left), *_terms(node.right)]
    return [node]


def where_there(flow: Flow, frame: Frame, act: Callable[[Flow, Frame], Flow]) -> Flow:
    """What is made of a tensor is there where the tensor is, and asks for nothing elsewhere."""
    if not isinstance(flow, Tensor) or flow.lost or flow.present is True:
        return act(flow, frame)
    return only_where(act(replace(flow, present=True), frame.when(flow.present)), flow.present)


def only_where(flow: Flow, there: Value) -> Flow:
    """The same under one more condition."""
    if isinstance(flow, Branches):
        return Branches(tuple([replace(t, present=expr.both(t.present, there)) for t in flow.tensors]))
    return flow if flow is None else replace(flow, present=expr.both(flow.present, there))


def _run_sum(node: syntax.Binary, flow: Flow, frame: Frame) -> Flow:
    terms = _terms(node)

    def add(flow: Flow, frame: Frame) -> Flow:
        outcomes = each([partial(run_step, term, flow, frame) for term in terms])
        added = [(made, True, term.span) for made, term in zip(outcomes, terms, strict=True)]
        return add_up(added, frame, "sum", node.span)

    if any(_starts_anew(term, frame) for term in terms):  # there is something to add whatever comes in
        return add(flow, frame)
    return where_there(flow, frame, add)


def _starts_anew(term: syntax.Expr, frame: Frame) -> bool:
    """Whether a term starts from a labelled tensor, and not from what comes in."""
    first = term.steps[0] if isinstance(term, syntax.Pipe) else term
    while isinstance(first, syntax.Index):
        first = first.base
    if not isinstance(first, syntax.Name):
        return False
    bound = frame.scope.find(first.name)
    value = frame.labels.named.get(first.name) if bound is None else bound.value
    return isinstance(value[0] if isinstance(value, tuple) and value else value, Tensor | Branches)


def _run_repeat(node: syntax.Repeat, flow: Flow, frame: Frame, name: str) -> Flow:
    frame = frame.under(name)
    count = evaluate(node.count, frame, join(frame.decisions, "depth"))
    frame.builder.record(frame, "depth", count)
    values = count.values if isinstance(count, Case) else (count,)
    if isinstance(count, Expr) and not isinstance(count, Case):
        raise error("not-constant", "a repeat's count is a number, or one `oneof`", node.count.span)
    for value in values:
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            if isinstance(value, Symbol):
                raise error(
                    "unknown-name",
                    f"no value named `{value.word}`",
                    node.count.span,
                    help=near(value.word, frame.scope),
                )
            raise error(
                "not-an-integer", "a repeat's count is a whole number", node.count.span, f"is {v.describe(value)}"
            )
        if value > 100_000:
            raise error("too-large", "a repeat's count is at most 100,000", node.count.span, f"is {value}")
    if len(values) > 1 and max(values) > DEEPEST:
        message = f"a searchable depth is at most {DEEPEST} copies"
        raise error("too-large", message, node.count.span, f"up to {max(values)}", help="repeat larger blocks")
    exits: list[tuple[Value, Flow]] = [(expr.equal(count, 0), flow)] if 0 in values else []
    for i in range(max(values)):
        frame.builder.spend(3 + len(values) // 10, node.count.span)
        inner = frame.when(expr.less(i, count)).under(f"[{i}]").nested()
        inner.scope.bind("first", i == 0)
        flow = run_body(node.body.items, flow, inner.but(names={}, copies=True))
        if i + 1 in values:
            exits.append((expr.equal(count, i + 1), flow))
    return exits[0][1] if len(exits) == 1 else select(exits, frame.under("exit"), node.span)


def _run_for(node: syntax.For, flow: Flow, frame: Frame, name: str) -> Flow:
    items = items_of(node.bind.source, frame, join(frame.decisions, f"{name}.{node.bind.name}"))
    for i, item in enumerate(items):
        inner = frame.under(f"{name}[{i}]").nested()
        inner.scope.bind(node.bind.name, item, node.bind.span)
        flow = run_body(node.body.items, flow, inner.but(names={}, copies=True))
    return flow


# --- Applying operator values -----------------------------------------------------------------------------------------


def apply(value: Any, flow: Flow, frame: Frame, name: str, span: Span) -> Flow:
    """What an operator makes of its input. A tensor or a set of branches takes the input's place."""
    frame.builder.spend(1, span)
    if isinstance(value, Tensor | Branches):
        return value
    if v.is_none(value) or value is None:
        return None
    if isinstance(value, v.Invocation):
        inner = frame.using(value, path=join(frame.path, name), decisions=value.path)
        if isinstance(value.definition, v.UserOperator):
            if value.shared:
                inner = inner.but(cuts=_copies_in(inner.path))
            return _apply_user(value, value.definition, flow, inner)
        if isinstance(value.definition, Operator):
            return apply_operator(value.definition, value.arguments, flow, inner, span, value.spans)
        assert frame.apply_form is not None
        named = value.name in ("parallel", "fuse")
        return frame.apply_form(value, flow, inner if named else inner.but(path=frame.path), name, span)
    if isinstance(value, v.Sequence):
        for step in value.steps:
            flow = apply(step, flow, frame, _site(step, name), own_place(step, span))
        return flow
    if isinstance(value, v.Sum):
        places = [own_place(term, span) for term in value.terms]
        outcomes = [
            (apply(term, flow, frame, _site(term, name), place), True, place)
            for term, place in zip(value.terms, places, strict=True)
        ]
        return add_up(outcomes, frame, "sum", span)
    if isinstance(value, v.Alternatives):
        site = frame.under(name)
        flows = each(
            [
                partial(apply, case.value, flow, site.when(case.condition), case.label, own_place(case.value, span))
                for case in value.cases
            ]
        )
        pairs = list(zip(value.cases, flows, strict=True))
        _note_left_out([(case.condition, made, _place_of(case.value, span)) for case, made in pairs], flow, site)
        return select([(case.condition, made) for case, made in pairs], site, span)
    if isinstance(value, v.Text):
        inner = value.frame.but(
            path=join(frame.path, name),
            decisions=value.path,
            present=frame.present,
            uses=frame.using(value).uses,
            incoming=flow if value.own_input else value.frame.incoming,
            regions=frame.regions,
            cuts=frame.cuts,
        )
        return run_step(value.expr, flow, inner.but(names=step_names([value.expr])))
    if isinstance(value, Symbol):
        callable_names = (*frame.scope.operators, *ops.CATALOGUE, *library.OPERATORS)
        known = [*frame.scope, *callable_names]
        help = f"write `{value.word}()`" if value.word in callable_names else near(value.word, known)
        raise error(
            "unknown-name", f"no operator or tensor named `{value.word}`", value.span or span, "not found", help=help
        )
    raise error("not-an-operator", f"an operator is needed here, and this is {v.describe(value)}", span)


def _note_left_out(outcomes: Iterable[tuple[Value, Flow, Span]], flow: Flow, frame: Frame) -> None:
    """Notes which alternatives make nothing of what comes in."""
    for test, made, span in outcomes:
        if made is None and flow is not None and test is not False:
            frame.builder.leave_out(test, span, frame)


def _place_of(value: Any, span: Span) -> Span:
    """Where an alternative stands; the word `none` knows its place too."""
    return value.span if isinstance(value, Symbol) and value.span is not None else own_place(value, span)


def own_place(value: Any, span: Span) -> Span:
    """Where an operator that is part of another one stands in the text, if that is the user's."""
    own = value.span if isinstance(value, v.Invocation | v.Sequence | v.Sum | v.Alternatives) else span
    return span if library.inside(own) else own


def _site(value: Any, name: str) -> str:
    return join(name, value.name) if isinstance(value, v.Invocation) else name


def _apply_user(value: v.Invocation, operator: v.UserOperator, flow: Flow, frame: Frame) -> Flow:
    if frame.depth > DEEPEST_CALLS:
        raise error("recursion", f"the operator `{operator.name}` uses itself without end", value.span)
    inner = frame.but(
        depth=frame.depth + 1,
        scope=Scope(operator.frame.scope),
        incoming=flow,
        operator=operator.name,
        labels=Labels(frame.present),
        names={},
        copies=False,
    )
    for name, argument in value.arguments.items():
        inner.scope.bind(name, argument, value.spans.get(name))
    frame.builder.instances[frame.path] = operator.name
    if not library.inside(operator.span) or library.inside(value.span):
        return _run_user(value, operator, flow, inner, frame)
    calls = frame.builder.library_calls
    calls.append(value)
    try:
        return _run_user(value, operator, flow, inner, frame)
    except CompileError as problem:
        raise CompileError(library.brought_out(problem.diagnostics, value)) from None
    finally:
        calls.pop()


def _run_user(value: v.Invocation, operator: v.UserOperator, flow: Flow, inner: Frame, frame: Frame) -> Flow:
    body = operator.body
    try:
        if isinstance(body, syntax.Block):
            return run_body(body.items, flow, inner)
        if isinstance(body, syntax.Repeat):  # the whole body: the copies go by the operator's own name
            return _run_repeat(body, flow, inner, "")
        names = step_names([body])
        if isinstance(body, syntax.Call) and body.function.name in inner.functions:
            return apply(evaluate(body, inner, inner.decisions), flow, inner, "", body.span)
        return run_step(body, flow, inner.but(names=names))
    except RecursionError:
        raise error("recursion", f"the operator `{operator.name}` uses itself without end", value.span) from None


def apply_operator(
    operator: Operator, arguments: Mapping[str, Any], flow: Flow, frame: Frame, span: Span, spans: Mapping[str, Span]
) -> Flow:
    """Adds a node for an operator of the catalogue."""
    if flow is None:
        if frame.builder.ended is not None:
            message = "nothing comes in here, so that this step is in no network"
            where = (Label(frame.builder.ended, "nothing comes out of this"),)
            help = "to leave a step out and keep what comes in, write `identity()` where `none` stands"
            warning = Diagnostic("nothing-comes-in", message, span, others=where, help=help, severity="warning")
            frame.builder.report([warning])
        return None
    if isinstance(flow, Branches) and operator.inputs == 1:
        if len(flow.tensors) != 1:
            raise error(
                "several-branches",
                f"`{operator.name}` takes one tensor, and {len(flow.tensors)} branches come in",
                span,
                help="apply it to each with `parallel { ... }`, or join them with `concat(scale: ...)` or `pick(...)`",
            )
        flow = flow.tensors[0]
    tensors = flow.tensors if isinstance(flow, Branches) else (flow,)
    return node_for(operator, arguments, tensors, frame, span, spans)


def node_for(
    operator: Operator,
    arguments: Mapping[str, Any],
    tensors: tuple[Tensor, ...],
    frame: Frame,
    span: Span,
    spans: Mapping[str, Span],
) -> Tensor:
    if any(tensor.lost for tensor in tensors):
        return v.LOST
    shapes, arrives = _read(operator, tensors)

    def told(problem: ShapeProblem) -> Diagnostic:
        text = problem.message
        message = text if text.startswith(operator.name) else f"`{operator.name}`: {text}"
        return Diagnostic("bad-shape", message, spans.get(problem.param, span), help=problem.help)

    try:
        shape = operator.shape(shapes, arguments)
    except ShapeProblem as problem:
        raise CompileError([told(problem)]) from None
    possible = True
    for held, what in operator.must(shapes, arguments):
        compared = held.args if isinstance(held, Apply) and held.function in ("divides", "eq") else ()
        possible = frame.builder.prove(held, frame.when(arrives), told(what), compared) and possible
    for held in _fellows(operator, tensors):
        missing = ShapeProblem(
            f"{operator.name} reads {operator.groups} lists of inputs, and they have to be of one length"
        )
        possible = frame.builder.prove(held, frame.when(arrives), told(missing)) and possible
    if not possible:
        return v.LOST
    alive = expr.both(arrives, operator.alive(arguments))
    edges = tuple(Edge(tensor.node, tensor.present) for tensor in tensors)
    share = arguments.get("share")
    weight = frame.weight
    if isinstance(share, Symbol):  # with its other copies, with all steps that say the same word, or with none
        weight = {"weights": _shared_name(frame.path), "none": ""}.get(share.word, f"shared {share.word}")
    attrs = {name: value for name, value in arguments.items() if name != "share" or not isinstance(share, Symbol)}
    if weight:
        _check_tied(operator, attrs, weight, frame, span)
    reached, present = expr.both(frame.present, arrives), expr.both(frame.present, alive)
    tensor = frame.builder.node(
        frame.path, "operator", operator.name, attrs, edges, shape, present, span, weight, reached
    )
    return replace(tensor, present=alive)


def _check_tied(operator: Operator, attrs: Mapping[str, Any], weight: str, frame: Frame, span: Span) -> None:
    """That a step has the kinds of weights that the first step of the same weights has.

    Raises:
        CompileError: it has others.
    """
    kinds = {name: expr.options(attrs[name]) for name in ("norm", "bias") if name in attrs}
    op, first, place = frame.builder.tied.setdefault(weight, (operator.name, kinds, span))
    differs = [f"`{name}`" for name in kinds if kinds[name] != first.get(name)]
    if op != operator.name or differs:
        message = f"steps that share weights cannot differ in {' and '.join(differs)}"
        if op != operator.name:
            message = f"steps that share weights are of one operator, not of `{op}` and `{operator.name}`"
        others = () if place == span else (Label(place, "has the same weights"),)
        raise error("tied-weights", message, span, others=others, help="`share: none` gives a step weights of its own")


def _read(operator: Operator, tensors: tuple[Tensor, ...]) -> tuple[list[Shape], Value]:
    """The shapes that an operator's rules see, and the condition under which it has what it reads.

    Of any number of inputs it reads those that are there. One that is not there counts as a map without pixels, for the
    rest like one that is, so that what must hold of those that are there can be asked of all.
    """
    shapes = [tensor.shape for tensor in tensors]
    last = len(tensors) - operator.needs if operator.inputs < 0 else 0
    needed = expr.both(*[tensor.present for tensor in tensors[last:]])
    there = [tensor.present for tensor in tensors[:last]]
    if all(present is True for present in there):
        return shapes, needed
    each = last // operator.groups if last % operator.groups == 0 else last
    for start in range(0, last, each):
        shapes[start : start + each] = _as_if_there(shapes[start : start + each], there[start : start + each])
    return shapes, expr.both(needed, expr.either(*there))


def _fellows(operator: Operator, tensors: tuple[Tensor, ...]) -> Iterator[Value]:
    """That inputs of one place in the groups of an operator are there together."""
    each = len(tensors) // operator.groups
    if operator.groups == 1 or each * operator.groups != len(tensors):
        return
    for place, tensor in enumerate(tensors[each:], each):
        one, other = tensors[place % each].present, tensor.present
        if one is not other and one != other:
            yield expr.either(expr.both(one, other), expr.both(expr.negate(one), expr.negate(other)))


def _as_if_there(shapes: list[Shape], there: list[Value]) -> list[Shape]:
    """Shapes that equal the others of their group where they are not there."""
    like = shapes[-1]
    for present, shape in reversed(list(zip(there, shapes, strict=True))[:-1]):
        like = replace(
            like,
            channels=expr.choose(present, shape.channels, like.channels),
            items=expr.choose(present, shape.items, like.items),
        )
    return [
        replace(
            shape,
            channels=expr.choose(present, shape.channels, like.channels),
            height=None if shape.height is None else expr.choose(present, shape.height, 0),
            width=None if shape.width is None else expr.choose(present, shape.width, 0),
            items=expr.choose(present, shape.items, like.items),
        )
        for present, shape in zip(there, shapes, strict=True)
    ]


def _shared_name(path: str) -> str:
    """The path without its copy numbers: one set of weights for all copies of a step."""
    ends = [0, *[end for _, end in _copies_in(path)]]
    starts = [*[start for start, _ in _copies_in(path)], len(path)]
    return "".join(path[end:start] for end, start in zip(ends, starts, strict=True))


def _copies_in(path: str) -> tuple[tuple[int, int], ...]:
    """Where the copy numbers stand in a path."""
    found, depth, first = [], 0, 0
    for at, character in enumerate(path):
        if character == "[":
            first = at if not depth else first
            depth += 1
        elif character == "]":
            depth -= 1
            if not depth:
                found.append((first, at + 1))
    return tuple(found)


# --- Merging and selecting --------------------------------------------------------------------------------------------

Term = tuple[Flow, Value, Span]
"""A tensor to be merged, the condition under which it takes part, and where the text says so."""


def add_up(terms: list[Term], frame: Frame, name: str, span: Span) -> Flow:
    """The sum of those terms that are there. At least one has to be: the compiler requires it."""
    present = [(flow, when, place) for flow, when, place in terms if flow is not None and when is not False]
    if any(v.is_lost(flow) for flow, _, _ in present):
        return v.LOST
    if any(isinstance(flow, Branches) for flow, _, _ in present):
        return _add_branches(present, frame, name, span)
    tensors: list[tuple[Tensor, Value, Span]] = [
        (flow, when, place) for flow, when, place in present if isinstance(flow, Tensor)
    ]
    if not tensors:
        return None
    alike("added", tensors, frame)
    shape = same_shape("added", tensors, frame)
    return merge("sum", {}, [(tensor, when) for tensor, when, _ in tensors], shape, frame, name, span)


def same_shape(
    joined: str, tensors: Sequence[tuple[Tensor, Value, Span]], frame: Frame, resized: bool = False
) -> Shape:
    """The width and scale, which have to agree, of those tensors that are there and are to be `joined`. Where they are
    `resized` it is the scale of the first one that is there.
    """
    (first, first_when, first_place), *others = tensors
    before, conditions = first.shape, [expr.both(first_when, first.present)]
    for tensor, when, place in others:
        shape, there = tensor.shape, expr.both(when, tensor.present)
        alike = expr.both(expr.equal(shape.channels, before.channels), expr.equal(shape.scale, before.scale))
        if not expr.follows(alike, there):
            some = expr.either(*conditions)
            inner = frame.when(expr.both(there, some))
            message = f"these cannot be {joined}: their widths differ"
            check_equal(shape.channels, before.channels, "width-mismatch", message, inner, place, first_place)
            if shape.height is not None and not resized:
                message = f"these cannot be {joined}: their scales differ"
                check_equal(shape.scale, before.scale, "scale-mismatch", message, inner, place, first_place)
            channels, scale = (
                expr.choose(some, earlier, own)
                for own, earlier in ((shape.channels, before.channels), (shape.scale, before.scale))
            )
            before = replace(before, channels=channels, scale=scale)
        conditions.append(there)
    return before


def kind_of(tensor: Tensor) -> str:
    return "a vector" if tensor.shape.height is None else "a feature map"


def alike(joined: str, terms: Sequence[tuple[Tensor, Value, Span]], frame: Frame) -> None:
    """That tensors which are to be `joined` are all maps or all vectors, and as many of them for each image.

    Raises:
        CompileError: a map and a vector are to be joined.
    """
    (first, first_when, first_place), *others = terms
    for tensor, when, place in others:
        if (tensor.shape.height is None) != (first.shape.height is None):
            message = f"these cannot be {joined}: one is a feature map, the other a vector"
            where = (Label(first_place, f"this is {kind_of(first)}"),)
            usage = "`global_pool()` makes a vector of a map"
            raise error("kind-mismatch", message, place, f"this is {kind_of(tensor)}", others=where, help=usage)
        inner = frame.when(expr.both(first_when, first.present, when, tensor.present))
        message = f"these cannot be {joined}: an image gives more of one than of the other"
        check_equal(tensor.shape.items, first.shape.items, "items-mismatch", message, inner, place, first_place)


def merge(
    op: str,
    attrs: Mapping[str, Any],
    tensors: list[tuple[Tensor, Value]],
    shape: Shape,
    frame: Frame,
    name: str,
    span: Span,
) -> Tensor:
    """A merge node, or the only tensor there is. Where every input can be absent, that at least one is there becomes a
    requirement.
    """
    conditions = [expr.both(when, tensor.present) for tensor, when in tensors]
    live = expr.either(*conditions)
    if live is not True and not frame.builder.some_chosen(conditions):
        frame.builder.require(
            live, frame, f"something reaches the {op} at {join(frame.path, name) or name}", "live", span
        )
    if len(tensors) == 1:
        return replace(tensors[0][0], present=True)
    if op != "concat":  # the others are brought to the size of the first that is there
        for (tensor, _), held in reversed(list(zip(tensors, conditions, strict=True))):
            height, width = (
                None if there is None else expr.choose(held, there, other)
                for there, other in ((tensor.shape.height, shape.height), (tensor.shape.width, shape.width))
            )
            shape = replace(shape, height=height, width=width)
    edges = tuple(Edge(tensor.node, held) for (tensor, _), held in zip(tensors, conditions, strict=True))
    made = frame.builder.node(join(frame.path, name), "merge", op, attrs, edges, shape, frame.present, span)
    return replace(made, present=True)


def _add_branches(present: Sequence[Term], frame: Frame, name: str, span: Span) -> Branches:
    bundles = [flow if isinstance(flow, Branches) else Branches((flow,)) for flow, _, _ in present if flow is not None]
    if len({len(bundle.tensors) for bundle in bundles}) != 1:
        raise error("branch-mismatch", "sets of branches of different size cannot be added", span)
    out = []
    for i in range(len(bundles[0].tensors)):
        terms: list[Term] = [
            (bundle.tensors[i], when, place) for bundle, (_, when, place) in zip(bundles, present, strict=True)
        ]
        total = add_up(terms, frame, f"{name}[{i}]", span)
        assert isinstance(total, Tensor)
        out.append(total)
    return Branches(tuple(out))


def check_equal(
    a: Value, b: Value, code: str, message: str, frame: Frame, place: Span, other: Span, help: str = ""
) -> bool:
    """That two shapes agree for every choice: an error at once, or something to prove. False where they don't."""
    same = expr.equal(a, b)
    if same is True:
        return True
    diagnostic = mismatch(code, message, place, f"this is {v.show(a)}", other, f"this is {v.show(b)}", help)
    return frame.builder.prove(same, frame, diagnostic, (a, b))


def select(outcomes: list[tuple[Value, Flow]], frame: Frame, span: Span) -> Flow:
    """The one outcome whose condition holds. The conditions exclude each other."""
    there = [(test, flow) for test, flow in outcomes if test is not False and flow is not None]
    if not there:
        return None
    if any(v.is_lost(flow) for _, flow in there):
        return v.LOST
    if len(there) == 1 and there[0][0] is True:
        return there[0][1]
    if any(isinstance(flow, Branches) for _, flow in there):
        return _select_branches([(test, flow) for test, flow in outcomes if test is not False], frame, span)
    tensors: list[tuple[Value, Tensor]] = [(test, flow) for test, flow in there if isinstance(flow, Tensor)]
    for _, tensor in tensors[1:]:
        if (tensor.shape.height is None) != (tensors[0][1].shape.height is None):
            first = tensors[0][1]
            raise error(
                "kind-mismatch",
                "some alternatives give a feature map and some a vector",
                tensor.span or span,
                f"this gives {kind_of(tensor)}",
                others=(Label(first.span or span, f"this gives {kind_of(first)}"),),
                help="end all alternatives alike: `global_pool()` makes a vector of a map",
            )
    present = expr.either(*[expr.both(test, tensor.present) for test, tensor in tensors])
    if len(outcomes) == len(there) and all(tensor.present is True for _, tensor in tensors):
        present = True
    shape = tensors[-1][1].shape
    for test, tensor in reversed(tensors[:-1]):
        shape = choose_shape(test, tensor.shape, shape)
    edges = tuple(Edge(tensor.node, test) for test, tensor in tensors)
    node = frame.builder.node(frame.path, "select", "select", {}, edges, shape, expr.both(frame.present, present), span)
    return replace(node, present=present)


def or_else(flow: Flow, otherwise: Flow, frame: Frame, span: Span) -> Flow:
    """The flow where it is there, something else where it is not."""
    parts = flow.tensors if isinstance(flow, Branches) else (flow,) if flow is not None else ()
    present = expr.either(*[tensor.present for tensor in parts])
    if present is True or v.is_lost(flow) or v.is_lost(otherwise):
        return flow
    return select([(present, flow), (expr.negate(present), otherwise)], frame, span)


def choose_shape(test: Value, then: Shape, otherwise: Shape) -> Shape:
    """Of two maps, or of two vectors."""
    return Shape(
        expr.choose(test, then.channels, otherwise.channels),
        None if then.height is None else expr.choose(test, then.height, otherwise.height),
        None if then.width is None else expr.choose(test, then.width, otherwise.width),
        expr.choose(test, then.scale, otherwise.scale),
        expr.choose(test, then.items, otherwise.items),
    )


def _select_branches(outcomes: Sequence[tuple[Value, Flow]], frame: Frame, span: Span) -> Branches:
    """Level by level; a level can be missing under some alternatives."""
    by_scale: dict[Any, list[tuple[Value, Flow]]] = {}
    for test, flow in outcomes:
        for tensor in flow.tensors if isinstance(flow, Branches) else (flow,) if flow is not None else ():
            cases = by_scale.setdefault(tensor.shape.scale, [])
            if any(test == other for other, _ in cases):
                message = f"an alternative gives two branches at scale {v.show(tensor.shape.scale)}"
                raise error("several-branches", message, tensor.span or span, help="pick one, or join them")
            cases.append((test, tensor))
    out: list[Tensor] = []
    if not any(isinstance(scale, Expr) for scale in by_scale):  # the finest first, whichever alternative comes first
        by_scale = dict(sorted(by_scale.items(), key=lambda level: -level[0]))
    for scale, cases in by_scale.items():
        missing = [(test, None) for test, _ in outcomes if all(test != other for other, _ in cases)]
        chosen = select([*cases, *missing], frame.under(f"[{v.show(scale)}]"), span)
        assert isinstance(chosen, Tensor)
        out.append(chosen)
    return Branches(tuple(out))
