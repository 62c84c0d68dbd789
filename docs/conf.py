"""Sphinx configuration. The build fetches nothing, and neither do the pages in a browser."""

import sys
from pathlib import Path

import relaxed_dists
import relaxed_dists.jax
import relaxed_dists.numpyro
import relaxed_dists.pyro
import relaxed_dists.torch

# Document each name where users import it, not in the private module that defines it.
FACADES = relaxed_dists.jax, relaxed_dists.torch, relaxed_dists.numpyro, relaxed_dists.pyro
for facade in FACADES:
    for name in facade.__all__:
        getattr(facade, name).__module__ = facade.__name__

# Make the pictures that the pages show at each build.
HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "examples"))
import schedules_picture  # noqa: E402 - importable only with the path above

schedules_picture.draw(str(HERE / "api/schedules.png"))

project = "relaxed-dists"
author = "The relaxed-dists developers"
version = release = relaxed_dists.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.doctest",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx-mathjax-offline",  # copies MathJax and its fonts beside the pages
]
exclude_patterns = ["_build", "examples/*.md", "examples/*.png"]
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 2

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
# Cross-references must resolve. Exceptions are those into other libraries, whose inventories would
# have to be downloaded, and into private modules.
nitpicky = True
nitpick_ignore_regex = [
    (r"py:.*", r"(collections|jax|numpyro|os|pyro|torch)\..*"),
    (r"py:.*", r"relaxed_dists(\._|_pyro\.|_numpyro\.|_torch\.|_jax\.).*"),
]
napoleon_numpy_docstring = False

# The doctest builder runs the testcode blocks of the pages. pytest runs the docstrings' examples,
# in the namespace of their module.
doctest_test_doctest_blocks = ""

html_theme = "furo"
html_title = "relaxed-dists"
html_favicon = "_static/icon.svg"
html_static_path = ["_static"]
html_js_files = ["scrolling.js"]
