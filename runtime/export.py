"""A found network as one readable Python file and one file of weights, which need torch and nothing else."""

from __future__ import annotations

import ast
import builtins
import inspect
import keyword
import math
import os
import re
import subprocess
import sys
import tempfile
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from nasdsl.compiler import expr, ops
from nasdsl.compiler.cost import total_cost
from nasdsl.compiler.graph import Graph, Node, Shape
from nasdsl.compiler.layers.activation import Activation, Dropout
from nasdsl.compiler.layers.conv import Shortcut
from nasdsl.compiler.layers.merge import Sum
from nasdsl.compiler.space import Space, content_hash
from nasdsl.compiler.supernet import Setting, Supernet, copy_weights, key_of, setting_of

WIDTH = 120
"""Longest line of the written file."""

METHOD = 4
"""A part of the network with fewer statements stands in `forward` itself."""

LONGEST_NAME = 56


class ExportError(ValueError):
    """The network cannot be written out; the message says why and what to do, in the user's words."""


# --- Layout of code ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Group:
    """Brackets around items, each with a prefix such as `stride=`. A call's items may share one line of their own."""

    head: str
    items: tuple[tuple[str, Code], ...]
    tail: str

    @property
    def is_call(self) -> bool:
        return len(self.head) > 1


Code = str | Group


def flat(code: Code) -> str:
    """On one line."""
    if isinstance(code, str):
        return code
    inner = ", ".join(prefix + flat(item) for prefix, item in code.items)
    one_tuple = code.head == "(" and len(code.items) == 1
    return code.head + inner + ("," if one_tuple else "") + code.tail


def laid_out(prefix: str, code: Code, indent: int, suffix: str = "") -> list[str]:
    """Lines as the usual formatters break them: whole, or the items on one line, or one item a line."""
    margin = " " * indent
    whole = margin + prefix + flat(code) + suffix
    if isinstance(code, str) or not code.items or len(whole) <= WIDTH:
        return [whole]
    inner = margin + "    " + ", ".join(p + flat(item) for p, item in code.items)
    if code.is_call and len(inner) <= WIDTH:
        return [margin + prefix + code.head, inner, margin + code.tail + suffix]
    lines = [margin + prefix + code.head]
    for p, item in code.items:
        lines += laid_out(p, item, indent + 4, ",")
    return [*lines, margin + code.tail + suffix]


def laid_out_sum(target: str, terms: Sequence[Code], indent: int) -> list[str]:
    """`target` and a sum, in brackets where it is long."""
    margin = " " * indent
    inner = " + ".join(flat(term) for term in terms)
    if len(margin + target + inner) <= WIDTH:
        return [margin + target + inner]
    if len(margin + "    " + inner) <= WIDTH:
        return [f"{margin}{target}(", f"{margin}    {inner}", f"{margin})"]
    lines = [f"{margin}{target}("]
    for i, term in enumerate(terms):
        lines += laid_out("+ " if i else "", term, indent + 4)
    return [*lines, f"{margin})"]


def quoted(text: str) -> str:
    """A string literal in double quotes, or in single ones where that saves escapes."""
    body = repr(text + '"')[1:-2]  # a double quote in it makes repr choose single quotes, and escape only these
    if "'" not in text and '"' in text:
        return f"'{body}'"
    return '"' + body.replace("\\'", "'").replace('"', '\\"') + '"'


def code_of(value: Any) -> Code:
    """A plain value as Python writes it.

    Raises:
        ExportError: it is not plain.
    """
    if isinstance(value, str):
        return quoted(value)
    if value is None or isinstance(value, bool | int):
        return repr(value)
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else f'float("{value}")'
    if isinstance(value, list | tuple):
        head, tail = "[]" if isinstance(value, list) else "()"
        return Group(head, tuple(("", code_of(item)) for item in value), tail)
    if isinstance(value, Mapping):
        return Group("{", tuple((f"{flat(code_of(k))}: ", code_of(v)) for k, v in value.items()), "}")
    raise ExportError(f"an operator's module has the argument {value!r}, which cannot be written as plain Python")


# --- Names ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Segment:
    """One part of a hierarchical name: `parallel[1/8]` has the word `parallel` and the index `1/8`."""

    word: str
    index: str

    def text(self) -> str:
        index = identifier(self.index)
        if not index:
            return identifier(self.word)
        return identifier(self.word) + ("" if index.isdigit() else "_") + index


def identifier(text: str) -> str:
    """The letters, digits and arrows of a text, joined by underscores."""
    text = unicodedata.normalize("NFKC", text).replace("->", " to ")
    return re.sub(r"_+", "_", re.sub(r"\W+", "_", text)).strip("_")


def segments(name: str) -> tuple[Segment, ...]:
    """The parts of a node's name."""
    parts = re.findall(r"(?:[^.\[]|\[[^\]]*\])+", name)
    found = []
    for part in parts:
        word, _, rest = part.partition("[")
        found.append(Segment(word, rest.replace("][", " ").rstrip("]")))
    return tuple(found)


