"""The layer classes that a network needs, copied with what they need themselves."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from types import ModuleType

from nasdsl.runtime.export.errors import ExportError
from nasdsl.runtime.export.names import segments


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
                f"two things named `{name}` meet in the exported file", f"rename the one in {module.__name__}"
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
        f"`{user}` needs the package `{package.split('.')[0]}`, but an exported file may need torch only",
        "write the layer with torch alone",
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
        self.ends: dict[ast.stmt, int] = {}
        body = ast.parse(self.text).body
        for statement, after in zip(body, [*body[1:], None], strict=True):
            if isinstance(statement, ast.ClassDef | ast.FunctionDef):
                self.defined[statement.name] = statement
            elif isinstance(statement, ast.Assign | ast.AnnAssign):
                targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
                self.defined |= {target.id: statement for target in targets if isinstance(target, ast.Name)}
                if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):  # what it stands for
                    self.ends[statement] = after.end_lineno or 0
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
        return "\n".join(self.lines[start - 1 : self.ends.get(statement, statement.end_lineno)])


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


def top(name: str) -> str:
    """The first segment of a node's name, as the space calls it."""
    first = segments(name)[0]
    return (f"{first.word}[{first.index}]" if first.index else first.word)[:100]
