"""Every public name has the same arguments in both backends, except those a framework requires."""

import importlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from test_package import ALONE as FUNCTIONS
from test_package import FACADES

pytest.importorskip("pyro"), pytest.importorskip("numpyro")
# Each public name with its objects in both backends.
PAIRS = {
    name: (getattr(first, name), getattr(second, name))
    for pair in (FACADES, FUNCTIONS)
    for first, second in [map(importlib.import_module, pair)]
    for name in first.__all__
}

KEY = ("key", "key")  # a generator or none; a key
# Arguments only in Pyro, and only in NumPyro. Pyro keeps random state and parameters itself.
ALONE = {
    "AnnealedSVI": ("", "static_kwargs"),  # as in NumPyro's SVI
    "AnnealedSVI.evaluate": ("", "svi_state"),
    "AnnealedSVI.evaluate_loss": ("", "svi_state"),
    "AnnealedSVI.load": ("map_location", "svi_state"),
    "AnnealedSVI.save": ("", "svi_state"),
    "AutoRelaxed": ("", "prefix"),  # Pyro prefixes parameters by attribute names
    "AutoRelaxed.discrete_posterior": ("", "params"),
    "AutoRelaxed.median": ("args kwargs", "params"),  # as in each framework's guides
    "AutoRelaxed.quantiles": ("args kwargs", "params"),
    "LeaveOneOut_ELBO": ("kwargs", "vectorize_particles"),  # as in each framework's ELBO
    "LeaveOneOut_ELBO.loss": ("", "rng_key param_map"),
    "REBAR_ELBO": ("kwargs", "vectorize_particles"),
    "RELAX_ELBO": ("kwargs", "vectorize_particles"),
    "evidence_bounds": ("", "rng_key params"),
    "exact_evidence": ("", "params"),
    "gumbel_softmax": ("key eps dim", "key axis"),  # as in torch's function, and in JAX's
    "sample_bernoulli": KEY,
    "sample_binary_concrete": KEY,
    "sample_concrete": KEY,
    "sample_exp_concrete": KEY,
    "sample_logit_concrete": KEY,
    "sample_one_hot": KEY,
    # Methods of any distribution.
    ".expand": ("_instance", ""),  # as in torch's classes
    ".log_prob": ("", "intermediates"),
    ".rsample": ("", "key"),
    ".sample": ("", "key"),
}


def methods(cls: Any) -> dict[str, Callable[..., Any]]:
    """The public methods that this library defines, without those inherited from a framework."""
    own = [vars(base) for base in cls.__mro__ if base.__module__.startswith("relaxed_dists")]
    names = {name for base in own for name in base if not name.startswith("_")}
    return {name: getattr(cls, name) for name in names if inspect.isroutine(getattr(cls, name))}


def calls(name: str) -> Iterator[tuple[str, Any, Any]]:
    """The objects of a public name in both backends, and their common methods."""
    ours, theirs = PAIRS[name]
    yield name, ours, theirs
    if isinstance(ours, type) and ours is not theirs:
        first, second = methods(ours), methods(theirs)
        for method in sorted(first.keys() & second):
            yield f"{name}.{method}", first[method], second[method]


def arguments(f: Callable[..., Any], alone: str) -> list[tuple[Any, ...]]:
    """Names, defaults and kinds of arguments, without those of `alone`, which must exist.

    validate_args may differ in kind: it is keyword-only in NumPyro, and not in torch.
    """
    found = inspect.signature(f).parameters
    assert set(alone.split()) <= found.keys()
    return [
        (p.name, repr(p.default), p.name == "validate_args" or p.kind)
        for p in found.values()
        if p.name not in alone.split()
    ]


@pytest.mark.parametrize("name", PAIRS)
def test_the_same_arguments(name: str) -> None:
    """Both backends have the same arguments, in the same order, with the same defaults."""
    for call, ours, theirs in calls(name):
        method = "." + call.partition(".")[2]
        first, second = ALONE.get(call) or ALONE.get(method, ("", ""))
        assert arguments(ours, first) == arguments(theirs, second), call