class Names:
    """Gives out identifiers, each once."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self.taken = set(taken)

    def fresh(self, wanted: str) -> str:
        """`wanted`, or what is nearest to it and still free."""
        name = usable(wanted)
        number = 2
        while name in self.taken:
            name = f"{usable(wanted)}_{number}"
            number += 1
        self.taken.add(name)
        return name


def usable(wanted: str) -> str:
    """An identifier of bearable length."""
    name = wanted if len(wanted) <= LONGEST_NAME else f"{wanted[: LONGEST_NAME // 2]}_{wanted[-LONGEST_NAME // 2 :]}"
    name = re.sub(r"_+", "_", name)
    if not name or name[0].isdigit():
        name = f"layer_{name}".rstrip("_")
    # l, O and I are hard to tell from digits, and linters object
    if keyword.iskeyword(name) or keyword.issoftkeyword(name) or name in ("l", "O", "I"):
        name += "_"
    return name


def variable(wanted: str) -> str:
    """An identifier that hides nothing of Python's own either."""
    name = usable(wanted)
    return f"{name}_" if hasattr(builtins, name) else name


def needless_words(names: Sequence[str]) -> frozenset[str]:
    """Words of inner segments without which all names still differ, such as that of an operator around one block."""
    split = [segments(name) for name in names]
    inner = {part.word for parts in split for part in parts[1:-1] if not part.index}
    lanes = {part.word for parts in split for part in parts[1:-1] if "/" in part.index and "->" not in part.index}
    dropped: frozenset[str] = frozenset()
    for word in (*sorted(lanes), *sorted(inner - lanes)):
        attempt = dropped | {word}
        if len({joined(parts, attempt) for parts in split}) == len(set(split)):
            dropped = attempt
    return dropped


def joined(parts: Sequence[Segment], dropped: frozenset[str]) -> str:
    """A name as one identifier; of dropped words only the index stays."""
    last = len(parts) - 1
    texts = []
    for i, part in enumerate(parts):
        texts.append(identifier(part.index) if part.word in dropped and 0 < i < last else part.text())
    return "_".join(text for text in texts if text)


# --- What is computed -------------------------------------------------------------------------------------------------


def live_nodes(graph: Graph) -> tuple[list[Node], str]:
    """The nodes that the output depends on, in order and without the input, and the name of the last one."""
    final = graph.nodes[graph.outputs[0]].inputs[0].source
    wanted = {final}
    for node in reversed(list(graph.nodes.values())):
        if node.name in wanted:
            wanted |= {edge.source for edge in node.inputs}
    return [node for node in graph.nodes.values() if node.name in wanted and node.kind != "input"], final


def equal_sums(graph: Graph, order: Sequence[Node]) -> set[str]:
    """The sums whose inputs have one size whatever the size of the image, so that `+` does.

    Every size is a chain of ceil(n * a / b), which repeats itself after as many pixels as the strides come to.
    """
    sums = {node.name for node in order if node.op == "sum" and node.kind == "merge"}
    vectors = {name for name in sums if graph.nodes[name].shape.height is None}
    same = set(sums)
    period = math.lcm(*(Fraction(node.shape.scale).denominator for node in order), 1)
    if period > 512:
        return vectors
    for size in range(1, 2 * period + 1):
        if same <= vectors:
            break
        first = graph.input.shape
        shapes = {graph.input.name: Shape(first.channels, size, size, first.scale)}
        for node in order:
            inputs = [shapes[edge.source] for edge in node.inputs]
            if node.name in sums:
                shapes[node.name] = inputs[0]
                if any(x.height != inputs[0].height for x in inputs):
                    same.discard(node.name)
                continue
            operator = ops.find(node.op)
            assert operator is not None
            try:
                shapes[node.name] = operator.shape(inputs, node.attrs)
            except Exception:  # an operator that does not take every size says nothing about the others
                return vectors
    return same


@dataclass
class Line:
    """One value that `forward` computes: a call of a layer, or a sum where there is no layer."""

    node: str
    layer: str
    inputs: tuple[str, ...]
    folded: list[Line] = field(default_factory=list)

    def reads(self) -> Iterable[str]:
        """The values that must be there before."""
        inside = {line.node for line in self.folded}
        for line in self.folded:
            yield from line.inputs
        yield from (name for name in self.inputs if name not in inside)


