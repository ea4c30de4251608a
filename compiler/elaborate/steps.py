"""Steps run: operators are applied to what comes in, and nodes are added to the graph."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import Any

from nasdsl.compiler import bound
from nasdsl.compiler.bind.habits import near
from nasdsl.compiler.bind.messages import no_step, no_value
from nasdsl.compiler.diagnostics import CompileError, error
from nasdsl.compiler.elaborate import library
from nasdsl.compiler.elaborate import values as v
from nasdsl.compiler.elaborate.expressions import condition, evaluate, match_cases
from nasdsl.compiler.elaborate.frame import DEEPEST_CALLS, FATAL, Broken, Frame, Labels, Scope, each, join
from nasdsl.compiler.elaborate.led import in_call
from nasdsl.compiler.elaborate.merging import add_up, select, where_there
from nasdsl.compiler.elaborate.nodes import apply_operator, copies_in
from nasdsl.compiler.elaborate.operations import guarded_items
from nasdsl.compiler.elaborate.values import Branches, Flow, Tensor
from nasdsl.compiler.graph import Shape
from nasdsl.compiler.ops.operator import Operator
from nasdsl.compiler.source import Span
from nasdsl.compiler.values import expr
from nasdsl.compiler.values.expr import Value
from nasdsl.compiler.values.plain import Symbol
from nasdsl.compiler.values.tree import Among, Case, Expr, measures_of

DEEPEST = 512
"""Copies under a searchable count. Each can be the last, so that the work of every analysis grows with the square."""

# --- Running text -----------------------------------------------------------------------------------------------------


def run_body(body: bound.Body, flow: Flow, frame: Frame) -> Flow:
    """Runs the steps of a body in order, in a scope of their own."""
    frame.builder.spend(1, None)
    frame = frame.nested()
    frame.builder.start((item.name for item in body.items if isinstance(item, bound.Let)), frame)
    for item in body.items:
        frame.builder.flow = flow
        if isinstance(item, bound.Let):
            try_let(item, frame)
        else:
            mark = frame.builder.mark()
            before, flow = flow, _try_item(item, flow, frame)
            frame.builder.come_to(flow, before, item.span)
            frame.builder.ran(item.span, mark, flow)
    return flow


def run_braces(value: v.Invocation, flow: Flow, frame: Frame) -> Flow:
    """Runs the text in a form's braces, whose steps and decisions stand where the form does."""
    assert value.frame is not None and value.block is not None
    inner = value.frame.but(
        path=frame.path, decisions=frame.decisions, uses=frame.uses, present=frame.present, cuts=frame.cuts
    )
    return run_body(value.block, flow, inner)


def try_step(node: bound.Expr, flow: Flow, frame: Frame) -> Flow:
    """Runs a step; after a mistake in it the next ones are still looked at."""
    try:
        return run_step(node, flow, frame)
    except CompileError as problem:
        if any(d.code in FATAL for d in problem.diagnostics):
            raise
        frame.builder.report(problem.diagnostics)
        return v.LOST


def _try_item(item: bound.Expr | bound.Require | bound.Labelled, flow: Flow, frame: Frame) -> Flow:
    """Runs a step or a `require` of a body. After a mistake in it the next ones are still looked at."""
    try:
        if isinstance(item, bound.Require):
            run_require(item, frame)
            return flow
        if isinstance(item, bound.Labelled):
            return _run_labelled(item, flow, frame)
        return run_step(item, flow, frame)
    except CompileError as problem:
        if any(d.code in FATAL for d in problem.diagnostics):
            raise
        frame.builder.report(problem.diagnostics)
        if isinstance(item, bound.Labelled):
            frame.labels.lost = True
            frame.scope.bind(item.label, Broken, item.place)
        return flow if isinstance(item, bound.Require) and not frame.builder.library_calls else v.LOST


def run_let(item: bound.Let, frame: Frame) -> None:
    if item.formals is not None:
        frame.scope.bind(item.name, v.Function(item.name, item.formals, item.value, frame), item.span)
        return
    value = evaluate(item.value, frame, join(frame.decisions, item.name))
    frame.scope.bind(item.name, value, item.span)
    frame.builder.stands_for(item.span, value)
    frame.builder.record(frame, item.name, value)


