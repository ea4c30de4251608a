"""Links of pages to files of the repository that are no pages: they work where the Markdown is read, and in the site.

Measurements (`benchmarks/results/NAME.md`) are pages of the site. Of other files the site has a copy.
"""

from __future__ import annotations

import re
from pathlib import Path

from sphinx.application import Sphinx

RESULTS = re.compile(r"\]\((?:\.\./)+benchmarks/results/(\w+)\.md(#[\w-]+)?\)")
SPACES = re.compile(r"\]\((?:\.\./)+spaces/(\w+)\.space\)")


def lead(app: Sphinx, docname: str, content: list[str]) -> None:
    text = RESULTS.sub(r"](/benchmarks/results/\1.md\2)", content[0])
    content[0] = SPACES.sub(r"](/spaces/\1.md)", text)


def copy_results(app: Sphinx, config: object) -> None:
    """Benchmarks' results as pages; written only where they changed, so that the rest of a build may stay."""
    made = Path(app.srcdir) / "benchmarks" / "results"
    made.mkdir(exist_ok=True)
    found = sorted((Path(app.srcdir).parent / "benchmarks" / "results").glob("*.md"))
    for old in set(made.glob("*.md")) - {made / file.name for file in found}:
        old.unlink()
    for file in found:
        text = file.read_text(encoding="utf-8")
        page = made / file.name
        if not page.exists() or page.read_text(encoding="utf-8") != text:
            page.write_text(text, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("config-inited", copy_results)
    app.connect("source-read", lead)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