class Network:
    """A network of one architecture as named layers and lines of code."""

    def __init__(self, network: Supernet) -> None:
        graph = network.graph
        self.graph = graph
        order, final = live_nodes(graph)
        self.cost = total_cost(Graph({n.name: n for n in [graph.input, *order]}, {}, (), ()))
        self.names = Names({*dir(nn.Module()), "forward"})
        self.dropped = needless_words([node.name for node in order])
        self.weights: dict[str, torch.Tensor] = {}
        self.constructors: dict[str, Code] = {}
        self.classes: list[type] = []
        self.owner: dict[str, str] = {}
        self.same: dict[str, str] = {}
        self.lines: list[Line] = []
        self.calls: dict[str, Line] = {}
        self._build(network, order)
        self.final = self.same.get(final, final)
        self.lines = folded(self.lines, self.final)
        self._name_variables()
        while long := [line for line in self.lines if line.folded and self._breaks(line)]:
            for line in long:
                place = self.lines.index(line)
                self.lines[place:place] = line.folded
                line.folded = []
            self._name_variables()

    def call(self, line: Line) -> Code:
        """A layer's call."""
        return Group(f"self.{line.layer}(", tuple(("", self.variables[name]) for name in line.inputs), ")")

    def terms(self, line: Line) -> list[Code]:
        """What a sum adds."""
        calls = {term.node: self.call(term) for term in line.folded}
        return [calls[name] if name in calls else self.variables[name] for name in line.inputs]

    def _breaks(self, line: Line) -> bool:
        """Whether a sum of two would break inside a call's brackets, which reads worse than a line for each."""
        target = max(len(self.variables[line.node]) + 3, len("return "))
        return len(line.inputs) == 2 and 8 + target + len(" + ".join(map(flat, self.terms(line)))) > WIDTH

    # --- layers

    def _build(self, network: Supernet, order: Sequence[Node]) -> None:
        plus = equal_sums(self.graph, order)
        shared: dict[tuple[str, str], str] = {}
        stateless: list[tuple[Node, Code]] = []
        for node in order:
            if node.kind == "select":
                raise ExportError(f"`{node.name}` is still a choice; take one architecture out first")
            inputs = tuple(self.same.get(edge.source, edge.source) for edge in node.inputs)
            if node.kind == "merge" and node.op == "sum":
                if len(inputs) == 1:
                    self.same[node.name] = inputs[0]
                elif node.name in plus:
                    self.lines.append(Line(node.name, "", inputs))
                else:
                    stateless.append((node, self._constructor(Sum(), {})))
                    self._add(node.name, inputs)
                continue
            setting = setting_of(self.graph, node)
            module = self._module(network, node, setting)
            if passes_through(module):
                self.same[node.name] = inputs[0]
                continue
            constructor = self._constructor(module, setting.arguments())
            self._add(node.name, inputs)
            if not module.state_dict() and not list(module.buffers()):
                stateless.append((node, constructor))
                continue
            key = (node.weight, flat(constructor))
            if key not in shared:
                attribute = self.names.fresh(joined(segments(node.name), self.dropped))
                shared[key] = attribute
                self.constructors[attribute] = constructor
                self.owner[attribute] = node.name
                for name, tensor in module.state_dict(keep_vars=True).items():
                    self.weights[f"{attribute}.{name}"] = tensor
            self._name_layer(node.name, shared[key])
        self._share_stateless(stateless)

    def _add(self, node: str, inputs: tuple[str, ...]) -> None:
        """A call of a layer that gets its name later."""
        self.calls[node] = Line(node, node, inputs)
        self.lines.append(self.calls[node])

    def _name_layer(self, node: str, attribute: str) -> None:
        self.calls[node].layer = attribute

    def _module(self, network: Supernet, node: Node, setting: Setting) -> nn.Module:
        """The node's module with its weights. Nodes that share weights in different settings get a copy each."""
        full = network.layers[key_of(node.weight)]
        largest = network.settings[node.name]
        shares = largest.shares(setting)
        if setting.arguments() == largest.arguments() and not shares:
            return full
        module = setting.module()
        with torch.no_grad():
            for parameter in full.parameters():
                module.to(dtype=parameter.dtype, device=parameter.device)
                break
            copy_weights(full, module, shares)
        return module

    def _constructor(self, module: nn.Module, arguments: Mapping[str, Any]) -> Code:
        if isinstance(module, Activation):  # a layer that is one of torch's own needs no class around it
            return Group(f"nn.{type(module.act).__name__}(", (), ")")
        if isinstance(module, Dropout):
            return Group("nn.Dropout(", (("p=", code_of(module.dropout.p)),), ")")
        cls = type(module)
        if cls not in self.classes:
            self.classes.append(cls)
        defaults = {p.name: p.default for p in inspect.signature(cls).parameters.values()}
        items = []
        for name, value in arguments.items():
            default = defaults.get(name, inspect.Parameter.empty)
            if default is inspect.Parameter.empty or type(default) is not type(value) or default != value:
                items.append((f"{name}=", code_of(value)))
        return Group(f"{cls.__name__}(", tuple(items), ")")

    def _share_stateless(self, layers: Sequence[tuple[Node, Code]]) -> None:
        """One attribute for all layers without weights that are built alike, named after the operator."""
        kinds: dict[str, dict[str, Code]] = {}
        for node, constructor in layers:
            kinds.setdefault(node.op, {})[flat(constructor)] = constructor
        named: dict[tuple[str, str], str] = {}
        for op, constructors in kinds.items():
            for text, constructor in constructors.items():
                values = re.findall(r"=([^,()]+)", text) if len(constructors) > 1 else []
                attribute = self.names.fresh("_".join([op, *(v for v in map(identifier, values) if v)]))
                named[op, text] = attribute
                self.constructors[attribute] = constructor
        for node, constructor in layers:
            self._name_layer(node.name, named[node.op, flat(constructor)])

    # --- variables

    def _name_variables(self) -> None:
        """A short name for each value. Along a chain the name stays, so that old values go as new ones come."""
        self.variables: dict[str, str] = {}
        self.last: dict[str, int] = {self.final: len(self.lines)}
        for i, line in enumerate(self.lines):
            for name in line.reads():
                self.last[name] = max(i, self.last.get(name, 0))
        self.results: dict[tuple[Segment, ...], str] = {}
        for line in self.lines:
            parts = segments(line.node)
            self.results |= {parts[:length]: line.node for length in range(1, len(parts))}
        holder: dict[str, str] = {"x": self.graph.input.name}
        self.variables[self.graph.input.name] = "x"
        for i, line in enumerate(self.lines):
            for wanted in self._wanted(line.node):
                name = variable(wanted)
                if name not in holder or (name != "x" and self.last[holder[name]] <= i):
                    break
            else:
                name = Names(holder).fresh(variable(wanted))
            holder[name] = line.node
            self.variables[line.node] = name

    def _wanted(self, node: str) -> Iterable[str]:
        parts = segments(node)
        if len(parts) > 1 and self._is_result(node):
            scope = parts[:-1]
            kept = [part for part in scope if part.word != "repeat"]
            # where several paths lead to one lane, the lane's name is for what they come to
            lane = [Segment(p.word, p.index.removeprefix("->").strip()) for p in kept]
            short = self.dropped | {p.word for p in kept[1:] if p.index.startswith("->")}
            yield joined([*lane, Segment("", "")], short)
            yield joined([*scope, Segment("", "")], self.dropped)
        yield joined(parts, self.dropped)

    def _is_result(self, node: str) -> bool:
        """Whether the node is the last of its scope."""
        return self.results[segments(node)[:-1]] == node


