"""Pages from their parts: files with fields such as `${title}`, and data that no reader of HTML takes for markup."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import resources
from typing import Any

from nasdsl.compiler.files import to_json


def filled(package: str, name: str, fields: Mapping[str, str]) -> str:
    """A part of the page with its fields, in one pass, so that what is filled in is not searched for fields itself."""
    return re.sub(r"\$\{(\w+)\}", lambda match: fields[match[1]], part(package, name))


def part(package: str, name: str) -> str:
    """The text of a file that ships with a package."""
    return resources.files(package).joinpath(name).read_text(encoding="utf-8")


def scripts(package: str, name: str, data: Any) -> str:
    """A script, and before it the data that it reads."""
    data = f'<script type="application/json" id="data">{inert(data)}</script>'
    return f"{data}\n<script>\n{part(package, name)}</script>\n"


def inert(value: Any) -> str:
    """JSON that no HTML reader takes for markup."""
    text = to_json(value, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
