"""The distributions that the grid is run over: ours, and those of torch, Pyro, NumPyro and TFP."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

OURS = "relaxed-dists"


@dataclass(frozen=True)
class Subject:
    """A distribution of a library, made from a temperature and logits."""

    name: str
    library: str
    backend: str  # "pyro" or "numpyro": the framework of its arrays
    space: str  # of its values: "log" or "simplex" of K categories, "logit" or "unit"
    make: Callable[[Any, Any, bool], Any]  # from temperature, logits, and whether to validate
    hard: bool = False  # whether values are rounded, and don't determine a density

    @property
    def one_hot(self) -> bool:
        """Whether its values are vectors over categories."""
        return self.space in ("log", "simplex")

    @property
    def ours(self) -> bool:
        """Whether it is one of this library's."""
        return self.library == OURS


SPACES = {
    "ExpRelaxedOneHotCategorical": "log",
    "RelaxedOneHotCategorical": "simplex",
    "RelaxedOneHotCategoricalStraightThrough": "simplex",
    "LogitRelaxedBernoulli": "logit",
    "RelaxedBernoulli": "unit",
    "RelaxedBernoulliStraightThrough": "unit",
}


def _of_class(cls: Any, keyword: str = "validate_args") -> Callable[[Any, Any, bool], Any]:
    return lambda t, logits, validate: cls(t, logits=logits, **{keyword: validate})


def ours(backend: str) -> list[Subject]:
    """The relaxed distributions, and the discrete ones with an estimator that has a temperature."""
    names = importlib.import_module(f"relaxed_dists.{backend}")

    def with_estimator(name: str) -> Callable[[Any, Any, bool], Any]:
        return lambda t, logits, validate: getattr(names, name)(
            logits=logits, estimator=names.GumbelSoftmax(t), validate_args=validate
        )

    subjects = [
        Subject(name, OURS, backend, space, _of_class(getattr(names, name)), "Straight" in name)
        for name, space in SPACES.items()
    ]
    for name, space in (("OneHotCategorical", "simplex"), ("Bernoulli", "unit")):
        subjects.append(Subject(name, OURS, backend, space, with_estimator(name)))
    return subjects


def _pyro_peers() -> list[Subject]:
    import pyro.distributions as pyro
    import torch.distributions as dist
    from torch.distributions.relaxed_bernoulli import LogitRelaxedBernoulli
    from torch.distributions.relaxed_categorical import ExpRelaxedCategorical

    classes = {
        "torch": [
            ExpRelaxedCategorical,
            dist.RelaxedOneHotCategorical,
            LogitRelaxedBernoulli,
            dist.RelaxedBernoulli,
        ],
        "Pyro": [
            pyro.RelaxedOneHotCategoricalStraightThrough,
            pyro.RelaxedBernoulliStraightThrough,
        ],
    }
    return [
        Subject(
            cls.__name__,
            library,
            "pyro",
            SPACES.get(cls.__name__, "log"),
            _of_class(cls),
            "Straight" in cls.__name__,
        )
        for library, members in classes.items()
        for cls in members
    ]


def _numpyro_peers() -> tuple[list[Subject], str]:
    import numpyro.distributions as dist

    subjects = [
        Subject("RelaxedBernoulli", "NumPyro", "numpyro", "unit", _of_class(dist.RelaxedBernoulli))
    ]
    try:
        tfd = tfp_distributions()
    except Exception as error:  # an import under another JAX version may raise any error
        reason = "not installed" if isinstance(error, ImportError) else repr(error)
        return subjects, f"TFP is not in the tables: {reason}."
    for name in ("ExpRelaxedOneHotCategorical", "RelaxedOneHotCategorical", "RelaxedBernoulli"):
        made = _of_class(getattr(tfd, name))
        subjects.append(Subject(name, "TFP", "numpyro", SPACES[name], made))
    return subjects, ""


def tfp_distributions() -> Any:
    """TFP's distributions for JAX."""
    import jax
    import numpy as np

    # TFP 0.25 registers its variables (not used here) in a table that newer JAX lacks.
    xla: Any = jax.interpreters.xla
    if not hasattr(xla, "pytype_aval_mappings"):
        xla.pytype_aval_mappings = {np.ndarray: None}
    return importlib.import_module("tensorflow_probability.substrates.jax.distributions")


def peers(backend: str) -> tuple[list[Subject], str]:
    """The distributions of other libraries for a backend, and a note on missing ones."""
    return (_pyro_peers(), "") if backend == "pyro" else _numpyro_peers()
