"""Steps are bound: each knows the name by which paths go."""

from __future__ import annotations

from collections.abc import Iterable

from nasdsl.compiler import bound, syntax
from nasdsl.compiler.bind.base import AMBIENT, NO_NAMES, Base, Extent, Place, StepNames, extent
from nasdsl.compiler.bind.habits import near_operator
from nasdsl.compiler.bind.messages import no_step
from nasdsl.compiler.bind.walk import walk
from nasdsl.compiler.diagnostics import Label
from nasdsl.compiler.source import Span


def step_names(body: Iterable[syntax.Item]) -> dict[Extent, str]:
    """The name of each call that is a step of the body, by its place: its operator's name, numbered where there are
    several.

    A label takes the place of the name; `residual`, `match`, braces and the two sides of a sum belong to the same body.
    """
    found: list[tuple[Extent, str]] = []
    for item in body:
        _collect(item, found)
    totals: dict[str, int] = {}
    for _, name in found:
        totals[name] = totals.get(name, 0) + 1
    seen: dict[str, int] = {}
    out: dict[Extent, str] = {}
    for place, name in found:
        out[place] = name if totals[name] == 1 else f"{name}[{seen.get(name, 0)}]"
        seen[name] = seen.get(name, 0) + 1
    return out


def _collect(node: syntax.Item, found: list[tuple[Extent, str]]) -> None:
    """The steps in a part of a body. A labelled one goes by its label."""
    if isinstance(node, syntax.Pipe):
        for step in node.steps:
            _collect(step, found)
    elif isinstance(node, syntax.Binary) and node.operator == "+":
        _collect(node.left, found)
        _collect(node.right, found)
    elif isinstance(node, syntax.If):
        _collect(node.then, found)
        _collect(node.otherwise, found)
    elif isinstance(node, syntax.Block):
        for item in node.items:
            _collect(item, found)
    elif isinstance(node, syntax.Call):
        if node.function.name == "residual" and node.body is not None:
            _collect(node.body, found)
        else:
            found.append((extent(node), step_name(node)))
    elif isinstance(node, syntax.Repeat):
        found.append((extent(node), "repeat"))
    elif isinstance(node, syntax.For):
        found.append((extent(node), "for"))


def step_name(call: syntax.Call) -> str:
    """`fuse(rule)` goes by the rule's name, any other call by its operator's."""
    first = call.arguments[0] if call.arguments else None
    if call.function.name == "fuse" and isinstance(first, syntax.Name):
        return first.name
    return call.function.name


class Steps(Base):
    def body(self, node: syntax.Block, place: Place) -> bound.Body:
        names = step_names(node.items)
        seen: dict[str, Span] = {}
        items: list[bound.Item] = []
        for item in node.items:
            key = item.name if isinstance(item, syntax.Let) else item.key if isinstance(item, syntax.Named) else None
            items.append(self.item(item, place, names))
            if isinstance(key, syntax.Name):
                if key.name in seen:
                    where = (Label(seen[key.name], "here first"),)
                    message = f"the name `{key.name}` stands for two things in one body"
                    items[-1] = self.report("duplicate", message, key.span, others=where)
                seen.setdefault(key.name, key.span)
        return bound.Body(tuple(items), span=node.span)

    def item(self, item: syntax.Item, place: Place, names: StepNames) -> bound.Item:
        if isinstance(item, syntax.Let):
            return self.let(item, place)
        if isinstance(item, syntax.Require):
            return self.require(item, place)
        if not isinstance(item, syntax.Named):
            return self.step(item, place, names)
        value = self.alone(item.value, place)
        if isinstance(item.key, syntax.Else):
            return self.stray_else(item.key)
        if not isinstance(item.key, syntax.Name):
            return self.report("bad-label", "a step's label is a word", item.key.span)
        return bound.Labelled(item.key.name, value, item.key.span, span=item.span)

    def require(self, item: syntax.Require, place: Place) -> bound.Require:
        asks = any(isinstance(node, syntax.Field) for node in walk(item))
        return bound.Require(self.value(item.condition, place), asks, span=item.span)

    def alone(self, node: syntax.Node, place: Place) -> bound.Expr:
        """A step that stands behind a label, or is an operator's whole body."""
        return self.step(node, place, step_names([node]))  # type: ignore[list-item]

    def step(self, node: syntax.Node, place: Place, names: StepNames = NO_NAMES) -> bound.Expr:
        """Something that is applied to a tensor."""
        if isinstance(node, syntax.Name):
            if node.name not in place.names and node.name not in AMBIENT and node.name != "none":
                return self.unknown_step(node, place)
        elif isinstance(node, syntax.Pipe):
            return bound.Pipe(tuple(self.step(step, place, names) for step in node.steps), span=node.span)
        elif isinstance(node, syntax.Binary) and node.operator == "+":
            left, right = self.step(node.left, place, names), self.step(node.right, place, names)
            return bound.Binary("+", left, right, span=node.span)
        elif isinstance(node, syntax.If):
            return self.conditional(node, place, lambda part, place: self.step(part, place, names))
        elif isinstance(node, syntax.Block):
            return self.body(node, place)
        elif isinstance(node, syntax.Match):
            return self.match(node, place, self.alone)
        elif isinstance(node, syntax.Repeat):
            count, inner = self.number(node.count, place), place.inside({"first": None})
            return bound.Repeat(names.get(extent(node), "repeat"), count, self.body(node.body, inner), span=node.span)
        elif isinstance(node, syntax.For):
            body = self.body(node.body, place.inside({node.bind.name: node.bind}))
            return bound.For(names.get(extent(node), "for"), self.bind(node.bind, place), body, span=node.span)
        elif isinstance(node, syntax.Call):
            step = names.get(extent(node), step_name(node))
            several = node.function.name == "oneof" and len(node.arguments or ()) > 1
            return self.call(node, place, step, self.option if several else None)
        elif isinstance(node, syntax.Number | syntax.String | syntax.Size | syntax.Range) or _is_plain(node):
            message = "an operator is needed here"
            return self.report("not-an-operator", message, node.span, f"this is {_KINDS[type(node)]}")
        return self.value(node, place)

    def option(self, node: syntax.Node, place: Place) -> bound.Expr:
        return self.step(node, place)

    def unknown_step(self, node: syntax.Name, place: Place) -> bound.Bad:
        word, forms = node.name, self.vocabulary.forms
        known = self.callable_names()
        if word in known:
            help = f"write `{word} {{ ... }}`" if word in forms and forms[word].body else f"write `{word}()`"
            message = f"`{word}` is an operator, and a call has parentheses"
            return self.report("missing-parentheses", message, node.span, help=help)
        if word in self.declared.fusions:
            return self.fusion_as_operator(node)
        return self.told(no_step(word, node.span, near_operator(word, (*place.names, *known))))

    def let(self, item: syntax.Let, place: Place) -> bound.Let:
        if item.formals is None:
            return bound.Let(item.name.name, None, self.value(item.value, place), span=item.name.span)
        formals, inner = self.formals(item.formals, place)
        return bound.Let(item.name.name, formals, self.value(item.value, inner), span=item.name.span)


def _is_plain(node: syntax.Node) -> bool:
    """Whether a list holds no tensor."""
    plain = (syntax.Number, syntax.String, syntax.Size, syntax.Range)
    return isinstance(node, syntax.List) and (not node.items or any(isinstance(item, plain) for item in node.items))


_KINDS = {
    syntax.Number: "a number",
    syntax.String: "a string",
    syntax.Size: "a size",
    syntax.Range: "a range",
    syntax.List: "a list",
}
