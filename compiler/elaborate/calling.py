"""Calls become operators with their arguments, or what a function of the file gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from nasdsl.compiler import bound
from nasdsl.compiler.bind.arguments import Given, match, needs, with_shared
from nasdsl.compiler.bind.messages import no_value, not_callable
from nasdsl.compiler.diagnostics import CompileError, Label, error
from nasdsl.compiler.elaborate import library
from nasdsl.compiler.elaborate import values as v
from nasdsl.compiler.elaborate.arguments import NOTHING, Evaluate, bind_arguments, bind_formals, checked
from nasdsl.compiler.elaborate.frame import DEEPEST_CALLS, Broken, Frame, Scope, join
from nasdsl.compiler.source import Span
from nasdsl.compiler.values.plain import Symbol


def invocation(node: bound.Invocation, frame: Frame, path: str, evaluate: Evaluate) -> v.Invocation:
    """An operator with its arguments. What its parameters default to is what the place says where it is defined."""
    definition = node.definition
    spans = {name: value.span for name, value in node.arguments.items()}
    if isinstance(definition, bound.Form):
        arguments = {name: evaluate(value, frame, join(path, name)) for name, value in node.arguments.items()}
        if node.rest:
            arguments["*"] = tuple(evaluate(value, frame, path) for value in node.rest)
        return v.Invocation(definition, arguments, path, node.span, node.body, frame, spans)
    if not isinstance(definition, bound.Operator):
        arguments = bind_arguments(definition, node.arguments, node.span, frame, path, evaluate)
        return v.Invocation(definition, arguments, path, node.span, None, frame, spans)
    home = library.home(definition, frame.builder)
    preset = frame.builder.defaults if definition.file else NOTHING
    owner = f"`{definition.name}`"
    decided: set[str] = set()
    arguments = bind_formals(
        definition.formals, node.arguments, frame, path, evaluate, owner, home, preset, node.body, decided=decided
    )
    shared = _shares_weights(definition, arguments, spans)
    return v.Invocation(
        definition, arguments, path, node.span, None, frame, spans, shared=shared, decided=frozenset(decided)
    )


def _shares_weights(operator: bound.Operator, arguments: dict[str, Any], spans: dict[str, Span]) -> bool:
    """Takes `share:` out of the arguments of an operator that has no parameter of that name."""
    if "share" not in arguments or any(formal.name == "share" for formal in operator.formals):
        return False
    given = arguments.pop("share")
    if v.is_none(given) or given == Symbol("none"):
        return False
    if given != Symbol("weights"):
        raise error(
            "bad-argument",
            f"all of `{operator.name}` shares its weights with its other copies, or none of it",
            spans["share"],
            help="write `share: weights`, or nothing",
        )
    return True


def evaluation(node: bound.Evaluation, frame: Frame, path: str, evaluate: Evaluate) -> Any:
    """A call of a function of the file: it decides anew."""
    found = frame.scope.find(node.called)
    if found is None or found.value is Broken:
        raise CompileError([] if found is not None else [no_value(node.called, node.span, frame.scope)])
    if not isinstance(found.value, v.Function):  # the name is defined again behind its function
        raise CompileError([not_callable(node.called, v.describe(found.value), node.span)])
    return _called(found.value, node.arguments, node.place, frame, path, evaluate)


def _called(
    function: v.Function, given: Mapping[str, bound.Expr], place: Span, frame: Frame, path: str, evaluate: Evaluate
) -> Any:
    endless = error("recursion", f"the function `{function.name}` calls itself without end", place)
    if frame.depth > DEEPEST_CALLS:
        raise endless
    owner = f"`{function.name}`"
    arguments = bind_formals(function.formals, given, frame, path, evaluate, owner, function.frame)
    inner = function.frame.but(
        scope=Scope(function.frame.scope),
        decisions=frame.decisions,
        present=frame.present,
        given=frame.given,
        uses=frame.uses,
        incoming=frame.incoming,
        labels=frame.labels,
        depth=frame.depth + 1,
    )
    for name, value in arguments.items():
        inner.scope.bind(name, value, given[name].span if name in given else None)
    try:
        return evaluate(function.body, inner, path)
    except RecursionError:
        raise endless from None


def again(node: bound.Again, frame: Frame, path: str, evaluate: Evaluate) -> Any:
    """An operator that was decided, with other arguments: what it decided stays. Of several each gets them."""
    value = evaluate(node.callee, frame, path)
    given = [Given(one.key, one.word, one.span, one.value) for one in node.given]
    if isinstance(value, v.Function):
        names = tuple(formal.name for formal in value.formals)
        found, problems = match(given, names, f"`{value.name}`", positional=True)
        absent = [formal.name for formal in value.formals if formal.default is None and formal.name not in found]
        if absent and not problems:
            problems = [needs(f"`{value.name}`", absent, node.span)]
        if problems:
            raise CompileError(problems)
        return _called(value, {name: one.value for name, one in found.items()}, node.span, frame, path, evaluate)
    return _with_arguments(value, given, node, frame, path, evaluate)


def _with_arguments(
    value: Any, given: Sequence[Given], node: bound.Again, frame: Frame, path: str, evaluate: Evaluate
) -> Any:
    if v.is_none(value):
        return value
    if isinstance(value, v.Alternatives):
        cases = [
            replace(case, value=_with_arguments(case.value, given, node, frame.when(case.condition), path, evaluate))
            for case in value.cases
        ]
        return v.Alternatives(tuple(cases), node.span, value.path)
    if not isinstance(value, v.Invocation) or isinstance(value.definition, bound.Form):
        raise CompileError([not_callable(node.called, v.describe(value), node.span)])
    definition, owner = value.definition, f"`{value.name}`"
    params = definition.formals if isinstance(definition, bound.Operator) else definition.params
    found, problems = match(given, with_shared(tuple(param.name for param in params)), owner)
    if problems:
        made_here = Label(value.span, f"`{node.called}` is this")
        raise CompileError([replace(one, others=(*one.others, made_here)) for one in problems])
    changes = {name: one.value for name, one in found.items()}
    kept = {name: old for name, old in value.arguments.items() if name not in changes}
    spans = {**value.spans, **{name: one.span for name, one in changes.items()}}
    if not isinstance(definition, bound.Operator):
        made = {name: evaluate(one, frame, join(path, name)) for name, one in changes.items()}
        checks = {param.name: param for param in definition.params}
        for name, one in changes.items():
            if name in checks:
                made[name] = checked(made[name], checks[name], one.span, frame, definition.name)
        arguments = {**kept, **made}
    else:  # a default follows what it is computed from, unless it decided something
        settled = {name: old for name, old in kept.items() if name in value.spans or name in value.decided}
        decided = set(value.decided)
        home = library.home(definition, frame.builder)
        preset = frame.builder.defaults if definition.file else NOTHING
        arguments = bind_formals(
            definition.formals, changes, frame, path, evaluate, owner, home, preset, known=settled, decided=decided
        )
        for name in arguments.keys() - settled.keys() - changes.keys():
            arguments[name] = _tied(arguments[name], value.arguments.get(name))
        value = replace(value, decided=frozenset(decided))
        if "share" in changes and _shares_weights(definition, arguments, spans):
            return replace(value, arguments=arguments, span=node.span, spans=spans, shared=True)
    return replace(value, arguments=arguments, span=node.span, spans=spans)


def _tied(new: Any, old: Any) -> Any:
    """A default that was computed anew: what is the same operator as before decides what that has decided."""
    match new, old:
        case v.Invocation(), v.Invocation() if new.definition is old.definition:
            arguments = {name: _tied(value, old.arguments.get(name)) for name, value in new.arguments.items()}
            return replace(new, arguments=arguments, path=old.path, known=old.known)
        case v.Text(), v.Text() if new.expr is old.expr:
            return replace(new, path=old.path, known=old.known)
        case v.Sequence(), v.Sequence() if len(new.steps) == len(old.steps):
            return replace(new, steps=tuple(map(_tied, new.steps, old.steps)))
        case v.Sum(), v.Sum() if len(new.terms) == len(old.terms):
            return replace(new, terms=tuple(map(_tied, new.terms, old.terms)))
        case v.Alternatives(), v.Alternatives() if len(new.cases) == len(old.cases):
            pairs = zip(new.cases, old.cases, strict=True)
            return replace(new, cases=tuple(replace(one, value=_tied(one.value, other.value)) for one, other in pairs))
        case tuple(), tuple() if len(new) == len(old):
            return tuple(map(_tied, new, old))
    return new


def rule(node: bound.Rule, frame: Frame, path: str, evaluate: Evaluate) -> v.Fusion:
    """A fusion with its arguments."""
    fusion, home = node.fusion, library.home(node.fusion, frame.builder)
    if not fusion.formals:
        return v.Fusion(fusion, home)
    arguments = bind_formals(fusion.formals, node.arguments, frame, path, evaluate, f"`{fusion.name}`", home)
    scope = Scope(home.scope)
    for name, value in arguments.items():
        scope.bind(name, value, node.arguments[name].span if name in node.arguments else None)
    return v.Fusion(fusion, home.but(scope=scope))


def setting(node: bound.Setting, frame: Frame, path: str, evaluate: Evaluate) -> v.Setting:
    positional = tuple(evaluate(item, frame, path) for item in node.positional)
    named = {key: evaluate(item, frame, path) for key, item in node.named.items()}
    return v.Setting(node.called, positional, named, node.span)
