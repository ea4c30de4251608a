"""Calls are bound: each to its definition, with its arguments by parameter."""

from __future__ import annotations

from nasdsl.compiler import bound, ops, syntax
from nasdsl.compiler.bind import arguments as a
from nasdsl.compiler.bind.arguments import Given
from nasdsl.compiler.bind.base import AMBIENT, Base, Each, Place
from nasdsl.compiler.bind.habits import near, near_operator
from nasdsl.compiler.bind.messages import not_callable
from nasdsl.compiler.diagnostics import Diagnostic
from nasdsl.compiler.ops.operator import Operator
from nasdsl.compiler.values.plain import Symbol

_NUMBERS = ("int", "positive", "odd", "number", "bool", "width", "scale", "widths", "list")
"""Types of parameters for which a symbol will not do."""

Bindings = dict[str, bound.Expr]


class Calls(Base):
    def call(self, node: syntax.Call, place: Place, step: str = "", each: Each | None = None) -> bound.Expr:
        """A call; `each` binds the options of a `oneof`."""
        name, words = node.function.name, self.vocabulary
        known, declared = place.names.find(name)
        if isinstance(declared, syntax.Let) and declared.formals is not None:
            return self.evaluation(node, declared, place, step)
        operator = self.declared.operators.get(name) or self.library(name)
        if operator is not None:
            return self.invocation(node, operator, place, step)
        form = words.forms.get(name)
        if form is not None and (name not in words.functions or not _works_on_values(node)):
            return self.form(node, form, place, step)
        if name in words.functions:
            return self.function(node, words.functions[name], place, step, each or self.value)
        if name in self.declared.fusions:
            return self.fusion_as_operator(node.function)
        if place.settings:
            return self.setting(node, place, step)
        catalogued = ops.find(name)
        if catalogued is not None:
            return self.operator(node, catalogued, place, step)
        if known:
            return self.again(node, declared, place, step)
        self.arguments(node, place)
        if name in AMBIENT:
            return self.told(not_callable(name, "a word of the language", node.span))
        functions = [n for n in place.names if isinstance(f := place.names.find(n)[1], syntax.Let) and f.formals]
        candidates = [*self.callable_names(), *words.functions, *functions]
        message, help = f"no operator or function named `{name}`", near_operator(name, candidates)
        return self.report("unknown-operator", message, node.function.span, "not found", help=help)

    def again(self, node: syntax.Call, declared: syntax.Node | None, place: Place, step: str) -> bound.Expr:
        """A call of a value: what it is shows when it is run, unless the text says plainly that it is no operator."""
        name = node.function.name
        given, problems = a.given_in(node.arguments or (), f"`{name}` takes arguments with names")
        made = [bound.Given(one.key, one.word, self.value(one.value, place), span=one.place) for one in given]
        if node.body is not None:
            self.body(node.body, place)
            problems.append(a.no_body(f"`{name}`", node.body))
        if isinstance(declared, syntax.Param) or (isinstance(declared, syntax.Let) and self.is_plain(declared.value)):
            problems.append(not_callable(name, "a value that was decided where it is defined", node.span))
        if problems:
            return self.told(*problems)
        callee = bound.Name(name, declared, None, span=node.function.span)
        return bound.Again(name, step, callee, tuple(made), span=node.span)

    def is_plain(self, node: syntax.Expr) -> bool:
        """Whether an expression is no operator, whatever the names in it stand for."""
        if isinstance(node, syntax.Call):
            word = node.function.name
            return word in self.vocabulary.functions and word not in ("oneof", *self.vocabulary.forms)
        kinds = (syntax.Number, syntax.String, syntax.List, syntax.Range, syntax.Size, syntax.Comprehension)
        return isinstance(node, kinds)

    def arguments(self, node: syntax.Call, place: Place) -> None:
        """The arguments of a call that is not known, for the mistakes in them."""
        for item in node.arguments or ():
            if not isinstance(item, syntax.Let | syntax.Require):
                self.value(item.value if isinstance(item, syntax.Named) else item, place)
        if node.body is not None:
            self.body(node.body, place)

    # --- What files declare ------------------------------------------------------------------------------------------

    def library(self, name: str) -> bound.Operator | None:
        raise NotImplementedError

    def matched(
        self, node: syntax.Call, names: tuple[str, ...], needed: list[str], owner: str, positional: bool = False
    ) -> tuple[dict[str, Given], bool]:
        """Each argument by its parameter, and whether all is well."""
        given, problems = a.given_in(node.arguments or (), a.takes(owner, names))
        found, more = a.match(given, names, owner, positional)
        problems += more
        absent = [name for name in needed if name not in found and (name != a.BODY or node.body is None)]
        if absent and not problems:  # an argument with a mistake may be the one that is missing
            problems.append(a.missing(node, names, absent, owner))
        if problems:
            self.told(*problems)
        return found, not problems

    def evaluation(self, node: syntax.Call, declared: syntax.Let, place: Place, step: str) -> bound.Expr:
        assert declared.formals is not None
        name = node.function.name
        names, needed = a.formals_of(declared.formals)
        found, well = self.matched(node, names, list(needed), f"`{name}`", positional=True)
        made = {key: self.value(one.value, place) for key, one in found.items()}
        if node.body is not None:
            return self.told(a.no_body("a function", node.body))
        return (
            bound.Evaluation(name, step, made, node.function.span, span=node.span)
            if well
            else bound.Bad(span=node.span)
        )

    def invocation(self, node: syntax.Call, operator: bound.Operator, place: Place, step: str) -> bound.Expr:
        names, needed = a.formals_of(operator.text.formals)
        names = a.with_shared(names)
        found, well = self.matched(node, names, list(needed), f"`{operator.name}`")
        made = {key: self.value(one.value, place) for key, one in found.items()}
        body = None if node.body is None else self.body(node.body, place)
        if problems := a.body_problem(node, names, found, f"`{operator.name}`"):
            return self.told(*problems)
        if not well:
            return bound.Bad(span=node.span)
        return bound.Invocation(node.function.name, step, operator, made, (), body, span=node.span)

    def operator(self, node: syntax.Call, operator: Operator, place: Place, step: str) -> bound.Expr:
        names, needed = a.parameters_of(operator, self.declared.defaults)
        found, well = self.matched(node, names, list(needed), f"`{operator.name}`")
        made: Bindings = {}
        for key, one in found.items():
            param = operator.param(key)
            if param is not None and param.type in _NUMBERS:
                words = (*param.choices, *(("none",) if param.default is None else ()))
                made[key] = self.number(one.value, place, words)
            else:
                made[key] = self.value(one.value, place)
        if node.body is not None:
            self.body(node.body, place)
            return self.told(a.no_body(f"`{operator.name}`", node.body))
        if not well:
            return bound.Bad(span=node.span)
        return bound.Invocation(operator.name, step, operator, made, span=node.span)

    # --- What the language has ---------------------------------------------------------------------------------------

    def form(self, node: syntax.Call, form: bound.Form, place: Place, step: str) -> bound.Expr:
        params = {p.name: p for p in form.parameters}
        owner, names = f"`{form.name}`", tuple(params)
        given, problems = a.given_in(node.arguments or (), a.takes(owner, names))
        rest: list[bound.Expr] = []
        if form.rest:
            rest = [self.by_role(form.rest, one.value, place) for one in given if not one.key]
            given = [one for one in given if one.key]
        found, more = a.match(given, names, owner)
        problems += more
        made = {key: self.by_role(params[key].role, one.value, place, params[key].words) for key, one in found.items()}
        body = None
        if node.body is not None:
            body = self.body(node.body, place.inside(dict.fromkeys(form.names)))
            if not form.body:
                problems.append(a.no_body(owner, node.body))
        elif form.body and "operator" not in found and not problems:
            help = f"write `{form.name} {{ ... }}`"
            problems.append(Diagnostic("missing-body", f"{owner} needs a body", node.span, help=help))
        for param in form.parameters:
            given_elsewhere = param.name in found or param.name in self.declared.defaults
            if param.missing and not given_elsewhere and not problems:
                problems.append(Diagnostic("missing-argument", param.missing, node.function.span, help=param.usage))
        if problems:
            return self.told(*problems)
        return bound.Invocation(form.name, step, form, made, tuple(rest), body, span=node.span)

    def by_role(self, role: str, node: syntax.Node, place: Place, words: tuple[str, ...] = ()) -> bound.Expr:
        """An argument of a form."""
        if role == "rule":
            return self.rule(node, place)
        if role == "step":
            return self.step(node, place)
        if role == "number":
            return self.number(node, place, words)
        if isinstance(node, syntax.Name) and node.name in words:
            return bound.Constant(Symbol(node.name, node.span), span=node.span)
        return self.value(node, place)

    def rule(self, node: syntax.Node, place: Place) -> bound.Expr:
        """The rule of a `fuse`: a fusion's name, or a call of it."""
        call = node if isinstance(node, syntax.Call) else syntax.Call(node, (), None, span=node.span)  # type: ignore[arg-type]
        if not isinstance(call.function, syntax.Name):
            return self.report("unknown-fusion", "the name of a fusion is needed here", node.span)
        name, fusions = call.function.name, self.declared.fusions
        fusion = fusions.get(name)
        if fusion is None:
            help = near(name, fusions)
            if name in self.callable_names():
                help = f"`{name}` is an operator; a rule is declared with `fusion name {{ same: ..., merge: sum() }}`"
            elif not help:
                declare = "declare it with `fusion name { same: ..., from: neighbours, merge: sum() }`"
                help = f"there is {', '.join(fusions)}" if fusions else declare
            self.arguments(call, place)
            message = f"no fusion named `{name}`"
            return self.report("unknown-fusion", message, call.function.span, "not found", help=help)
        names, needed = a.formals_of(fusion.text.formals)
        if needed and not isinstance(node, syntax.Call):
            message, help = f"`{name}` needs `{'`, `'.join(needed)}`", f"write `fuse({name}(...))`"
            return self.report("missing-argument", message, node.span, help=help)
        found, well = self.matched(call, names, list(needed), f"`{name}`")
        made = {key: self.value(one.value, place) for key, one in found.items()}
        return bound.Rule(fusion, made, span=node.span) if well else bound.Bad(span=node.span)

    def function(self, node: syntax.Call, function: bound.Function, place: Place, step: str, each: Each) -> bound.Expr:
        """A call of a function of the language: its arguments have no names, the options of `oneof` may have labels."""
        name = function.name
        if name == "oneof":
            return self.choice(node, function, place, step, each)
        if name == "previous":
            return self.previous(node, function, place, step)
        problems = [] if node.body is None else [a.no_body(f"`{name}`", node.body)]
        given = node.arguments or ()
        assert function.call is not None
        usage = f"write `{function.call.example}`"
        made: list[bound.Expr] = []
        for position, item in enumerate(given):
            if isinstance(item, syntax.Let | syntax.Require):
                problems.append(a.no_argument(item))
                continue
            if isinstance(item, syntax.Named):
                message = f"the arguments of `{name}` have no names"
                problems.append(Diagnostic("bad-argument", message, item.key.span, help=usage))
            value = item.value if isinstance(item, syntax.Named) else item
            bind = self.number if function.takes_number(position, len(given)) else self.value
            made.append(bind(value, place))
        least, most = function.call.least, function.call.most
        if not least <= len(given) <= most:
            needs = str(least) if least == most else f"at least {least}"
            here = "here is none" if not given else f"here {'is' if len(given) == 1 else 'are'} {len(given)}"
            message = f"`{name}` takes {needs} argument{'s' if most == least > 1 else ''}, and {here}"
            problems.append(Diagnostic("wrong-count", message, node.span, help=usage))
        if problems:
            return self.told(*problems)
        return bound.Apply(name, step, function, tuple(made), span=node.span)

    def choice(self, node: syntax.Call, function: bound.Function, place: Place, step: str, each: Each) -> bound.Expr:
        labels: list[str] = []
        options: list[bound.Expr] = []
        for item in node.arguments or ():
            if isinstance(item, syntax.Let | syntax.Require):
                options.append(self.report("misplaced", "an option is a value", item.span))
                labels.append("")
                continue
            named = isinstance(item, syntax.Named)
            options.append(each(item.value if isinstance(item, syntax.Named) else item, place))
            label = item.key if isinstance(item, syntax.Named) else None
            if named and not isinstance(label, syntax.Name):
                assert label is not None
                options[-1] = self.report("bad-argument", "an option's label is a word", label.span)
            labels.append(label.name if isinstance(label, syntax.Name) else "")
        if node.body is not None:
            return self.report("misplaced", "`oneof` takes its options in parentheses", node.body.span)
        return bound.Apply("oneof", step, function, tuple(options), tuple(labels), span=node.span)

    def previous(self, node: syntax.Call, function: bound.Function, place: Place, step: str) -> bound.Expr:
        """That the operator around a `previous` makes the value it asks for."""
        given = list(node.arguments or ())
        usage = "write `previous(planes, else: base)`"
        asks = len(given) == 2 and isinstance(given[0], syntax.Name) and isinstance(given[1], syntax.Named)
        if not asks or not isinstance(given[1].key, syntax.Else) or node.body is not None:  # type: ignore[union-attr]
            message = "`previous` takes the name of a `let` and what to start from"
            return self.report("bad-argument", message, node.span, help=usage)
        word, otherwise = given
        assert isinstance(word, syntax.Name) and isinstance(otherwise, syntax.Named)
        start = self.value(otherwise.value, place)
        if place.made is None:
            return self.report("misplaced", "`previous` stands in the body of an operator", node.span)
        if word.name not in place.made:
            message = f"no `let` of this operator is named `{word.name}`"
            help = near(word.name, place.made) or "`previous` asks for a `let` of the same operator"
            return self.report("unknown-name", message, word.span, "not found", help=help)
        return bound.Apply("previous", step, function, (start,), word=word.name, span=node.span)

    def setting(self, node: syntax.Call, place: Place, step: str) -> bound.Expr:
        positional: list[bound.Expr] = []
        named: Bindings = {}
        for item in node.arguments or ():
            if isinstance(item, syntax.Named) and isinstance(item.key, syntax.Name):
                named[item.key.name] = self.value(item.value, place)
            elif isinstance(item, syntax.Named | syntax.Let | syntax.Require):
                positional.append(self.told(a.no_argument(item)))
            else:
                positional.append(self.value(item, place))
        return bound.Setting(node.function.name, step, tuple(positional), named, span=node.span)


def _works_on_values(node: syntax.Call) -> bool:
    """Whether a call of a word that is a form and a function means the function: it has one argument without a name."""
    given = node.arguments or ()
    return len(given) == 1 and not isinstance(given[0], syntax.Named)