def passes_through(module: nn.Module) -> bool:
    """Whether a layer gives back what it gets, as a shortcut of equal widths does."""
    if isinstance(module, Shortcut):
        return isinstance(module.conv, nn.Identity)
    return isinstance(module, Activation) and isinstance(module.act, nn.Identity)


def folded(lines: Sequence[Line], final: str) -> list[Line]:
    """Calls whose only reader is the sum right behind them become terms of it. The order of calls stays."""
    readers: dict[str, int] = {final: 2}
    for line in lines:
        for name in line.inputs:
            readers[name] = readers.get(name, 0) + 1
    out: list[Line] = []
    for line in lines:
        if not line.layer:
            terms: list[Line] = []
            while out and out[-1].layer and out[-1].node in line.inputs and readers[out[-1].node] == 1:
                terms.insert(0, out.pop())
            places = [line.inputs.index(term.node) for term in terms]
            if places != sorted(places):
                out += terms
            else:
                line.folded = terms
        out.append(line)
    return out


# --- Copies of layers -------------------------------------------------------------------------------------------------


@dataclass
class Library:
    """The source of classes and helpers that a file needs, in an order in which a name is defined before it is used."""

    definitions: dict[str, str] = field(default_factory=dict)
    imports: set[tuple[str, str, str]] = field(default_factory=set)
    origin: dict[str, str] = field(default_factory=dict)
    reserved: frozenset[str] = frozenset()
    modules: dict[str, Parsed] = field(default_factory=dict)

    def _parsed(self, module: ModuleType) -> Parsed:
        if module.__name__ not in self.modules:
            self.modules[module.__name__] = Parsed(module)
        return self.modules[module.__name__]

    def add(self, name: str, module: ModuleType, user: str) -> None:
        """Copies what `name` stands for in a module, and all that it needs.

        Raises:
            ExportError: it needs a package other than torch, its source is not there, or a name is taken.
        """
        tree = self._parsed(module)
        found = tree.defined.get(name)
        if found is None:
            self._import(name, module, user)
            return
        if self.origin.get(name) == module.__name__:
            return
        if name in self.origin or name in self.reserved:
            raise ExportError(
                f"two things named `{name}` meet in the exported file; rename the one in {module.__name__}"
            )
        self.origin[name] = module.__name__
        for used in tree.needs(found):
            self.add(used, module, name)
        for inner in ast.walk(found):
            if isinstance(inner, ast.Import | ast.ImportFrom):
                for package in [a.name for a in inner.names] if isinstance(inner, ast.Import) else [inner.module or ""]:
                    if not is_portable(package):
                        raise foreign(name, package)
        self.definitions[name] = tree.source(found)

    def _import(self, name: str, module: ModuleType, user: str) -> None:
        package, original = self._parsed(module).imported[name]
        if is_portable(package):
            self.imports.add((package, original, name))
        elif package.split(".")[0] in ("nasdsl", module.__name__.split(".")[0]) and original == name:
            self.add(name, sys.modules[package], user)
        else:
            raise foreign(user, package)


def foreign(user: str, package: str) -> ExportError:
    return ExportError(
        f"`{user}` needs the package `{package.split('.')[0]}`, but an exported file may need torch only; "
        "write the layer with torch alone"
    )


def is_portable(package: str) -> bool:
    """Whether a file may import it that is to run beside torch and nothing else."""
    top = package.split(".")[0]
    return top == "torch" or top in sys.stdlib_module_names


