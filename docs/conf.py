"""The site, built by `make docs`: MyST pages beside this file, and pages made of the compiler's own records."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # before anything installed: the pages are about this checkout

from nasdsl import __version__  # noqa: E402

project = "nasdsl"
author = "the authors of nasdsl"
copyright = f"{author}, Apache-2.0"
version = release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "docs._ext.highlight",
    "docs._ext.docstrings",
    "docs._ext.drawings",
    "docs._ext.links",
    "docs._ext.reference",
    "docs._ext.mathml",
]
exclude_patterns = ["_ext", "_made", "_templates"]
source_suffix = {".md": "markdown"}

myst_enable_extensions = ["attrs_block", "attrs_inline", "colon_fence", "deflist", "dollarmath", "fieldlist"]
myst_heading_anchors = 4

html_math_renderer = "mathml"
html_theme = "furo"
html_title = "nasdsl"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
templates_path = ["_templates"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_use_ivar = True
napoleon_use_rtype = False
default_role = "code"  # docstrings are written as Markdown is: `code`
nitpicky = True
nitpick_ignore_regex = [(r"py:.*", r".*")]  # types of other libraries, whose pages are not at hand offline
suppress_warnings = ["toc.empty_glob"]
