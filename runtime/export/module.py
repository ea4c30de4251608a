"""The text of the module file."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from torch import nn

from nasdsl.compiler.graph import Graph, Shape
from nasdsl.compiler.layers import scene
from nasdsl.compiler.meaning import meaning
from nasdsl.compiler.parse import parse
from nasdsl.compiler.space import Space
from nasdsl.compiler.values import expr
from nasdsl.runtime.export.code import WIDTH, Code, Group, code_of, laid_out, laid_out_sum
from nasdsl.runtime.export.errors import ExportError
from nasdsl.runtime.export.library import Library, import_lines, top
from nasdsl.runtime.export.names import identifier, joined, segments
from nasdsl.runtime.export.network import Line, Network

METHOD = 4
"""A part of the network with fewer statements stands in `forward` itself."""

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

NORMALISE_ROWS = '''
def normalise(rows: torch.Tensor) -> torch.Tensor:
    """What the network wants to see of rows of a table (B C 1 1), with the columns that FEATURES names."""
    mean, std = (rows.new_tensor(values)[:, None, None] for values in (MEAN, STD))
    return (rows - mean) / std
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
RECORD = "dict[str, torch.Tensor]"
TARGETS = "Mapping[str, torch.Tensor]"
RESERVED = (
    "Found",
    "load",
    "read_weights",
    "normalise",
    "Path",
    "DTYPES",
    "WEIGHTS",
    "MEAN",
    "STD",
    "CLASSES",
    "JOINTS",
    "FEATURES",
    "TARGETS",
)
TASK_KEYS = ("name", "mean", "std", "classes", "joints", "features", "targets")


def dimensions(shape: Shape) -> str:
    """`3 x 32 x 32`, or `10` for a vector, or `1000 x 4` where an image has so many of them."""
    sizes = [shape.channels] if shape.height is None else [shape.channels, shape.height, shape.width]
    sizes = sizes if shape.items == 1 else [shape.items, *sizes]
    return " x ".join(str(size) for size in sizes)


def axes(shape: Shape) -> str:
    """`B 5 H/2 W/2`, or `B*N 4` for several of an image, whose size does not follow the image's."""
    if shape.items != 1:
        return " ".join(f"B*N {dimensions(replace(shape, items=1))}".split(" x "))
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
            return f"{printable(Path(source.name).name)} (hash {meaning(parse(source))})"
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
        raise ExportError(f"a task has no `{unknown[0]}` to export", f"it can have {', '.join(TASK_KEYS)}")
    constants: dict[str, Any] = {}
    channels = network.graph.input.shape.channels
    if ("mean" in task) != ("std" in task):
        raise ExportError("mean and std go together", "give both or neither")
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
        given = head.attrs["classes"] if network.detects else head.shape.channels
        if (network.detects or head.op in ("classify", "segment")) and len(classes) != given:
            raise ExportError(f"the task has {len(classes)} classes, but the network gives {given}")
    if "joints" in task:
        joints = constants["JOINTS"] = tuple(str(name) for name in task["joints"])
        given = network.graph.nodes[network.final].shape.channels
        if len(joints) != given:
            raise ExportError(f"the task has {len(joints)} joints, but the network gives {given}")
    for name, given in (("features", channels), ("targets", network.graph.nodes[network.final].shape.channels)):
        if task.get(name):
            names = constants[name.upper()] = tuple(str(one) for one in task[name])
            if len(names) != given:
                raise ExportError(f"the task has {len(names)} {name}, but the network has {given}")
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
        if network.told:
            self.library.add("Scene", scene, "forward")
            self.library.imports.add(("collections.abc", "Mapping", "Mapping"))

    def text(self) -> str:
        parts = ["\n".join(['"""' + "\n".join(self._head()) + '\n"""', "", "from __future__ import annotations"])]
        parts[0] += "\n" + "\n".join(import_lines(self.library.imports))
        parts[0] += "\n\n" + "\n".join(self._constants())
        parts += self.library.definitions.values()
        parts.append("\n".join(self._class()))
        if "MEAN" in self.constants:
            parts.append((NORMALISE_ROWS if "FEATURES" in self.constants else NORMALISE).strip())
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
        gives = f"at most {output.items} detections" if network.detects else dimensions(output)
        sizes = "" if graph.input.shape.pixels == 1 else "; other sizes run too"
        lines += wrapped(
            f"For an input of {dimensions(images)} it takes {macs:,} multiply-accumulates and gives "
            f"{gives}{sizes}. It has {params:,} parameters, which lie in "
            f"{self.module}.py.safetensors. This file needs torch and nothing else."
        )
        table = "FEATURES" in self.constants
        rows = "rows" if table else "images"
        prepared = f"normalise({rows})" if "MEAN" in self.constants else rows
        wanted = "load, normalise" if "MEAN" in self.constants else "load"
        size = f"B {dimensions(images).replace(' x ', ' ')}"
        values = " with values from 0 to 1" if "MEAN" in self.constants and not table else ""
        answer = "found" if network.detects else "output"
        lines += ["", f"    from {self.module} import {wanted}", ""]
        lines += ["    model = load()", f"    {answer} = model({prepared})  # {rows}: {size}{values}"]
        if "TARGETS" in self.constants:
            lines += ["", *wrapped("Its output has the numbers that TARGETS names, in their own units.")]
        if network.told:
            for paragraph in self._about_records(prepared, output.items):
                lines += ["", *wrapped(paragraph)]
        return [*lines, "", *wrapped(f"Written by nasdsl from {origin_of(graph, self.space)}.")]

    def _about_records(self, prepared: str, most: Any) -> list[str]:
        """What goes into and comes out of a network that reads targets, in paragraphs."""
        normalised = " once they are normalised" if "MEAN" in self.constants else ""
        told = [
            f"Images of different sizes go into one batch padded at the right and at the bottom, with what is 0"
            f"{normalised}. `targets={{'size': sizes}}` then has the height and width of each, int64 B 2.",
            f"To train it further: `model.train()`, then `model({prepared}, targets)` gives its losses by name, each a "
            "number; their sum is to be minimised. `targets` has `boxes`, float32 B M 4; `labels`, int64 B M, -1 where "
            "a row is no box; and, where there are such, `crowd`, bool B M, boxes that neither teach nor count "
            "against, and `size`.",
        ]
        if self.network.detects:
            names = "indices of CLASSES" if "CLASSES" in self.constants else "counted from 0"
            told.insert(
                0,
                f"`found` has, by falling score, `boxes`, float32 B {most} 4: x1, y1, x2, y2 in pixels of the input, "
                f"whose first spans 0 to 1; `scores`, float32 B {most}, from 0 to 1; and `labels`, int64 B {most}, "
                f"{names}. Rows that are no detection have score 0 and label -1.",
            )
        return told

    def _constants(self) -> list[str]:
        lines = [f'WEIGHTS = Path(__file__).with_name("{self.module}.py.safetensors")']
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
        if self.network.detects and part[-1].node == self.network.final:
            kind = RECORD
        items: list[tuple[str, Code]] = [("", "self")]
        items += [("", f"{argument}: torch.Tensor") for argument in self._arguments(part)]
        if any(line.reads_scene for line in part):
            items.append(("", "scene: Scene"))
        lines = laid_out("", Group(f"def {name}(", tuple(items), ")"), 4, f" -> {kind}:")
        for i, line in enumerate(part):
            lines += self._statement(line, i == len(part) - 1 and len(results) == 1)
        if len(results) > 1:
            lines.append(f"        return {', '.join(results)}")
        return lines

    def _forward(self, runs: Sequence[tuple[str, list[Line]]]) -> list[str]:
        network = self.network
        output = network.graph.nodes[network.final].shape
        shapes = (axes(network.graph.input.shape), axes(output))
        if network.told:
            kind = RECORD if network.detects else f"torch.Tensor | {RECORD}"
            given = (("", "self"), ("", "images: torch.Tensor"), ("", f"targets: {TARGETS} | None = None"))
            lines = laid_out("", Group("def forward(", given, ")"), 4, f" -> {kind}:")
            found = f"`boxes` B {output.items} 4, `scores` B {output.items} and `labels` B {output.items}"
            lines.append(f'        """{shapes[0]} -> {found if network.detects else shapes[1]}.')
            lines += ["", "        In training, where the targets have boxes, its losses by name.", '        """']
            lines.append("        scene = Scene.of(images, targets, self.training)")
        else:
            lines = ["    def forward(self, x: torch.Tensor) -> torch.Tensor:"]
            lines.append(f'        """{shapes[0]} -> {shapes[1]}."""')
        if not network.lines:
            return [*lines, "        return x"]
        for number, (method, part) in enumerate(runs):
            if not method:
                if number and len(part) > 2:
                    lines += ["", f"        # {printable(top(part[0].node))}"]
                for line in part:
                    lines += self._statement(line, line is network.lines[-1] and not network.told)
                continue
            items: list[tuple[str, Code]] = [("", name) for name in self._arguments(part)]
            if any(line.reads_scene for line in part):
                items.append(("", "scene"))
            call = Group(f"self.{method}(", tuple(items), ")")
            results = self._results(part)
            ends = part[-1] is network.lines[-1] and not network.told
            lines += laid_out("return " if ends else f"{', '.join(results)} = ", call, 8)
        if network.told:
            lines.append(f"        return scene.losses if scene.learns else {network.variables[network.final]}")
        return lines

    def _statement(self, line: Line, ends: bool) -> list[str]:
        target = "return " if ends else f"{self.network.variables[line.node]} = "
        if line.layer:
            return laid_out(target, self.network.call(line), 8)
        return laid_out_sum(target, self.network.terms(line), 8)

    def _main(self) -> list[str]:
        shape = self.network.graph.input.shape
        prints = ['    print("output:", " x ".join(str(size) for size in answer.shape))']
        if self.network.detects:
            prints = [
                "    for name, values in answer.items():",
                '        print(f"{name}:", " x ".join(str(size) for size in values.shape))',
                """    print("detections in an image of noise:", int((answer["labels"] >= 0).sum()))""",
            ]
        return [
            'if __name__ == "__main__":',
            "    network = load()",
            "    with torch.inference_mode():",
            f"        answer = network(torch.randn(1, {shape.channels}, {shape.height}, {shape.width}))",
            *prints,
            '    print(f"parameters: {sum(p.numel() for p in network.parameters()):,}")',
        ]
