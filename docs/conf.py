"""Sphinx configuration. The build fetches nothing, and neither do the pages in a browser."""

import pickle
import re
import sys
from pathlib import Path

from sphinx.addnodes import pending_xref
from sphinx.application import ENV_PICKLE_FILENAME

import relaxed_dists
import relaxed_dists.jax
import relaxed_dists.numpyro
import relaxed_dists.pyro
import relaxed_dists.torch

# Document each name where users import it, not in the private module that defines it. A name of
# several modules has one page: a function in that of torch or JAX, a class in that of Pyro.
FACADES = relaxed_dists.jax, relaxed_dists.torch, relaxed_dists.numpyro, relaxed_dists.pyro
SOURCES = {(f.__name__, name): getattr(f, name).__module__ for f in FACADES for name in f.__all__}
for facade in FACADES:
    for name in facade.__all__:
        public = getattr(facade, name)
        if isinstance(public, type) or public.__module__ not in {f.__name__ for f in FACADES}:
            public.__module__ = facade.__name__

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
    "sphinx.ext.autosummary",
    "sphinx.ext.doctest",
    "sphinx.ext.intersphinx",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "sphinx-mathjax-offline",  # copies MathJax and its fonts beside the pages
]
exclude_patterns = ["_build", "examples"]
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 2

default_role = "py:obj"  # docstrings name what they refer to in `backticks`
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints = "signature"
python_maximum_signature_line_length = 80
toc_object_entries_show_parents = "hide"
templates_path = ["_templates"]
# The gallery runs an example again only if its file has changed since the last build.
sphinx_gallery_conf = {
    "examples_dirs": "examples/gallery",
    "gallery_dirs": "gallery",
    "filename_pattern": "",  # all of them
    "within_subsection_order": "gallery_style.order",
    "reset_modules": ("gallery_style.reset",),
    "capture_repr": (),
    "download_all_examples": False,
    "notebook_extensions": set(),
    "image_srcset": ["2x"],
    "show_signature": False,
    "write_computation_times": False,
    "css": [],  # site.css has all of it
}
# Cross-references must resolve, except those into private modules.
nitpicky = True
nitpick_ignore_regex = [
    (r"py:class", r"np\..*"),
    (r"py:.*", r"relaxed_dists(\._|_pyro\.|_numpyro\.|_torch\.|_jax\.).*"),
    (r"py:class", r"numpyro\.infer\.(elbo\.LossWith|svi\.SVI).*"),  # have no page
]
# The inventories name what these pages refer to, as text. A project's own is a large file, and
# would be downloaded at each build.
intersphinx_mapping = {
    "python": ("https://docs.python.org/3", "inventories/python.inv"),
    "torch": ("https://docs.pytorch.org/docs/stable", "inventories/torch.inv"),
    "jax": ("https://docs.jax.dev/en/latest", "inventories/jax.inv"),
    "numpyro": ("https://num.pyro.ai/en/stable", "inventories/numpyro.inv"),
    "pyro": ("https://docs.pyro.ai/en/stable", "inventories/pyro.inv"),
}
# Names in signatures that their projects document under another one.
ALIASES = {
    "jax.jaxlib._jax.Array": "jax.Array",
    "numpyro.mutable": "numpyro.primitives.mutable",
    "torch._C.Generator": "torch.Generator",
}
napoleon_numpy_docstring = False

# The doctest builder runs the testcode blocks of the pages. pytest runs the docstrings' examples,
# in the namespace of their module.
doctest_test_doctest_blocks = ""
# Pyro's parameters are global in a process, so each page starts without those of the page before.
doctest_global_setup = '__import__("pyro").clear_param_store()'

html_theme = "furo"
html_title = f"relaxed-dists {version}"
# Pictures are drawn for white pages. A dark page turns their lightness around and keeps their hues;
# white becomes the background of Furo's dark pages, #131416.
html_theme_options = {
    "dark_css_variables": {"picture-filter": "invert(0.925) hue-rotate(180deg)"},
}
html_favicon = "_static/icon.svg"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_js_files = ["site.js"]


def rename(app, doctree):
    """Refer to a name's alias."""
    for node in doctree.findall(pending_xref):
        node["reftarget"] = ALIASES.get(node["reftarget"], node["reftarget"])


# Docstrings have formulas as plain text, for help(). LaTeX has other words for these.
MACROS = ["Gamma", "theta", "tau", "eta", "exp", "log", "sum", "prod", "in"]
OTHERS = {"integral": r"\int", "grad": r"\nabla", "du": r"\,du", "!=": r"\ne", "|": r"\mid"}
LATEX = {word: rf"\{word}" for word in MACROS} | OTHERS


def latex(formula):
    """A docstring's formula in LaTeX, where other words, such as softmax, stand upright."""
    formula = re.sub(r"(?<=[_^])\(([^()]+)\)", r"{\1}", formula)
    words = r"[A-Za-z]{2,}|!=|[|]"
    return re.sub(words, lambda m: LATEX.get(m[0], rf"\mathrm{{{m[0]}}}") + " ", formula)


def formulas(app, what, name, obj, options, lines):
    """Typeset a docstring's formulas, which are its literal blocks."""
    for i, line in enumerate(lines):
        if line.endswith(" ::"):
            lines[i] = line.removesuffix(" ::")
            end = next(j for j in range(i + 2, len(lines)) if lines[j][:1].strip())
            block = [latex(line) for line in lines[i + 1 : end]]
            if "" in block[1:-1]:  # several equations, which stand below each other
                block = [line.replace(") = ", ") &= ") for line in block]
            lines[i + 1 : end] = ["", ".. math::", *block]


def depend(app, what, name, obj, options, lines):
    """Read a page again if the module that has the docstring changes, not the facade alone."""
    if module := SOURCES.get(tuple(name.rsplit(".", 1))):
        app.env.note_dependency(sys.modules[module].__file__)


def store(app, error):
    """Store the environment again, now with the words of {index}, which the search finds first.

    Sphinx collects them after it has stored the environment, so that the next build would have them
    only of the pages that it reads again.
    """
    if not error:
        (Path(app.doctreedir) / ENV_PICKLE_FILENAME).write_bytes(pickle.dumps(app.env))


def source(app, module, name):
    """The module whose source has a public name."""
    return SOURCES.get((module, name.partition(".")[0]))


def setup(app):
    """Called by Sphinx."""
    app.connect("doctree-read", rename)
    app.connect("autodoc-process-docstring", formulas)
    app.connect("autodoc-process-docstring", depend)
    app.connect("build-finished", store)
    app.connect("viewcode-follow-imported", source)
