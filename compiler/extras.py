"""Packages that not everybody needs: which extra of nasdsl brings which, and what is said where one is missing."""

from __future__ import annotations

from importlib import util

from nasdsl.compiler.diagnostics import Diagnostic, NasdslError

EXTRAS = {
    "lightning_fabric": "search",
    "moocore": "search",
    "optuna": "search",
    "rich": "search",
    "safetensors": "search",
    "scipy": "search",
    "sklearn": "search",
    "sqlalchemy": "search",
    "tensorboard": "search",
    "torchmetrics": "search",
    "faster_coco_eval": "vision",
    "kornia": "vision",
    "PIL": "vision",
    "yaml": "vision",
    "onnx": "onnx",
    "onnxruntime": "onnx",
    "onnxscript": "onnx",
    "psycopg": "postgresql",
    "pygls": "editor",
    "lsprotocol": "editor",
}
"""By the name that is imported, the extra whose installation brings it."""
TOGETHER = ("search", "vision")
"""Whoever lacks one of these extras is told the other, too, where that is missing: mostly images are searched on."""


class MissingPackage(NasdslError):
    """A package that an extra brings is not installed."""

    code = "missing-package"


def is_there(module: str) -> bool:
    """Whether a module can be imported, without doing so."""
    try:
        return util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def require(*modules: str, what: str) -> None:
    """
    Args:
        what: needs them, at the beginning of a sentence.

    Raises:
        MissingPackage: one is not installed.
    """
    missing = [module for module in modules if not is_there(module)]
    if missing:
        raise MissingPackage(f"{what} needs the package `{missing[0]}`, which is not installed", advice(missing[0]))


def advice(module: str) -> str:
    """The command that installs what a module is missing for."""
    extra = EXTRAS[module]
    extras = [extra]
    if extra in TOGETHER:
        whole = [one for one in TOGETHER if all(is_there(name) for name, own in EXTRAS.items() if own == one)]
        extras = [one for one in TOGETHER if one not in whole]
    return f"pip install 'nasdsl[{','.join(extras)}]'"


def lack_of_package(problem: BaseException) -> Diagnostic | None:
    """What is told of an import that failed as an extra is not installed; None of any other exception."""
    if not isinstance(problem, ModuleNotFoundError) or problem.name is None:
        return None
    module = problem.name.partition(".")[0]
    if module not in EXTRAS or is_there(module):
        return None
    message = f"this needs the package `{module}`, which is not installed"
    return Diagnostic(MissingPackage.code, message, help=advice(module))