def try_let(item: bound.Let, frame: Frame) -> None:
    """Runs a `let`. After a mistake in it work goes on: what does not use the name may have mistakes of its own."""
    try:
        run_let(item, frame)
    except CompileError as problem:
        frame.scope.bind(item.name, Broken, item.span)
        if any(d.code in FATAL for d in problem.diagnostics):
            raise
        frame.builder.report(problem.diagnostics)


def run_require(item: bound.Require, frame: Frame) -> None:
    held = condition(item.condition, frame)
    words = " ".join(item.condition.span.text.split())
    if held is False and frame.present is True:
        raise error("never-holds", f"`{words}` never holds", item.condition.span)
    origin = "budget" if measures_of(held) else "require"
    frame.builder.require(held, frame, words, origin, item.condition.span)


def _run_labelled(item: bound.Labelled, flow: Flow, frame: Frame) -> Flow:
    flow = run_labelled(item.label, item.value, flow, frame)
    if v.is_lost(flow):
        frame.labels.lost = True
        frame.scope.bind(item.label, Broken, item.place)
        return flow
    if isinstance(flow, Tensor):
        flow = frame.labels.add(item.label, flow, frame)
    elif flow is None:
        frame.labels.absent.add(item.label)
    frame.scope.bind(item.label, flow, item.place)
    return flow


def try_labelled(label: str, value: bound.Expr, flow: Flow, frame: Frame) -> Flow:
    """As `run_labelled`; after a mistake what follows is still looked at."""
    try:
        return run_labelled(label, value, flow, frame)
    except CompileError as problem:
        if any(d.code in FATAL for d in problem.diagnostics):
            raise
        frame.builder.report(problem.diagnostics)
        return v.LOST


def run_labelled(label: str, value: bound.Expr, flow: Flow, frame: Frame) -> Flow:
    """Runs a step that goes by a label: a single call takes it as its name, anything else as a prefix."""
    if isinstance(value, bound.Calling | bound.Repeat | bound.For):
        return run_step(value, flow, frame, label)
    return run_step(value, flow, frame.under(label))


def run_step(node: bound.Expr, flow: Flow, frame: Frame, label: str = "") -> Flow:
    """Runs one step on what comes in. Where it goes by a label that is its name, else its own."""
    frame.builder.flow = flow
    if isinstance(node, bound.Pipe):
        for step in node.steps:
            mark = frame.builder.mark()
            before, flow = flow, try_step(step, flow, frame)
            frame.builder.come_to(flow, before, step.span)
            frame.builder.ran(step.span, mark, flow)
        return flow
    if isinstance(node, bound.Binary) and node.operator == "+":
        return _run_sum(node, flow, frame)
    if isinstance(node, bound.If):
        return _run_if(node, flow, frame)
    if isinstance(node, bound.Match):
        return _run_match(node, flow, frame)
    if isinstance(node, bound.Body):
        return run_body(node, flow, frame)
    if isinstance(node, bound.Repeat):
        return _run_repeat(node, flow, frame, label or node.step)
    if isinstance(node, bound.For):
        return _run_for(node, flow, frame, label or node.step)
    if isinstance(node, bound.Calling):
        name = label or node.step
        value = evaluate(node, frame, frame.decisions if _joins(node) else join(frame.decisions, name))
        return apply(value, flow, frame, name, node.span)
    value = evaluate(node, frame)
    return apply(value, flow, frame, node.name if isinstance(node, bound.Name) else "", node.span)


def _joins(node: bound.Calling) -> bool:
    """Whether a form's braces hold steps of the body around it."""
    if not isinstance(node, bound.Invocation) or node.body is None:
        return False
    return isinstance(node.definition, bound.Form) and node.definition.joins


