"""Formulas as MathML, made while the site is built: browsers show them without a script, offline too.

LaTeX is translated by docutils. A formula that it can't translate is a warning at its place in the page.
"""

from __future__ import annotations

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.writers.html5 import HTML5Translator

LOGGER = logging.getLogger(__name__)


def visit(self: HTML5Translator, node: nodes.math | nodes.math_block) -> None:
    """A formula, in a line or by itself. A block with several lines (`\\\\`) is aligned at `&`."""
    block = isinstance(node, nodes.math_block)
    try:
        made = tex2mathml(node.astext(), as_block=block)
    except MathError as problem:
        LOGGER.warning("this formula cannot be shown: %s", problem, location=node)
        made = f"<code>{self.encode(node.astext())}</code>"
    self.body.append(f'<div class="math">{made}</div>\n' if block else made)
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_html_math_renderer("mathml", (visit, None), (visit, None))
    app.add_css_file("mathml.css")
    return {"parallel_read_safe": True, "parallel_write_safe": True}
