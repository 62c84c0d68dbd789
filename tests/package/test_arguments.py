"""Every public name has the same arguments in both backends, but for what the frameworks force."""

import importlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from test_package import FACADES

pytest.importorskip("pyro"), pytest.importorskip("numpyro")
PYRO, NUMPYRO = (importlib.import_module(facade) for facade in FACADES)

# Arguments of Pyro's alone, and of NumPyro's alone. Pyro itself keeps random state and parameters.
ALONE = {
    "AnnealedSVI": ("", "static_kwargs"),  # as in NumPyro's SVI
    "AnnealedSVI.evaluate": ("", "svi_state"),
    "AnnealedSVI.evaluate_loss": ("", "svi_state"),
    "AnnealedSVI.load": ("map_location", "svi_state"),
    "AnnealedSVI.save": ("", "svi_state"),
    "AutoRelaxed": ("", "prefix"),  # of names, which in Pyro are those of the guide's attributes
    "AutoRelaxed.discrete_posterior": ("", "params"),
    "AutoRelaxed.median": ("args kwargs", "params"),  # as in each framework's guides
    "AutoRelaxed.quantiles": ("args kwargs", "params"),
    "LeaveOneOut_ELBO": ("kwargs", "vectorize_particles"),  # what each framework's ELBO takes
    "LeaveOneOut_ELBO.loss": ("", "rng_key param_map"),
    "REBAR_ELBO": ("kwargs", "vectorize_particles"),
    "RELAX_ELBO": ("kwargs", "vectorize_particles"),
    "evidence_bounds": ("", "rng_key params"),
    "exact_evidence": ("", "params"),
    "gumbel_softmax": ("key", "key"),  # a generator, if any, and a key always
    # Methods of any distribution.
    ".expand": ("_instance", ""),  # as in torch's
    ".log_prob": ("", "intermediates"),
    ".rsample": ("", "key"),
    ".sample": ("", "key"),
}


def methods(cls: Any) -> dict[str, Callable[..., Any]]:
    """The public methods that are this library's, not inherited from a framework."""
    own = [vars(base) for base in cls.__mro__ if base.__module__.startswith("relaxed_dists")]
    names = {name for base in own for name in base if not name.startswith("_")}
    return {name: getattr(cls, name) for name in names if inspect.isroutine(getattr(cls, name))}


def calls(name: str) -> Iterator[tuple[str, Any, Any]]:
    """A public name, and the methods that both backends define."""
    ours, theirs = getattr(PYRO, name), getattr(NUMPYRO, name)
    yield name, ours, theirs
    if isinstance(ours, type) and ours is not theirs:
        first, second = methods(ours), methods(theirs)
        for method in sorted(first.keys() & second):
            yield f"{name}.{method}", first[method], second[method]


def arguments(f: Callable[..., Any], alone: str) -> list[tuple[Any, ...]]:
    """Names, defaults and kinds in order, without those of one framework, which must be there.

    torch's distributions take validate_args by its place, too, NumPyro's by its name alone.
    """
    found = inspect.signature(f).parameters
    assert set(alone.split()) <= found.keys()
    return [
        (p.name, repr(p.default), p.name == "validate_args" or p.kind)
        for p in found.values()
        if p.name not in alone.split()
    ]


@pytest.mark.parametrize("name", PYRO.__all__)
def test_the_same_arguments(name: str) -> None:
    """In the same order, with the same defaults."""
    for call, ours, theirs in calls(name):
        method = "." + call.partition(".")[2]
        first, second = ALONE.get(call) or ALONE.get(method, ("", ""))
        assert arguments(ours, first) == arguments(theirs, second), call