def _run_if(node: bound.If, flow: Flow, frame: Frame) -> Flow:
    test = condition(node.condition, frame)
    if not isinstance(test, Expr):
        return run_step(node.then if test else node.otherwise, flow, frame)
    cases = [(test, node.then), (expr.negate(test), node.otherwise)]
    outcomes = each([partial(run_step, body, flow, frame.when(c)) for c, body in cases])
    _note_left_out([(c, made, body.span) for (c, body), made in zip(cases, outcomes, strict=True)], flow, frame)
    return select([(c, made) for (c, _), made in zip(cases, outcomes, strict=True)], frame.under("if"), node.span)


def _run_match(node: bound.Match, flow: Flow, frame: Frame) -> Flow:
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


def _terms(node: bound.Expr) -> list[bound.Expr]:
    if isinstance(node, bound.Binary) and node.operator == "+":
        return [*_terms(node.left), *_terms(node.right)]
    return [node]


def _run_sum(node: bound.Binary, flow: Flow, frame: Frame) -> Flow:
    terms = _terms(node)

    def add(flow: Flow, frame: Frame) -> Flow:
        outcomes = each([partial(run_step, term, flow, frame) for term in terms])
        added = [(made, True, term.span) for made, term in zip(outcomes, terms, strict=True)]
        return add_up(added, frame, "sum", node.span)

    if any(_starts_anew(term, frame) for term in terms):  # there is something to add whatever comes in
        return add(flow, frame)
    return where_there(flow, frame, add)


def _starts_anew(term: bound.Expr, frame: Frame) -> bool:
    """Whether a term starts from a labelled tensor, and not from what comes in."""
    first = term.steps[0] if isinstance(term, bound.Pipe) else term
    while isinstance(first, bound.Index):
        first = first.base
    if not isinstance(first, bound.Name):
        return False
    binding = frame.scope.find(first.name)
    value = frame.labels.named.get(first.name) if binding is None else binding.value
    return isinstance(value[0] if isinstance(value, tuple) and value else value, Tensor | Branches)


def _run_repeat(node: bound.Repeat, flow: Flow, frame: Frame, name: str) -> Flow:
    frame = frame.under(name)
    count = evaluate(node.count, frame, join(frame.decisions, "depth"))
    frame.builder.record(frame, "depth", count)
    values = count.values if isinstance(count, Case) else (count,)
    if isinstance(count, Expr) and not isinstance(count, Case):
        raise error("not-constant", "a repeat's count is a number, or one `oneof`", node.count.span)
    for value in values:
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            if isinstance(value, Symbol):
                raise CompileError([no_value(value.word, node.count.span, frame.scope)])
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
        flow = run_body(node.body, flow, inner.but(copies=True))
        if i + 1 in values:
            exits.append((expr.equal(count, i + 1), flow))
    return exits[0][1] if len(exits) == 1 else select(exits, frame.under("exit"), node.span)


def _run_for(node: bound.For, flow: Flow, frame: Frame, name: str) -> Flow:
    """A body for each item. One that choices leave out lets through what comes in."""
    source = node.bind.source
    value = evaluate(source, frame, join(frame.decisions, f"{name}.{node.bind.name}"))
    for i, (item, there) in enumerate(guarded_items(value, source, frame)):
        inner = frame.under(f"{name}[{i}]").nested()
        inner.scope.bind(node.bind.name, item, node.bind.span)
        frame.builder.stands_for(node.bind.span, item)
        made = run_body(node.body, flow, inner.when(there).but(copies=True))
        if there is True:
            flow = made
        elif there is not False:
            flow = select([(there, made), (expr.negate(there), flow)], frame.under(f"{name}[{i}].exit"), node.span)
    return flow


# --- Applying operator values -----------------------------------------------------------------------------------------


