"""Random whole programs, small enough to be run architecture by architecture.

Most are well-formed by the way they are made: widths that meet at a sum are the same expression, kernels are odd. Some
have a slip, as people make them: a division that may be by zero, a word where a number belongs, a kernel that may be
even. What each program means is for the interpreter to say.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from random import Random

WIDTHS = (4, 8, 12, 16)


def program(rng: Random) -> str:
    """The text of a space `s`, perhaps with a space `t` made from it."""
    return _Program(rng).text()


class _Names:
    """What may be named at a place. A fixed name hangs on no decision."""

    def __init__(self, outer: _Names | None = None) -> None:
        self.numbers: list[str] = list(outer.numbers) if outer else []
        self.fixed: list[str] = list(outer.fixed) if outer else []
        self.hanging: set[str] = set(outer.hanging) if outer else set()  # names whose values hang on decisions
        self.small: list[str] = list(outer.small) if outer else []  # whole numbers from 0 to 4
        self.words: dict[str, list[str]] = dict(outer.words) if outer else {}
        self.truths: list[str] = list(outer.truths) if outer else []
        self.lists: dict[str, int] = dict(outer.lists) if outer else {}
        self.operators: list[str] = list(outer.operators) if outer else []
        self.params: dict[str, list[str]] = dict(outer.params) if outer else {}
        self.chosen: dict[str, list[str]] = dict(outer.chosen) if outer else {}  # operators, by their alternatives
        self.sparse: list[str] = list(outer.sparse) if outer else []  # lists of which choices decide the items
        self.tensors: list[str] = list(outer.tensors) if outer else []
        self.decided: dict[str, str] = dict(outer.decided) if outer else {}  # operators, by what they take
        self.flow: bool = outer.flow if outer else False  # whether `in` means something
        self.inputs: bool = outer.inputs if outer else False  # whether `inputs` may be several


class _Program:
    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.count = 0
        self.decisions = rng.choice((1, 2, 3, 4, 5, 6, 7, 8))  # how many expressions may decide
        self.slips = 1 if rng.random() < 0.2 else 0
        self.size = rng.choice((3, 5, 8, 12))
        self.operators: dict[str, str] = {}  # name: what a call needs
        self.functions: list[str] = []
        self.fields: list[tuple[str, str, str]] = []  # operator, name, kind
        self.called_ones: set[str] = set()

    # --- Choosing

    def chance(self, share: float) -> bool:
        return self.rng.random() < share

    def one(self, options: Sequence[str]) -> str:
        return self.rng.choice(options)

    def fresh(self, letter: str) -> str:
        self.count += 1
        return f"{letter}{self.count}"

    def deciding(self, share: float = 0.5) -> bool:
        if self.decisions > 0 and self.chance(share):
            self.decisions -= 1
            return True
        return False

    def slip(self, share: float = 0.15) -> bool:
        if self.slips and self.chance(share):
            self.slips = 0
            return True
        return False

    # --- The program

    def text(self) -> str:
        names = _Names()
        lines = [f"input {self.image()}"]
        for _ in range(self.rng.choice((0, 0, 0, 1, 2))):
            lines.append(self.param(names))
        params = list(names.params)
        top = _Names(names)
        for _ in range(self.rng.choice((0, 0, 1))):
            lines.append(self.function(names))
        for _ in range(self.rng.choice((0, 0, 1, 1, 2, 3))):
            lines.append(self.operator(names))
        for _ in range(self.rng.choice((0, 0, 1, 2, 3))):
            lines.append(self.let(top, network=False))
        if self.operators and self.chance(0.5):
            lines.append(self.tied(top))
        lines.append(self.network(top))
        for _ in range(self.rng.choice((0, 0, 0, 1, 1, 2))):
            lines += self.required(top, 2, outside=True)
        if self.chance(0.04):
            lines.append(f"require {self.one(('macs', 'params', 'flops'))} <= {self.rng.choice((1, 3, 10, 100))}K")
        text = "space s {\n" + "\n".join(lines) + "\n}\n"
        if self.chance(0.12):
            text += self.derived(top, params)
        return text

    def image(self) -> str:
        channels = self.one(("1", "3", "4"))
        if self.deciding(0.06):
            return f"oneof({channels} x 8 x 8, {channels} x 16 x 16)"
        return f"{channels} x {self.one(('8 x 8', '16 x 16', '8 x 16', '9 x 9'))}"

    def derived(self, names: _Names, params: Sequence[str]) -> str:
        """Other params, another image, one more requirement."""
        changes = [f"{name}: {self.one(names.params[name])}" for name in params if self.chance(0.7)]
        if self.chance(0.2):
            changes.append(f"input {self.image()}")
        if self.chance(0.5):
            changes += self.required(names, 1, outside=True)
        return "space t = s with {\n" + "\n".join(changes) + "\n}\n"

    def tied(self, names: _Names) -> str:
        """An operator that is decided for the whole network."""
        callee = self.one(list(self.operators))
        if "b" in self.operators[callee]:
            return f"let {self.fresh('w')} = 8"
        self.called_ones.add(callee)
        name, inner = self.fresh("o"), _Names(names)
        inner.flow = False
        needs = self.operators[callee]
        self.operators[callee] = needs.replace("p", "")  # its layers may read what comes in
        value = self.call(callee, inner, 0)
        self.operators[callee] = needs
        names.decided[name] = needs
        if self.deciding(0.3):
            value = f"oneof({value}, b: {self.one((value, 'conv(8)', 'none'))})"
        names.operators.append(name)
        return f"let {name} = {value}"

    def param(self, names: _Names) -> str:
        name = self.fresh("p")
        kind = self.rng.randrange(3)
        if kind == 2:
            words = self.rng.sample(("small", "large", "wide"), 2)
            names.words[name] = names.params[name] = words
            return f"param {name} in [{', '.join(words)}]"
        names.fixed.append(name)
        names.numbers.append(name)
        names.params[name] = list(map(str, self.rng.sample(WIDTHS, 2)))
        if kind == 0:
            return f"param {name} = {names.params[name][0]}"
        return f"param {name} in [{', '.join(names.params[name])}]"

    def function(self, names: _Names) -> str:
        name = self.fresh("f")
        inner = _Names(names)
        inner.numbers = ["x", "x"]
        body = self.width(inner, 2)
        self.functions.append(name)
        return f"let {name}(x) = {body}"

    def operator(self, names: _Names) -> str:
        name = self.fresh("op")
        inner = _Names(names)
        inner.operators = []
        inner.flow = True
        formals = []
        needs = ""
        if self.chance(0.6):
            formals.append("out")
            needs += "o"
            inner.numbers += ["out", "out"]
            inner.hanging.add("out")
        if self.chance(0.3):
            formals.append("stride = 1" if self.chance(0.6) else "stride = oneof(1, 2)")
            needs += "s"
        if self.chance(0.2):
            formals.append("kind in [small, large] = small")
            needs += "k"
            inner.words["kind"] = ["small", "large"]
            inner.hanging.add("kind")
        if "o" in needs and self.chance(0.15):
            formals.append(f"mid = {self.one(('2 * out', 'out + oneof(0, 4)', 'oneof(4, 8)', '8'))}")
            needs += "m"
            inner.numbers += ["mid", "mid"]
            inner.hanging.add("mid")
        if self.functions and self.chance(0.25) and formals:
            formals.append("fun")
            needs += "f"
            inner.numbers += ["fun(8)", "fun(x: 4)"]
        if self.chance(0.15) and formals:
            formals.append("part = identity()")
            needs += "p"
            inner.operators.append("part")
        if self.chance(0.12):
            formals.append("body")
            needs += "b"
            inner.operators += ["body", "body"]
        self.current = name
        strided = "s" in needs
        kind = self.rng.choice((0, 0, 0, 0, 1, 2, 3, 4, 4))
        if kind == 4 and not strided:
            inner.inputs = True
            needs += "i"
            body = " {\n" + self.of_inputs(inner, "out" if "o" in needs else "8") + "\n}"
        elif kind == 1 and not strided:
            body = f" = {self.step(inner, 2)}"
        elif kind == 2 and not strided:
            body = f" = {self.repeat(inner, 2)}"
            self.fields.append((name, "depth", "number"))
        elif kind == 3 and not strided:
            body = " {\n" + self.cell(inner) + "\n}"
        else:
            head = []
            if strided:
                width = "out" if "o" in needs else "in"
                head.append(f"conv({width}, stride: stride)" if self.chance(0.5) else "max_pool(stride: stride)")
            body = " {\n" + "\n".join([*head, *self.body(inner, 2)]) + "\n}"
        self.current = ""
        self.operators[name] = needs
        return f"operator {name}({', '.join(formals)}){body}"

    current = ""

    def network(self, names: _Names) -> str:
        inner = _Names(names)
        inner.flow = True
        steps = []
        if self.chance(0.5):
            steps.append(f"conv({self.width(inner, 1)})")
        tied = list(names.decided)
        if tied and self.chance(0.6):
            self.size = min(self.size, 4)
        steps += self.body(inner, 3)
        for _ in range(self.rng.choice((0, 1, 2, 3)) if tied else 0):
            label = self.fresh("s")
            steps.append(f"{label}: {self.again(inner)}")
            inner.tensors.append(label)
        if self.chance(0.3):
            steps.append("global_pool()")
            steps.append(f"linear({self.rng.choice((4, 10))})")
        else:
            steps.append(f"classify({self.rng.choice((2, 10))})")
        return "network {\n" + "\n".join(steps) + "\n}"

    # --- Bodies and steps

    def body(self, names: _Names, depth: int) -> list[str]:
        lines = []
        for _ in range(self.rng.choice((1, 1, 2, 2, 3, 4) if depth > 1 else (1, 1, 2))):
            if self.chance(0.25):
                lines.append(self.let(names))
            lines.append(self.step(names, depth, top=True))
            if self.chance(0.06):
                lines += self.required(names, 1)
        return lines

    def step(self, names: _Names, depth: int, top: bool = False) -> str:
        self.size -= 1
        if depth <= 0 or self.size <= 0:
            return self.layer(names)
        kinds: list[tuple[int, Callable[[_Names, int], str]]] = [
            (8, lambda n, d: self.layer(n)),
            (4, self.choice),
            (3, self.matched),
            (2, self.conditional),
            (3, self.repeat),
            (2, self.loop),
            (3, self.residual),
            (2, self.added),
            (1, lambda n, d: "concat(" + ", ".join(self.step(n, d - 1) for _ in range(2)) + ")"),
            (1, lambda n, d: " -> ".join(self.step(n, d - 1) for _ in range(2))),
            (1, lambda n, d: "{\n" + "\n".join(self.body(_Names(n), d - 1)) + "\n}"),
        ]
        if depth > 1:
            kinds.append((2, self.branched))
        kinds.append((2, self.aside))
        kinds.append((3, self.gathered))
        if names.tensors:
            kinds.append((2, self.started))
        if names.decided:
            kinds.append((8, lambda n, d: self.again(n)))
        if self.operators:
            kinds.append((6, self.called))
        if names.operators:
            kinds.append((4, lambda n, d: self.one(n.operators)))
        (make,) = self.rng.choices([make for _, make in kinds], [weight for weight, _ in kinds])
        text = make(names, depth)
        if top and self.chance(0.15) and " -> " not in text.split("\n")[0]:
            label = self.fresh("s")
            names.tensors.append(label)
            names.numbers.append(f"{label}.width")
            names.hanging.add(label)
            return f"{label}: {text}"
        return text

    def started(self, names: _Names, depth: int) -> str:
        """A step that starts from tensors with names."""
        tensor = self.one(names.tensors)
        kind = self.rng.randrange(5)
        if kind == 0:
            return (
                f"[{tensor}, {self.one(names.tensors)}] -> {self.one(('concat()', 'mean()', 'concat(from: inputs)'))}"
            )
        if kind == 1:
            return f"concat({tensor}, {self.step(names, depth - 1)})"
        if kind == 2:
            return f"sum({tensor}, {tensor} -> conv({tensor}.width))"
        if kind == 3:
            return f"resize(to: {tensor}.scale)"
        return f"{tensor} -> {self.step(names, depth - 1)}"

    def gathered(self, names: _Names, depth: int) -> str:
        """Operators and lists of them, which choices may leave out, as one."""
        width = self.known(names)
        how = self.one(("sum", "sum", "mean", "concat"))
        kind = self.rng.randrange(6)
        if kind == 0:
            return f"{how}(conv({width}), {{ {self.step(_Names(names), depth - 1)} -> conv({width}) }})"
        if kind == 1:
            return f"branches(conv({width}), {self.step(names, depth - 1)}) -> concat()"
        inner = _Names(names)
        name = self.fresh("i")
        source = self.source(inner, name)
        kernel = "oneof(1, 3)" if self.deciding(0.3) else self.one(("1", "3"))
        item = f"conv({width}, kernel: {kernel})"
        if kind == 2:
            item = f"{name} -> {item}" if name in inner.tensors else f"conv({self.width(inner, 1)}) -> {item}"
        listed = f"[for {name} in {source}: {item}]"
        if kind == 3:
            return f"{how}({listed}, conv({width}))"
        if kind == 4:
            return f"branches({listed}) -> {self.one(('concat()', 'mean()'))}"
        if kind == 5 and self.deciding(0.5):
            return f"conv({width}) + {{ oneof(none, conv(4)) -> {self.one(('sum', 'mean'))}({listed}) }}"
        return f"{how}({listed})"

    def source(self, names: _Names, name: str) -> str:
        """A list of which choices may decide the items, and what each of them then is."""
        kinds = ["[4, 8]", "0..1", "0..4 / 2 - 1"]
        if names.tensors:
            kinds += ["earlier", "last(earlier, 2)"]
        if names.inputs:
            kinds += ["inputs"] * 3
        kinds += names.sparse * 2
        if names.small:
            small = self.one(names.small)
            kinds += [f"0..{small}", f"1..{small} + 1"]
        if self.deciding(0.6):
            kinds = ["manyof(0..2, [4, 8])", "manyof(1..2, [4, 8, 12])", "permute(2, [4, 8, 12])", "1..oneof(1, 2)"]
            kinds += ["manyof(1, [8, 12])", "[for j in manyof(0..1, [4, 12]): j + 4]", "manyof(0..2 step 2, [4, 8])"]
            kinds += ["manyof(1..2, inputs)"] * 2 if names.inputs else []
        source = self.one(kinds)
        if source in ("earlier", "inputs", "last(earlier, 2)", "manyof(1..2, inputs)"):
            names.tensors.append(name)
            names.numbers.append(f"{name}.width")
        elif ".." in source and not source.startswith(("manyof", "[")):
            names.small.append(name)
        else:
            names.numbers += [name, name]
        return source

    def again(self, names: _Names) -> str:
        """An operator that was decided, perhaps with other arguments."""
        name = self.one(list(names.decided))
        parts = self.others(names, names.decided[name])
        call = f"{name}({', '.join(parts)})"
        if "i" in names.decided[name] and names.tensors and self.chance(0.6):
            call = f"{self.bundle(names)} -> {call}"
        return call

    def others(self, names: _Names, takes: str) -> list[str]:
        """Some arguments of an operator that takes what the letters say."""
        parts = []
        if "o" in takes and self.chance(0.7):
            parts.append(f"out: {self.width(names, 1)}" if self.chance(0.7) else self.width(names, 1))
        if "f" in takes and self.chance(0.3):
            parts.append(f"fun: {self.one(self.functions)}")
        if "m" in takes and self.chance(0.3):
            parts.append(f"mid: {self.width(names, 1)}")
        if "s" in takes and self.chance(0.4):
            parts.append(f"stride: {self.stride(names)}")
        if "k" in takes and self.chance(0.4):
            parts.append(f"kind: {self.one(('small', 'large'))}")
        if "e" in takes and self.chance(0.5):
            parts.append(f"kernel: {self.kernel(names)}")
        return parts

    def bundle(self, names: _Names) -> str:
        """Some tensors as a set of branches."""
        a, b = self.one(names.tensors), self.one(names.tensors)
        return self.one((f"[{a}, {b}]", f"[{a}]", f"branches({a}, {b})", "last(earlier, 2)", f"[{a}, {b}]"))

    def of_inputs(self, names: _Names, width: str) -> str:
        """What an operator makes of all that comes in."""
        kernel = "oneof(1, 3)" if self.deciding(0.5) else self.one(("1", "3"))
        item = f"conv({width}, kernel: {kernel})"
        last = self.one(("sum(from: earlier)", "concat(from: earlier)", "mean(from: last(earlier, 2))"))
        kind = self.rng.randrange(8)
        if kind == 0:
            return f"for x in inputs {{ n: x -> {item} }}\n{last}"
        if kind == 1:
            return f"a: inputs[0] -> {item}\nb: inputs[-1] -> conv({width})\n{self.one(('concat(a, b)', 'sum(a, b)'))}"
        if kind == 2:
            made = self.one((f"oneof(conv({width}), conv({width}, kernel: 3))", item))
            return f"let ops = [for x in inputs: {made}]\nsum([for i in 0..length(inputs) - 1: inputs[i] -> ops[i]])"
        if kind == 3 and self.deciding():
            chosen = self.one(("manyof(1, inputs)", "manyof(0..2, inputs)", "manyof(1..2, inputs)"))
            return f"sum([for x in {chosen}: x -> {item}])"
        if kind == 4:
            return f"concat([for x in inputs: x -> conv(x.width, kernel: {kernel})])"
        if kind == 5:
            many = "match length(inputs) { 1: identity(), else: concat() }" if self.chance(0.5) else "concat()"
            return f"{many}\n{item}"
        if kind == 6:
            return (
                f"for x in inputs {{ n: x -> {item} }}\nfor x in earlier {{ x -> conv({width}) }}\nconcat(from: unused)"
            )
        return f"{self.one(('sum', 'mean'))}([for x in inputs: x -> {item}])"

    def layer(self, names: _Names) -> str:
        kind = self.rng.randrange(14)
        if kind < 7:
            parts = [self.width(names, 1)]
            if self.chance(0.4):
                parts.append(f"kernel: {self.kernel(names)}")
            if self.chance(0.15):
                parts.append(f"stride: {self.stride(names)}")
            if self.chance(0.1):
                parts.append("act: none")
            if self.chance(0.1):
                kinds = ("none", "frozen", "group, norm_groups: 2", "group, norm_groups: 1")
                open_kinds = ("oneof(batch, none)", "oneof(none, frozen)", "group, norm_groups: oneof(1, 2, 4)")
                parts.append(f"norm: {self.one(open_kinds if self.deciding() else kinds)}")
            if self.chance(0.06):
                parts.append(f"standardise: {'oneof(true, false)' if self.deciding() else 'true'}")
            if self.chance(0.05):
                parts.append(f"groups: {'oneof(1, 2)' if self.deciding() else '2'}")
            return f"conv({', '.join(parts)})"
        if kind == 7:
            more = ", standardise: true" if self.chance(0.1) else ""
            return f"depthwise(kernel: {self.kernel(names)}{more})"
        if kind == 8:
            return f"skip({self.width(names, 1)}, stride: {self.stride(names)})"
        if kind == 9:
            return self.one(("relu()", "identity()", self.norm(), "zero()", "se()", "se(ratio: oneof(1/4, 1/2))"))
        if kind == 10:
            return f"{self.one(('max', 'avg'))}_pool({self.kernel(names)}, stride: {self.stride(names)})"
        if kind == 11 and names.flow and self.deciding(0.7):
            hidden = f"3: units({self.rng.choice((1, 2))}), 5: {self.one(('4', '0', 'units(2)'))}"
            return f"residual {{ mixconv(in, hidden: {{ {hidden} }}) }}"
        if kind == 12:
            return f"resize(to: {self.one(('1/2', '1', 'at', '1/4', 'oneof(1, 1/2)'))})"
        return f"conv({self.width(names, 2)})"

    def norm(self) -> str:
        kinds = ("", "", "group, norm_groups: 2", "frozen", "none")
        return f"norm({self.one((*kinds, 'oneof(none, batch)') if self.deciding() else kinds)})"

    def choice(self, names: _Names, depth: int) -> str:
        if not self.deciding(0.9):
            return self.layer(names)
        kind = self.rng.randrange(5)
        if kind == 0:
            width = self.known(names)
            return f"oneof(a: conv({width}), b: conv({width}, kernel: 3))"
        if kind == 1:
            return f"oneof(conv({self.width(names, 1)}), identity())"
        if kind == 2:
            return f"oneof({self.layer(names)}, b: {{ {self.step(_Names(names), depth - 1)} }})"
        if kind == 3:
            return f"residual {{ oneof(none, depthwise(kernel: {self.kernel(names)})) }}"
        return f"oneof([for k in [1, 3]: conv({self.known(names)}, kernel: k)])"

    def matched(self, names: _Names, depth: int) -> str:
        if names.words and self.chance(0.7):
            name = self.one(list(names.words))
            words = names.words[name]
            if self.chance(0.3):
                last = "else"
            else:
                last = words[-1]
            cases = [*words[:-1], last]
            return (
                "match "
                + name
                + " {\n"
                + "\n".join(f"{w}: {self.step(_Names(names), depth - 1)}" for w in cases)
                + "\n}"
            )
        if names.small and self.chance(0.2):
            a, b = (self.step(_Names(names), depth - 1) for _ in range(2))
            return f"match {self.one(names.small)} + 1 {{\n2: {a}\nelse: {b}\n}}"
        if names.chosen and self.chance(0.5):
            name = self.one(list(names.chosen))
            first, second = names.chosen[name]
            a, b = (self.step(_Names(names), depth - 1) for _ in range(2))
            return f"match {name} {{\n{first}: {a}\n{self.one((second, 'else'))}: {b}\n}}"
        if names.truths and self.chance(0.5):
            a, b = (self.step(_Names(names), depth - 1) for _ in range(2))
            return f"match {self.one(names.truths)} {{\ntrue: {a}\nfalse: {b}\n}}"
        if self.deciding(0.5):
            a, b = (self.step(_Names(names), depth - 1) for _ in range(2))
            return (
                f"match oneof(1, 2) {{\n1: {a}\n2: {b}\n}}"
                if self.chance(0.2)
                else f"match (oneof(1, 2)) {{\n1: {a}\nelse: {b}\n}}"
            )
        return self.layer(names)

    def conditional(self, names: _Names, depth: int) -> str:
        a, b = (self.step(_Names(names), 0 if depth < 2 else 1) for _ in range(2))
        return f"{{ {a} }} if {self.condition(names, 1)} else {{ {b} }}"

    def repeat(self, names: _Names, depth: int) -> str:
        inner = _Names(names)
        inner.truths.append("first")
        count = self.rng.choice(("1", "2", "2", "3"))
        if names.small and self.chance(0.3):
            count = self.one((self.one(names.small), self.one(names.small), f"2 * {self.one(names.small)}"))
        elif self.chance(0.1):
            count = self.one(("1 + 1", "3 - 2", "4 / 2 - 1"))
        elif self.deciding(0.6):
            count = self.one(("oneof(1, 2)", "oneof(1..3)", "oneof(0, 1)", "oneof(0..2)", "oneof(1, 3)"))
        return f"repeat {count} {{\n" + "\n".join(self.body(inner, depth - 1)) + "\n}"

    def loop(self, names: _Names, depth: int) -> str:
        inner = _Names(names)
        name = self.fresh("i")
        lists = list(names.lists)
        if lists and self.chance(0.5):
            source = self.one(lists)
            inner.numbers += [name, name]
        elif self.chance(0.4):
            source = self.one(("0..1", "[0, 1]", "1..2"))
            inner.small.append(name)
            for other in lists:
                if names.lists[other] > 2:
                    inner.numbers.append(f"{other}[{name}]")
        elif self.deciding(0.2):
            source = self.one(("manyof(2, [4, 8, 12])", "(permute([4, 8]))", "(manyof(1, [4, 8]))", "[oneof(4, 8), 8]"))
            inner.numbers += [name, name]
        elif self.chance(0.6):
            source = self.source(inner, name)
            if name in inner.tensors and self.chance(0.7):
                return f"for {name} in {source} {{\n{name} -> {self.step(inner, depth - 1)}\n}}"
        else:
            source = self.one(("[4, 8]", "[8, 8]", "[12, 4]"))
            inner.numbers += [name, name]
            inner.fixed.append(name)
        return f"for {name} in {source} {{\n" + "\n".join(self.body(inner, depth - 1)) + "\n}"

    def residual(self, names: _Names, depth: int) -> str:
        return "residual {\n" + "\n".join(self.body(_Names(names), depth - 1)) + "\n}"

    def aside(self, names: _Names, depth: int) -> str:
        """A head in the middle, of which a choice may leave its input out, its end, or the whole."""
        weight = "0" if self.slip(0.1) else self.one(("1", "0.4", "1/3", *names.fixed))
        head = f"classify({self.rng.choice((2, 3))})"
        inner = _Names(names)
        if self.chance(0.25):
            operator = self.one((head, f"{{ {self.layer(inner)} -> {head} }}", f"{self.layer(inner)} -> {head}"))
            side = f"auxiliary({operator}, weight: {weight})"
        else:
            lines = self.body(inner, depth - 1)
            if self.deciding(0.15):
                lines.append("oneof(none, conv(4))")
            side = f"auxiliary(weight: {weight}) {{\n" + "\n".join([*lines, head]) + "\n}"
        if self.deciding(0.15):
            return f"oneof(identity(), {side})"
        return f"{{ oneof(none, {self.layer(names)}) -> {side} }} + conv(4)" if self.deciding(0.1) else side

    def added(self, names: _Names, depth: int) -> str:
        width = self.known(names)
        kind = self.rng.randrange(6)
        if kind == 0 and self.deciding():
            return f"conv({width}) + oneof(none, conv({width}, kernel: 3))"
        if kind == 1 and names.flow:
            return f"{{ conv({width}) -> conv(in) }} + identity()"
        if kind == 2 and self.deciding():
            return f"oneof(none, a: conv({width})) + oneof(none, b: conv({width}))"
        if kind == 3 and self.slip(0.5):
            return f"conv({width}) + conv({self.width(names, 1)})"
        if kind == 4:
            return f"conv({width}) + {{ {self.step(_Names(names), 0)} -> conv({width}) }} + conv({width})"
        return f"conv({width}, kernel: 3) + conv({width})"

    def branched(self, names: _Names, depth: int) -> str:
        """Labelled tensors as branches, a body for each, and together again."""
        inner = _Names(names)
        fine, coarse = self.fresh("s"), self.fresh("s")
        lines = [f"{fine}: conv({self.width(inner, 1)})", f"{coarse}: conv({self.width(inner, 1)}, stride: 2)"]
        lines.append(f"branches({fine}, {coarse})")
        body = _Names(inner)
        body.flow = True
        body.numbers += ["width", "width"]
        if self.chance(0.3):
            lines.append(f"parallel {{\nrepeat {self.one(('2', 'oneof(1, 2)'))} {{\nconv(width)\n}}\n}}")
        steps = self.body(body, depth - 2)
        if self.chance(0.3):
            width = self.rng.choice(WIDTHS)
            lines += ["parallel {\n" + "\n".join([*steps, f"conv({width})"]) + "\n}", "mean()"]
        else:
            lines += ["parallel {\n" + "\n".join(steps) + "\n}", "concat()"]
        return "{\n" + "\n".join(lines) + "\n}"

    def called(self, names: _Names, depth: int) -> str:
        name = self.one(list(self.operators))
        if not self.current:
            self.called_ones.add(name)
        needs = self.operators[name]
        if "i" in needs and depth > 0 and self.chance(0.6):
            return self.of_several(names, self.call(name, names, depth))
        return self.call(name, names, depth)

    def of_several(self, names: _Names, call: str) -> str:
        """A call with two tensors, of which choices may leave one out."""
        if len(names.tensors) > 1 and self.chance(0.4):
            return f"{self.bundle(names)} -> {call}"
        a, b = self.fresh("s"), self.fresh("s")
        second = f"conv({self.known(names)}, kernel: 3)"
        if self.deciding(0.4):
            second = f"oneof(none, {second})"
        set_of = self.one((f"[{a}, {b}]", f"[{b}, {a}]", f"branches({a}, {b})", "last(earlier, 2)"))
        made = f"{a}: conv({self.width(names, 1)})\n{b}: {second}\n"
        if self.chance(0.3):
            whole, width = self.fresh("s"), self.known(names)
            step = self.one(
                (
                    f"{whole} -> {call}",
                    f"{whole}[0] -> conv({whole}[-1].width)",
                    f"sum([for x in {whole}: x -> conv({width})])",
                    f"for x in {whole} {{ conv({width}, kernel: {self.kernel(names)}) }}",
                    f"[{whole}[-1], {a}] -> {call}",
                )
            )
            if " -> " not in step:
                step = f"{a} -> {step}"
            return f"{{\n{made}{whole}: {set_of}\n{step}\n}}"
        return f"{{\n{made}{set_of} -> {call}\n}}"

    def call(self, name: str, names: _Names, depth: int) -> str:
        needs = self.operators[name]
        parts = []
        if "o" in needs:
            parts.append(self.width(names, 1))
        if "s" in needs and self.chance(0.4):
            parts.append(f"stride: {self.stride(names)}")
        if "k" in needs and self.chance(0.6):
            parts.append(f"kind: {'oneof(small, large)' if self.deciding() else 'large'}")
        if "f" in needs:
            parts.append(f"fun: {self.one(self.functions)}")
        if "m" in needs and self.chance(0.3):
            parts.append(f"mid: {self.width(names, 1)}")
        if "p" in needs and self.chance(0.7):
            parts.append(f"part: {self.layer(names)}")
        if "b" in needs:
            inner = _Names(names)
            inner.flow = True
            steps = "\n".join(self.body(inner, depth - 1))
            return f"{name}({', '.join(parts)}) {{\n{steps}\n}}" if parts else f"{name} {{\n{steps}\n}}"
        return f"{name}({', '.join(parts)})"

    def cell(self, names: _Names) -> str:
        """Labelled tensors of one width, and nodes that read some of them."""
        width = self.known(names)
        lines = [f"a: conv({width})", f"b: conv({width}, kernel: 3)"]
        if self.chance(0.5):
            lines.append("c: depthwise()")
        how = self.one(("sum", "concat", "sum", "mean"))
        if self.deciding(0.8):
            node = f"{how}(from: manyof({self.rng.choice((1, 2))}, earlier)) -> conv({width})"
            if self.chance(0.4):
                lines.append(f"for i in 0..1 {{ n: {node} }}")
            else:
                lines.append(f"n: {node}")
        lines.append(
            self.one(("sum(from: unused)", "concat(from: unused)", "sum(from: [a, b])", "mean(from: earlier)"))
        )
        return "\n".join(lines)

    # --- Lets

    def let(self, names: _Names, network: bool = True) -> str:
        text = self.named_value(names, network)
        words = re.findall(r"\w+", text.partition("=")[2])
        if not names.hanging.isdisjoint(words) or not {"oneof", "manyof", "permute", "previous"}.isdisjoint(words):
            names.hanging.add(text.split()[1])
        return text

    def named_value(self, names: _Names, network: bool) -> str:
        kind = self.rng.randrange(10)
        operator = self.current
        if kind <= 2:
            name = self.fresh("w")
            inner = _Names(names)
            if not network:
                inner.flow = False
            previous = operator and self.chance(0.25)
            if previous and self.chance(0.5):
                more = "oneof(0, 4)" if self.deciding(0.8) else "4"
                value = f"previous({name}, else: {self.rng.choice(WIDTHS)}) + {more}"
            else:
                value = self.width(inner, 2)
            names.numbers += [name, name, name]
            if operator:
                self.fields.append((operator, name, "number"))
            if previous and not value.startswith("previous"):
                held = f"{name} {self.one(('>=', '==', '<=', '!='))} previous({name}, else: 8)"
                return f"let {name} = {value}\nrequire {held}"
            return f"let {name} = {value}"
        if kind == 3 and self.deciding(0.9):
            name = self.fresh("c")
            words = self.rng.sample(("small", "large", "wide"), self.rng.choice((2, 2, 3)))
            names.words[name] = words
            if operator:
                self.fields.append((operator, name, "word"))
            return f"let {name} = oneof({', '.join(words)})"
        if kind == 4 and self.deciding(0.9):
            name = self.fresh("b")
            names.truths += [name, name]
            if operator:
                self.fields.append((operator, name, "truth"))
            return f"let {name} = {self.one(('oneof(false, true)', 'oneof(true, false)', 'not oneof(true, false)'))}"
        if kind == 5:
            name = self.fresh("k")
            names.small += [name, name]
            value = (
                self.one(("oneof(1, 2)", "oneof(0..2)", "oneof(1..3)", "oneof(0, 1)"))
                if self.deciding(0.8)
                else self.one(("1", "2"))
            )
            if operator:
                self.fields.append((operator, name, "number"))
            return f"let {name} = {value}"
        if kind == 6:
            name = self.fresh("l")
            names.lists[name] = 2
            kinds = ["[4, 8]", "[for i in 1..3: 4 * i]", "[8, 4] + [12]"]
            if self.deciding(0.7):
                kinds = [
                    "[oneof(4, 8), 8]",
                    "[oneof(4, 8), oneof(8, 12)]",
                    "permute([4, 8, 12])",
                    "permute([4, 4, 8])",
                    "manyof(2, [4, 8, 12])",
                    "[for i in 1..2: oneof(4 * i, 8 * i)]",
                    "take(permute([4, 8, 12]), 2)",
                    "permute(2, [4, 8, 12])",
                ]
                if self.chance(0.4):
                    del names.lists[name]
                    names.sparse.append(name)
                    value = self.some_of(names)
                    names.numbers += [f"4 * (1 + length({name}))", f"(4 + sum({name}))"]
                    return f"let {name} = {value}"
            value = self.one(kinds)
            names.numbers += [f"{name}[0]", f"{name}[1]"]
            return f"let {name} = {value}"
        if kind == 7 and names.flow and network:
            name = self.fresh("o")
            value = self.layer(names)
            if self.operators and self.chance(0.5):
                value = self.called(names, 0)
                names.decided[name] = self.operators.get(value.partition("(")[0].partition(" ")[0], "").replace("b", "")
            elif self.chance(0.4):
                width = self.width(names, 1)
                value = f"conv({width}, kernel: {self.kernel(names)})"
                if self.deciding(0.5):
                    value = f"oneof(a: conv({width}), b: conv({width}, kernel: 3), c: {value})"
                    if self.operators and self.chance(0.3):
                        value = f"oneof({self.call(self.one(list(self.operators)), names, 0)}, b: conv({width}))"
                names.decided[name] = "o" if "oneof(a" not in value else "oe"
            elif self.chance(0.3):
                value = f"{self.layer(names)} -> {self.layer(names)}"
            elif self.chance(0.15):
                value = f"{self.layer(names)} if {self.condition(names, 0)} else {self.layer(names)}"
            elif self.deciding(0.4):
                width = self.width(names, 1)
                labels = self.chance(0.5)
                first = "a" if labels else "conv"
                names.chosen[name] = [first, "identity"]
                value = f"oneof({'a: ' if labels else ''}conv({width}), identity())"
            names.operators += [name, name]
            return f"let {name} = {value}"
        if kind == 8:
            name = self.fresh("r")
            value = (
                f"{{ a: {self.width(names, 1) if network else self.rng.choice(WIDTHS)}, b: {self.rng.choice(WIDTHS)} }}"
            )
            names.numbers += [f"{name}.a", f"{name}.b"]
            return f"let {name} = {value}"
        name = self.fresh("w")
        names.numbers += [name, name]
        if self.deciding(0.5):
            if operator:
                self.fields.append((operator, name, "number"))
            return f"let {name} = oneof({', '.join(map(str, self.rng.sample(WIDTHS, 2)))})"
        names.fixed.append(name)
        return f"let {name} = {self.rng.choice(WIDTHS)}"

    def some_of(self, names: _Names) -> str:
        """A list of which choices decide the items: numbers that are multiples of 4."""
        kinds = ["manyof(0..2, [4, 8, 12])", "manyof(1..2, [4, 8])", "manyof(2..3, [4, 8, 8])", "manyof(0..1, [4, 8])"]
        kinds += ["[for x in manyof(1..2, [4, 8, 12]): x + 4]", "[for x in manyof(0..2, [4, 8]): oneof(x, 16)]"]
        kinds += ["[for x in 1..oneof(1, 2): 4 * x]", "[for x in manyof(1, [4, 8]), y in [0, 4]: x + y]"]
        kinds += ["last(manyof(1..2, [4, 8, 12]), 1)", "manyof(1..2, [4, 8]) + [12]", "[4] + manyof(0..1, [8, 12])"]
        kinds += [f"[for x in 0..{small}: 4 * x + 4]" for small in names.small[-1:]]
        return self.one(kinds)

    # --- Numbers

    def known(self, names: _Names) -> str:
        """A width that is the same wherever it is written."""
        return self.one([*names.numbers[-4:], *map(str, WIDTHS)]) if self.chance(0.7) else str(self.rng.choice(WIDTHS))

    def width(self, names: _Names, depth: int) -> str:
        """A number that is mostly a positive multiple of 4."""
        if depth <= 0 or self.chance(0.3):
            return self.known(names)
        if self.slip(0.1):
            word = self.one(list(names.words)) if names.words else "oneof(small, large)"
            truth = self.one(names.truths) if names.truths else "oneof(true, false)"
            small = self.one(names.small) if names.small else "oneof(0, 1)"
            return self.one(
                (
                    f"8 * {word}",
                    f"8 * {truth}",
                    f"8 / {small}",
                    f"[4, 8][{small} + 1]",
                    f"4 * {small}",
                    "oneof(8, 0)",
                    "oneof(4, 7/2)",
                )
            )
        kind = self.rng.randrange(16)
        if kind <= 3 and self.deciding(0.8):
            options = self.rng.sample(WIDTHS, self.rng.choice((2, 2, 3)))
            if names.fixed and self.chance(0.2):
                return f"oneof({self.one(names.fixed)}, 20)"
            return self.one(
                (
                    f"oneof({', '.join(map(str, options))})",
                    f"oneof([{', '.join(map(str, options))}])",
                    "oneof(4..8 step 4)",
                )
            )
        if kind == 4 and names.flow:
            return self.one(("in", "2 * in", "divisible(in * 3/2, 4)", "max(in, 8)"))
        if kind == 5:
            return f"{self.known(names)} if {self.condition(names, 1)} else {self.width(names, depth - 1)}"
        if kind == 6 and names.words:
            name = self.one(list(names.words))
            words = names.words[name]
            return f"match {name} {{ " + ", ".join(f"{w}: {self.width(names, depth - 1)}" for w in words) + " }"
        if kind == 7:
            return f"{self.one(('min', 'max'))}({self.known(names)}, {self.width(names, depth - 1)})"
        if kind == 8 and self.functions:
            return f"{self.one(self.functions)}({self.width(names, depth - 1)})"
        if kind == 9 and names.small:
            return f"4 * ({self.one(names.small)} + 1)"
        if kind == 10 and names.lists:
            name = self.one(list(names.lists))
            small = self.one(names.small) if names.small and self.chance(0.3) else self.one(("0", "1", "-1"))
            return f"{name}[{small}]"
        if kind == 11:
            return f"{self.known(names)} + {self.known(names)}"
        if kind == 12:
            return f"divisible({self.known(names)} * {self.one(('1/2', '3/4', '5/3'))}, 4)"
        if kind == 13 and names.lists:
            return f"{self.one(('sum', 'max', 'min'))}({self.one(list(names.lists))})"
        if kind == 14:
            return f"4 * {self.one(('ceil', 'floor', 'round'))}({self.known(names)} / {self.one(('3', '4', '8/3'))})"
        return self.known(names)

    def kernel(self, names: _Names) -> str:
        if self.slip(0.15):
            return self.one(("oneof(2, 3)", "4", "oneof(3, 0)"))
        if self.deciding(0.4):
            return self.one(("oneof(1, 3)", "oneof(3, 5)", "oneof(1..5 step 2)", "2 * oneof(0, 1) + 1"))
        if names.small and self.chance(0.3):
            return f"2 * {self.one(names.small)} + 1"
        return self.one(("1", "3", "3", "5"))

    def stride(self, names: _Names) -> str:
        if self.slip(0.1):
            return "oneof(0, 1)"
        if names.truths and self.chance(0.3):
            return f"2 if {self.one(names.truths)} else 1"
        return "oneof(1, 2)" if self.deciding(0.2) else self.one(("1", "1", "2"))

    # --- Conditions

    def required(self, names: _Names, depth: int, outside: bool = False) -> list[str]:
        """A requirement of what hangs on decisions, where anything does."""
        some = _Names(names)
        some.numbers = [name for name in names.numbers if re.split(r"\W", name)[0] in names.hanging]
        some.small = [name for name in names.small if name in names.hanging]
        some.words = {name: words for name, words in names.words.items() if name in names.hanging}
        some.truths = [name for name in names.truths if name in names.hanging]
        some.lists = {name: size for name, size in names.lists.items() if name in names.hanging}
        some.sparse = list(names.sparse)
        if not (
            some.sparse or some.numbers or some.small or some.words or some.truths or (outside and self.called_ones)
        ):
            return []
        return [f"require {self.condition(some, depth, outside)}"]

    def condition(self, names: _Names, depth: int, outside: bool = False) -> str:
        if depth > 0 and self.chance(0.35):
            a, b = (self.condition(names, depth - 1, outside) for _ in range(2))
            return self.one((f"({a}) and ({b})", f"({a}) or ({b})", f"({a}) implies ({b})", f"not ({a})"))
        fields = [field for field in self.fields if field[0] in self.called_ones]
        if outside and fields and self.chance(0.6):
            owner, name, of = self.rng.choice(fields)
            listed = f"{owner}.{name}"
            compare = self.one(("<=", ">=", "==", "<"))
            if of == "number":
                return self.one(
                    (
                        f"sum({listed}) {compare} {self.rng.choice((8, 12, 16, 2, 3))}",
                        f"length({listed}) {compare} {self.rng.choice((1, 2))}",
                        f"8 in {listed}",
                        f"max({listed}) {compare} 8" if self.chance(0.3) else f"sum({listed}) {compare} 20",
                        f"{listed}[{self.one(('0', '-1'))}] {compare} 8" if self.chance(0.3) else f"4 in {listed}",
                    )
                )
            if of == "truth":
                return f"count({listed}) {compare} {self.rng.choice((0, 1))}"
            return f"length({listed}) {compare} 2"
        if names.sparse and self.chance(0.3):
            name, compare = self.one(names.sparse), self.one(("<=", ">=", "==", "!="))
            return self.one(
                (
                    f"length({name}) {compare} {self.one(('1', '2'))}",
                    f"count([for x in {name}: x > 4]) {compare} 1",
                    f"sum({name}) {compare} 12",
                    f"8 in {name}",
                    f"max({name}) {compare} 8" if self.chance(0.5) else f"sum([for x in {name}: x * x]) {compare} 80",
                    f"{name}[0] {compare} 8" if self.chance(0.5) else f"4 in last({name}, 1)",
                )
            )
        kind = self.rng.randrange(7)
        if kind == 6 and names.chosen and self.chance(0.5):
            name = self.one(list(names.chosen))
            return f"{name} == {self.one(names.chosen[name])}"
        if kind == 0 and names.words:
            name = self.one(list(names.words))
            return f"{name} {self.one(('==', '!='))} {self.one(names.words[name])}"
        if kind == 1 and names.truths:
            return self.one((self.one(names.truths), f"not {self.one(names.truths)}"))
        if kind == 2 and names.small:
            return (
                f"{self.one(names.small)} {self.one(('==', '<', '>=', 'in'))} {1}"
                if self.chance(0.0)
                else f"{self.one(names.small)} {self.one(('==', '<', '>='))} 1"
            )
        if kind == 3 and names.lists:
            return f"{self.rng.choice(WIDTHS)} in {self.one(list(names.lists))}"
        if kind == 4 and names.small and self.slip(0.3):
            return f"4 / {self.one(names.small)} > 1"
        if names.numbers:
            a = self.one(names.numbers)
            if self.chance(0.2):
                upto = "1..oneof(8, 12)" if not outside and depth > 0 and self.deciding(0.2) else "2..10"
                return f"{a} in {self.one(('4..8', '[4, 12]', '[8]', upto))}"
            b = self.one([*(name for name in names.numbers if name != a), *map(str, WIDTHS)])
            return f"{a} {self.one(('==', '!=', '<', '<=', '>', '>='))} {b}"
        return self.one(("true", "4 < 8"))
