"""How the gallery draws: each example starts with this style and without parameters of Pyro."""

import matplotlib
import pyro

STYLE = {
    # Without a background, so that dark pages can turn the picture's lightness around: site.css.
    "savefig.transparent": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": matplotlib.cycler(color=["#3a86b7", "#c8553d", "#4a9a5b", "#8a63b8"]),
    "figure.constrained_layout.use": True,
    "figure.figsize": (7, 4.5),
    "legend.frameon": False,
}


ORDER = [
    "simplex",
    "irises",
    "digits_vae",
    "few_labels",
    "diabetes",
    "pixels",
    "graph",
    "hmm",
    "experts",
    "sorting",
    "map",
]


def order(file: str) -> int:
    """The place of an example among the cards."""
    return ORDER.index(file.removesuffix(".py"))


def reset(gallery_conf: object, file: str) -> None:
    """Called by sphinx-gallery before each example."""
    matplotlib.rcdefaults()
    matplotlib.rcParams.update(STYLE)
    pyro.clear_param_store()