def apply(value: Any, flow: Flow, frame: Frame, name: str, span: Span) -> Flow:
    """What an operator makes of its input. A tensor or a set of branches takes the input's place."""
    frame.builder.spend(1, span)
    if isinstance(value, Tensor | Branches):
        return value
    if isinstance(value, tuple | v.Guarded) and (tensors := v.as_branches(value)) is not None:
        return tensors
    if v.is_none(value) or value is None:
        return None
    if isinstance(value, v.Invocation):
        definition = value.definition
        inner = frame.using(value, path=join(frame.path, name), decisions=value.path)
        if isinstance(definition, bound.Operator):
            if value.shared:
                inner = inner.but(cuts=copies_in(inner.path))
            return _apply_user(value, definition, flow, inner)
        if isinstance(definition, Operator):
            return apply_operator(definition, value.arguments, flow, inner, span, value.spans)
        if v.is_lost(flow) and value.block is None:
            return flow
        inner = inner if definition.own_step else inner.but(path=frame.path)
        made: Flow = definition.run(value, flow, inner, name, span)
        return made
    if isinstance(value, v.Sequence):
        for step in value.steps:
            flow = apply(step, flow, frame, _site(step, name), own_place(step, span))
        return flow
    if isinstance(value, v.Sum):
        return _apply_sum(value, flow, frame, name, span)
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
        return run_step(value.expr, flow, inner)
    if isinstance(value, Symbol):
        words = frame.builder.words
        help = f"write `{value.word}()`" if value.word in words else near(value.word, [*frame.scope, *words])
        raise CompileError([no_step(value.word, value.span or span, help)])
    raise v.not_an_operator(value, span)


def _apply_sum(value: v.Sum, flow: Flow, frame: Frame, name: str, span: Span) -> Flow:
    places = [own_place(term, span) for term in value.terms]

    def add(flow: Flow, frame: Frame) -> Flow:
        outcomes = [
            (apply(term, flow, frame, _site(term, name), place), True, place)
            for term, place in zip(value.terms, places, strict=True)
        ]
        return add_up(outcomes, frame, "sum", span)

    return add(flow, frame) if v.starts_anew(value.terms) else where_there(flow, frame, add)


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


def _apply_user(value: v.Invocation, operator: bound.Operator, flow: Flow, frame: Frame) -> Flow:
    if frame.depth > DEEPEST_CALLS:
        raise _endless(operator, value.span)
    inner = frame.but(
        depth=frame.depth + 1,
        scope=Scope(library.home(operator, frame.builder).scope),
        incoming=flow,
        operator=operator.name,
        labels=Labels(frame.present),
        copies=False,
    )
    for name, argument in value.arguments.items():
        inner.scope.bind(name, argument, value.spans.get(name))
    frame.builder.instances[frame.path] = operator.name
    if library.inside(value.span):
        return _run_user(value, operator, flow, inner, frame)
    if not operator.file:
        return _run_of_file(value, operator, flow, inner, frame)
    calls, mark = frame.builder.library_calls, frame.builder.mark()
    calls.append(value)
    try:
        made = _run_user(value, operator, flow, inner, frame)
    except CompileError as problem:
        raise CompileError(library.brought_out(problem.diagnostics, value)) from None
    finally:
        calls.pop()
    frame.builder.ran(value.span, mark, made)
    return made


def _run_of_file(value: v.Invocation, operator: bound.Operator, flow: Flow, inner: Frame, frame: Frame) -> Flow:
    calls, mark = frame.builder.calls, frame.builder.mark()
    calls.append(value)
    for formal in operator.formals:
        frame.builder.stands_for(formal.span, value.arguments.get(formal.name))
    try:
        made = _run_user(value, operator, flow, inner, frame)
    except CompileError as problem:
        raise CompileError([in_call(one, calls) for one in problem.diagnostics]) from None
    finally:
        calls.pop()
    frame.builder.ran(value.span, mark, made)
    return made


def _run_user(value: v.Invocation, operator: bound.Operator, flow: Flow, inner: Frame, frame: Frame) -> Flow:
    body = operator.body
    try:
        if isinstance(body, bound.Body):
            return run_body(body, flow, inner)
        if isinstance(body, bound.Repeat):  # the whole body: the copies go by the operator's own name
            return _run_repeat(body, flow, inner, "")
        if isinstance(body, bound.Apply):
            return apply(evaluate(body, inner, inner.decisions), flow, inner, "", body.span)
        return run_step(body, flow, inner)
    except RecursionError:
        raise _endless(operator, value.span) from None


def _endless(operator: bound.Operator, span: Span) -> CompileError:
    return error("recursion", f"the operator `{operator.name}` uses itself without end", span)