class Parsed:
    """The top level of a module's source: what it defines and what it imports."""

    def __init__(self, module: ModuleType) -> None:
        try:
            self.text = inspect.getsource(module)
        except (OSError, TypeError):
            raise ExportError(f"the source of {module.__name__} is not there, so its layers cannot be copied") from None
        self.lines = self.text.splitlines()
        self.defined: dict[str, ast.stmt] = {}
        self.imported: dict[str, tuple[str, str]] = {}
        for statement in ast.parse(self.text).body:
            if isinstance(statement, ast.ClassDef | ast.FunctionDef):
                self.defined[statement.name] = statement
            elif isinstance(statement, ast.Assign | ast.AnnAssign):
                targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
                self.defined |= {target.id: statement for target in targets if isinstance(target, ast.Name)}
            elif isinstance(statement, ast.Import):
                for alias in statement.names:
                    self.imported[alias.asname or alias.name.split(".")[0]] = (alias.name, "")
            elif isinstance(statement, ast.ImportFrom):
                for alias in statement.names:
                    self.imported[alias.asname or alias.name] = (statement.module or "", alias.name)

    def needs(self, statement: ast.stmt) -> list[str]:
        """Names of the module's top level that a statement mentions, in the order of the text."""
        own = getattr(statement, "name", "")
        names = [n for n in ast.walk(statement) if isinstance(n, ast.Name)]
        names.sort(key=lambda n: (n.lineno, n.col_offset))
        known = {**self.defined, **self.imported}
        return [name for name in dict.fromkeys(n.id for n in names) if name in known and name != own]

    def source(self, statement: ast.stmt) -> str:
        decorators = getattr(statement, "decorator_list", [])
        start = min([statement.lineno, *(d.lineno for d in decorators)])
        return "\n".join(self.lines[start - 1 : statement.end_lineno])


def import_lines(imports: Iterable[tuple[str, str, str]]) -> list[str]:
    """Imports in the usual order: the standard library, then torch; whole modules before names."""
    lines: list[str] = []
    for torch_only in (False, True):
        whole: set[tuple[str, str]] = set()
        names: dict[str, set[str]] = {}
        for package, original, name in imports:
            if (package.split(".")[0] == "torch") != torch_only or package == "__future__":
                continue
            if not original:
                plain = package if name == package.split(".")[0] else f"{package} as {name}"
                whole.add((package, plain))
            else:
                names.setdefault(package, set()).add(original if original == name else f"{original} as {name}")
        section = [f"import {text}" for _, text in sorted(whole)]
        section += [
            f"from {package} import {', '.join(sorted(names[package], key=member_order))}" for package in sorted(names)
        ]
        if section:
            lines += ["", *section]
    return lines


def member_order(name: str) -> tuple[int, str]:
    """CONSTANTS, then Classes, then functions, as import sorters do."""
    plain = name.split(" as ")[0]
    kind = 0 if plain.isupper() and len(plain) > 1 else 1 if plain[:1].isupper() else 2
    return kind, name


# --- The file ---------------------------------------------------------------------------------------------------------

READER = '''
def read_weights(path: str | Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file: the length of a JSON header, the header, then the raw tensors."""
    tensors = {}
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        header.pop("__metadata__", None)
        start = file.tell()
        for name, entry in header.items():
            begin, end = entry["data_offsets"]
            file.seek(start + begin)
            raw, dtype = bytearray(file.read(end - begin)), DTYPES[entry["dtype"]]
            tensor = torch.frombuffer(raw, dtype=dtype) if raw else torch.empty(0, dtype=dtype)
            tensors[name] = tensor.reshape(entry["shape"])
    return tensors


def load(weights: str | Path = WEIGHTS, device: str | torch.device = "cpu") -> Found:
    """The network with its weights, in evaluation mode."""
    model = Found()
    model.load_state_dict(read_weights(weights), strict=True, assign=True)
    return model.to(device).eval()
'''

NORMALISE = '''
def normalise(images: torch.Tensor) -> torch.Tensor:
    """What the network wants to see of images (B C H W) with values from 0 to 1."""
    mean, std = (images.new_tensor(values)[:, None, None] for values in (MEAN, STD))
    return (images - mean) / std
'''

DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}
RESERVED = ("Found", "load", "read_weights", "normalise", "Path", "DTYPES", "WEIGHTS", "MEAN", "STD", "CLASSES")
TASK_KEYS = ("name", "mean", "std", "classes")


def dimensions(shape: Shape) -> str:
    """`3 x 32 x 32`, or `10` for a vector."""
    sizes = [shape.channels] if shape.height is None else [shape.channels, shape.height, shape.width]
    return " x ".join(str(size) for size in sizes)


def axes(shape: Shape) -> str:
    """`B 5 H/2 W/2`."""
    if shape.height is None:
        return f"B {shape.channels}"
    scale = Fraction(shape.scale)

    def side(name: str) -> str:
        name = name if scale.numerator == 1 else f"{scale.numerator}*{name}"
        return name if scale.denominator == 1 else f"{name}/{scale.denominator}"

    return f"B {shape.channels} {side('H')} {side('W')}"


def origin_of(graph: Graph, space: Space | None) -> str:
    """Where the network is from, for the head of the file."""
    if space is not None:
        return f"the space `{space.name}` ({printable(Path(space.source.name).name)}, hash {space.digest()})"
    for node in graph.nodes.values():
        if node.span is not None:
            source = node.span.source
            return f"{printable(Path(source.name).name)} (hash {content_hash(source.text)})"
    return "a graph without a file"


