"""Which nasdsl this is, and what it runs with."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from importlib import metadata

from nasdsl.compiler.extras import CORE, PACKAGES

UNKNOWN = "0+unknown"
"""The version of a checkout that is not installed."""


def version() -> str:
    """Of the installed package."""
    return installed("nasdsl") or UNKNOWN


def installed(package: str) -> str | None:
    """The version of a package, without importing it; None where it is not there."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def parts() -> Iterator[tuple[str, str]]:
    """What nasdsl runs with, and what the optional parts of it need: names and versions, an extra each a line. The last
    is torch with its device, for which it is imported."""
    yield "nasdsl", version()
    yield "python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    yield "core", _told(CORE)
    for extra in dict.fromkeys(extra for extra, _ in PACKAGES.values()):
        yield extra, _told([package for own, package in PACKAGES.values() if own == extra])
    yield "torch", _torch()


def _told(packages: tuple[str, ...] | list[str]) -> str:
    return ", ".join(f"{package} {installed(package) or 'not installed'}" for package in packages)


def _torch() -> str:
    if installed("torch") is None:
        return "not installed"
    import torch

    if torch.cuda.is_available():
        return f"{torch.__version__}, on {torch.cuda.get_device_name()}"
    if torch.backends.mps.is_available():
        return f"{torch.__version__}, on Apple's mps"
    threads = torch.get_num_threads()
    return f"{torch.__version__}, on the CPU with {threads} thread{'s' if threads > 1 else ''}"
