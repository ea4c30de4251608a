"""Packages that not everybody needs: which extra of nasdsl brings which, and what is said where one is missing."""

from __future__ import annotations

from importlib import util

from nasdsl.compiler.diagnostics import Diagnostic, NasdslError

CORE = ("graphviz", "lark", "networkx", "numpy", "pydantic")
"""Packages that are always there, beside torch."""
PACKAGES = {
    "lightning_fabric": ("search", "lightning-fabric"),
    "moocore": ("search", "moocore"),
    "optuna": ("search", "optuna"),
    "rich": ("search", "rich"),
    "safetensors": ("search", "safetensors"),
    "scipy": ("search", "scipy"),
    "sklearn": ("search", "scikit-learn"),
    "sqlalchemy": ("search", "sqlalchemy"),
    "tensorboard": ("search", "tensorboard"),
    "torchmetrics": ("search", "torchmetrics"),
    "faster_coco_eval": ("vision", "faster-coco-eval"),
    "kornia": ("vision", "kornia"),
    "PIL": ("vision", "pillow"),
    "yaml": ("vision", "pyyaml"),
    "onnx": ("onnx", "onnx"),
    "onnxruntime": ("onnx", "onnxruntime"),
    "onnxscript": ("onnx", "onnxscript"),
    "lsprotocol": ("editor", "lsprotocol"),
    "pygls": ("editor", "pygls"),
    "pygments": ("editor", "pygments"),
    "psycopg": ("postgresql", "psycopg"),
}
"""By the name that is imported, the extra that brings it, and what the package is called where it is installed from."""
ON_IMAGES = dict.fromkeys(("search", "train", "eval", "predict", "demo"), ("search", "vision"))
"""Commands that mostly work on images, and so on several extras: whoever lacks one is told of all that are missing."""


class MissingPackage(NasdslError):
    """A package that an extra brings is not installed."""

    code = "missing-package"


def is_there(module: str) -> bool:
    """Whether a module can be imported, without doing so."""
    try:
        return util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def require(*modules: str, what: str, command: str = "") -> None:
    """
    Args:
        what: needs them, at the beginning of a sentence.
        command: that it is, as `advice` takes it.

    Raises:
        MissingPackage: one is not installed.
    """
    missing = [module for module in modules if not is_there(module)]
    if missing:
        raise MissingPackage(
            f"{what} needs the package `{missing[0]}`, which is not installed", advice(missing[0], command)
        )


def advice(module: str, command: str = "") -> str:
    """What installs what a module is missing for.

    Args:
        command: that it is missing for, as `ON_IMAGES` has them.
    """
    own = PACKAGES[module][0]
    missing = {extra for name, (extra, _) in PACKAGES.items() if not is_there(name)}
    extras = [extra for extra in ON_IMAGES.get(command, (own,)) if extra in missing] or [own]
    return f"pip install 'nasdsl[{','.join(extras)}]'"


def lack_of_package(problem: BaseException, command: str = "") -> Diagnostic | None:
    """What is told of an import that failed as an extra is not installed; None of any other exception."""
    if not isinstance(problem, ModuleNotFoundError) or problem.name is None:
        return None
    module = problem.name.partition(".")[0]
    if module not in PACKAGES or is_there(module):
        return None
    message = f"this needs the package `{module}`, which is not installed"
    return Diagnostic(MissingPackage.code, message, help=advice(module, command))