def printable(text: str) -> str:
    """For a docstring."""
    return "".join(c if c.isprintable() and c not in '\\"' else "_" for c in text)


def wrapped(text: str) -> list[str]:
    """A paragraph of a docstring."""
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + 1 + len(word) > WIDTH and lines[-1]:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def checked_task(task: Mapping[str, Any], network: Network) -> dict[str, Any]:
    """The constants of a task that go into the file.

    Raises:
        ExportError: a constant does not fit the network.
    """
    unknown = sorted(set(task) - set(TASK_KEYS))
    if unknown:
        raise ExportError(f"a task has no `{unknown[0]}` to export; it can have {', '.join(TASK_KEYS)}")
    constants: dict[str, Any] = {}
    channels = network.graph.input.shape.channels
    if ("mean" in task) != ("std" in task):
        raise ExportError("mean and std go together; give both or neither")
    for name in ("mean", "std"):
        if name in task:
            constants[name.upper()] = tuple(float(value) for value in task[name])
            if len(constants[name.upper()]) != channels:
                raise ExportError(
                    f"{name} has {len(constants[name.upper()])} values, but the input has {channels} channels"
                )
    if any(value <= 0 for value in constants.get("STD", ())):
        raise ExportError("std must be above 0")
    if "classes" in task:
        classes = constants["CLASSES"] = tuple(str(name) for name in task["classes"])
        head = network.graph.nodes[network.final]
        if head.op in ("classify", "segment") and len(classes) != head.shape.channels:
            raise ExportError(f"the task has {len(classes)} classes, but the network gives {head.shape.channels}")
    return constants


