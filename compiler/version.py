"""Which nasdsl this is."""

from __future__ import annotations


def version() -> str:
    """Of the installed package; `0+unknown` in a checkout that is not installed."""
    from importlib import metadata

    try:
        return metadata.version("nasdsl")
    except metadata.PackageNotFoundError:
        return "0+unknown"