class Writer:
    """Writes a network's lines and layers as a module."""

    def __init__(self, network: Network, module: str, task: Mapping[str, Any], space: Space | None) -> None:
        self.network, self.module, self.space = network, module, space
        self.constants = checked_task(task, network)
        self.task = printable(str(task.get("name", "")))
        self.library = Library(reserved=frozenset(RESERVED))
        for cls in network.classes:
            self.library.add(cls.__name__, sys.modules[cls.__module__], cls.__name__)
        self.library.imports |= {("json", "", "json"), ("pathlib", "Path", "Path")}
        self.library.imports |= {("torch", "", "torch"), ("torch", "nn", "nn")}

    def text(self) -> str:
        parts = ["\n".join(['"""' + "\n".join(self._head()) + '\n"""', "", "from __future__ import annotations"])]
        parts[0] += "\n" + "\n".join(import_lines(self.library.imports))
        parts[0] += "\n\n" + "\n".join(self._constants())
        parts += self.library.definitions.values()
        parts.append("\n".join(self._class()))
        if "MEAN" in self.constants:
            parts.append(NORMALISE.strip())
        parts += [READER.strip(), "\n".join(self._main())]
        return "\n\n\n".join(parts) + "\n"

    def _head(self) -> list[str]:
        network = self.network
        graph = network.graph
        images = graph.input.shape
        name = printable(self.space.name) if self.space is not None else "A network found by architecture search"
        macs = int(expr.evaluate(network.cost.macs, {}))
        params = sum(tensor.numel() for tensor in network.weights.values() if isinstance(tensor, nn.Parameter))
        output = graph.nodes[network.final].shape
        what = (
            f"{name}, for {self.task}: one network of a search space"
            if self.task
            else f"{name}: one network of a search space"
        )
        if self.space is None:
            what = f"{name}, for {self.task}" if self.task else name
        lines = [*wrapped(f"{what}."), ""]
        lines += wrapped(
            f"For an input of {dimensions(images)} it takes {macs:,} multiply-accumulates and gives "
            f"{dimensions(output)}; other sizes run too. It has {params:,} parameters, which lie in "
            f"{self.module}.safetensors. This file needs torch and nothing else."
        )
        prepared = "normalise(images)" if "MEAN" in self.constants else "images"
        wanted = "load, normalise" if "MEAN" in self.constants else "load"
        size = f"B {dimensions(images).replace(' x ', ' ')}"
        values = " with values from 0 to 1" if "MEAN" in self.constants else ""
        lines += ["", f"    from {self.module} import {wanted}", ""]
        lines += ["    model = load()", f"    output = model({prepared})  # images: {size}{values}"]
        return [*lines, "", *wrapped(f"Written by nasdsl from {origin_of(graph, self.space)}.")]

    def _constants(self) -> list[str]:
        lines = [f'WEIGHTS = Path(__file__).with_name("{self.module}.safetensors")']
        for name, values in self.constants.items():
            lines += laid_out(f"{name} = ", code_of(values), 0)
        items = tuple((f'"{key}": ', f"torch.{name}") for key, name in DTYPES.items())
        return [*lines, *laid_out("DTYPES = ", Group("{", items, "}"), 0)]

    # --- the class

    def _class(self) -> list[str]:
        lines = ["class Found(nn.Module):", '    """The network."""', ""]
        lines += ["    def __init__(self) -> None:", "        super().__init__()"]
        lines += self._layers()
        runs = self._runs()
        for method, part in runs:
            if method:
                lines += ["", *self._method(method, part)]
        return [*lines, "", *self._forward(runs)]

    def _layers(self) -> list[str]:
        network = self.network
        groups: dict[str, list[str]] = {}
        for attribute in network.constructors:
            owner = network.owner.get(attribute)
            parts = segments(owner) if owner else ()
            groups.setdefault(top(owner) if owner and len(parts) > 1 else owner or "", []).append(attribute)
        lines: list[str] = []
        titled = False
        for group, attributes in groups.items():
            title = len(attributes) > 1 or (not group and bool(lines))
            if lines and (title or titled):
                lines.append("")
            if title:
                lines.append(f"        # {printable(group) if group else 'layers without weights'}")
            titled = title
            for attribute in attributes:
                lines += laid_out(f"self.{attribute} = ", network.constructors[attribute], 8)
        return lines

    def _runs(self) -> list[tuple[str, list[Line]]]:
        """The lines in parts that belong together, each with the name of its method, or none if it stays inline."""
        runs: list[tuple[str, list[Line]]] = []
        for line in self.network.lines:
            if runs and runs[-1][0] == top(line.node):
                runs[-1][1].append(line)
            else:
                runs.append((top(line.node), [line]))
        keys = [key for key, _ in runs]
        out = []
        for key, part in runs:
            is_method = len(runs) > 1 and len(part) >= METHOD and keys.count(key) == 1 and self._fits(key, part)
            out.append((self.network.names.fresh(joined(segments(key), frozenset())) if is_method else "", part))
        return out

    def _fits(self, key: str, part: Sequence[Line]) -> bool:
        results = ", ".join(self._results(part))
        return (
            len(f"        {results} = self.{identifier(key)}__(") <= WIDTH and len(f"        return {results}") <= WIDTH
        )

    def _arguments(self, part: Sequence[Line]) -> list[str]:
        made = {line.node for line in part}
        read = [name for line in part for name in line.reads() if name not in made]
        return list(dict.fromkeys(self.network.variables[name] for name in read))

    def _results(self, part: Sequence[Line]) -> list[str]:
        network = self.network
        end = network.lines.index(part[-1])
        return [network.variables[line.node] for line in part if network.last[line.node] > end]

    def _method(self, name: str, part: Sequence[Line]) -> list[str]:
        results = self._results(part)
        kind = "torch.Tensor" if len(results) == 1 else "tuple[torch.Tensor, ...]"
        items: list[tuple[str, Code]] = [("", "self")]
        items += [("", f"{argument}: torch.Tensor") for argument in self._arguments(part)]
        lines = laid_out("", Group(f"def {name}(", tuple(items), ")"), 4, f" -> {kind}:")
        for i, line in enumerate(part):
            lines += self._statement(line, i == len(part) - 1 and len(results) == 1)
        if len(results) > 1:
            lines.append(f"        return {', '.join(results)}")
        return lines

    def _forward(self, runs: Sequence[tuple[str, list[Line]]]) -> list[str]:
        network = self.network
        lines = ["    def forward(self, x: torch.Tensor) -> torch.Tensor:"]
        shapes = (axes(network.graph.input.shape), axes(network.graph.nodes[network.final].shape))
        lines.append(f'        """{shapes[0]} -> {shapes[1]}."""')
        if not network.lines:
            return [*lines, "        return x"]
        for number, (method, part) in enumerate(runs):
            if not method:
                if number and len(part) > 2:
                    lines += ["", f"        # {printable(top(part[0].node))}"]
                for line in part:
                    lines += self._statement(line, line is network.lines[-1])
                continue
            call = Group(f"self.{method}(", tuple(("", name) for name in self._arguments(part)), ")")
            results = self._results(part)
            ends = part[-1] is network.lines[-1]
            lines += laid_out("return " if ends else f"{', '.join(results)} = ", call, 8)
        return lines

    def _statement(self, line: Line, ends: bool) -> list[str]:
        target = "return " if ends else f"{self.network.variables[line.node]} = "
        if line.layer:
            return laid_out(target, self.network.call(line), 8)
        return laid_out_sum(target, self.network.terms(line), 8)

    def _main(self) -> list[str]:
        shape = self.network.graph.input.shape
        return [
            'if __name__ == "__main__":',
            "    network = load()",
            "    with torch.inference_mode():",
            f"        answer = network(torch.randn(1, {shape.channels}, {shape.height}, {shape.width}))",
            '    print("output:", " x ".join(str(size) for size in answer.shape))',
            '    print(f"parameters: {sum(p.numel() for p in network.parameters()):,}")',
        ]


def top(name: str) -> str:
    """The first segment of a node's name, as the space calls it."""
    first = segments(name)[0]
    return (f"{first.word}[{first.index}]" if first.index else first.word)[:100]


# --- Export -----------------------------------------------------------------------------------------------------------


def export_python(
    network: Supernet, path: Path, *, task: Mapping[str, Any] | None = None, space: Space | None = None
) -> list[Path]:
    """Writes a network as a Python file and, beside it, its weights: both, or neither.

    Args:
        network: of one architecture, as `extract` gives it.
        path: the `.py` file; in a folder it is named `found.py`.
        task: constants of the task for the user of the file: name, mean, std, classes.
        space: the file's head names it.

    Raises:
        ExportError: the network has decisions left, or cannot be written in torch alone.
    """
    path = Path(path)
    if path.suffix != ".py":
        path = path / "found.py"
    open_decisions = list(network.graph.decisions)
    if open_decisions:
        number = f"{len(open_decisions)} decisions" if len(open_decisions) > 1 else "1 decision"
        raise ExportError(
            f"this is still a space: {number} open, such as `{open_decisions[0]}`; "
            "export needs one architecture: search or pin the space first, or take one out with `extract`"
        )
    if not path.stem.isidentifier() or keyword.iskeyword(path.stem):
        raise ExportError(f"`{path.name}` cannot be imported under that name; use letters, digits and underscores")
    written = Network(network)
    text = Writer(written, path.stem, task or {}, space).text()
    files = [path, path.with_suffix(".safetensors")]
    write_together({files[1]: weights_bytes(written.weights), files[0]: text.encode()})
    return files


def weights_bytes(weights: Mapping[str, torch.Tensor]) -> bytes:
    """The content of a safetensors file."""
    from safetensors.torch import save

    known = {getattr(torch, name) for name in DTYPES.values()}
    for name, tensor in weights.items():
        if tensor.dtype not in known:
            raise ExportError(
                f"`{name}` holds {tensor.dtype}, which an exported file cannot; convert the network first"
            )
    return save(
        {name: tensor.detach().cpu().contiguous().clone() for name, tensor in weights.items()}, {"format": "pt"}
    )


def write_together(contents: Mapping[Path, bytes]) -> None:
    """Writes all files or none: new ones are complete before the first old one goes, else these come back."""
    kept: dict[Path, Path] = {}
    new: dict[Path, Path] = {}
    moved: list[Path] = []
    try:
        for path, content in contents.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
            new[path] = Path(name)
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            umask = os.umask(0)
            os.umask(umask)
            new[path].chmod(0o666 & ~umask)  # temporary files are private; these are not
        try:
            for path in contents:
                if path.exists():
                    kept[path] = path.with_name(f"{new[path].name}.old")
                    path.replace(kept[path])
                new[path].replace(path)
                moved.append(path)
        except BaseException:
            for path in moved:
                path.unlink()
            for path, old in kept.items():
                if old.exists():
                    old.replace(path)
            raise
    finally:
        for leftover in (*new.values(), *kept.values()):
            leftover.unlink(missing_ok=True)


# --- Proof ------------------------------------------------------------------------------------------------------------

CHILD = """
import importlib.util, json, sys

class OnlyTorch:
    # torch with what it imports itself; numpy is not part of that, as torch runs without
    allowed = {"torch", "functorch", "torchgen", "typing_extensions", "sympy", "mpmath", "networkx", "jinja2",
               "markupsafe", "filelock", "fsspec", "triton", "nvidia"}

    def find_spec(self, name, path=None, target=None):
        top = name.split(".")[0]
        if top in self.allowed or top in sys.stdlib_module_names or top == "found_network":
            return None
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, OnlyTorch())
file, data, device, threads = sys.argv[1:]
import warnings
warnings.simplefilter("ignore")
import torch
torch.set_num_threads(int(threads))
spec = importlib.util.spec_from_file_location("found_network", file)
module = sys.modules["found_network"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
model = module.load(device=device)
with torch.inference_mode():
    outputs = [model(x.to(device)).cpu() for x in torch.load(data, weights_only=True)]
torch.save(outputs, data)
"""


def verify_python(path: Path, network: Supernet, inputs: torch.Tensor | Sequence[torch.Tensor]) -> float:
    """The largest difference between a written file and the network, in evaluation mode.

    The file runs in a process of its own that can import torch, but neither nasdsl nor numpy nor anything else.

    Raises:
        ExportError: the file does not run.
    """
    inputs = [inputs] if isinstance(inputs, torch.Tensor) else list(inputs)
    parameter = next(network.parameters(), torch.zeros(0))
    training = network.training
    network.eval()
    try:
        with torch.inference_mode():
            expected = [network(x.to(parameter.device)).cpu() for x in inputs]
    finally:
        network.train(training)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "tensors.pt"
        torch.save([x.detach().cpu() for x in inputs], data)
        command = [sys.executable, "-I", "-c", CHILD, str(Path(path).resolve()), str(data), str(parameter.device)]
        done = subprocess.run([*command, str(torch.get_num_threads())], capture_output=True, text=True, check=False)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
            raise ExportError(f"{Path(path).name} does not run by itself: {reason}")
        outputs = torch.load(data, weights_only=True)
    return max((difference(a, b) for a, b in zip(expected, outputs, strict=True)), default=0.0)


def difference(a: torch.Tensor, b: torch.Tensor) -> float:
    """The largest absolute difference; infinite where shapes, or which values are no numbers, differ."""
    if a.shape != b.shape or not torch.equal(a.isnan(), b.isnan()):
        return math.inf
    gaps = (a.double() - b.double()).abs()
    gaps[(a == b) | a.isnan()] = 0  # infinite values that agree
    return float(gaps.max()) if gaps.numel() else 0.0
