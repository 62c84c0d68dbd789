"""The distribution of a site, found in the frameworks' wrappers, and its discrete counterpart."""

import importlib
from typing import Any

import numpy as np
import pytest

from harness import Backend

PROBS = np.array([[0.5, 0.5, 0.0], [0.25, 0.25, 0.5]])


def wrapped(backend: Backend, distribution: Any) -> Any:
    """The distribution expanded, as an event, and masked, by the framework's wrappers."""
    distribution = distribution.expand((4, 2)).to_event(1)
    return distribution.mask(backend.array([1, 0, 1, 1], "bool"))


def theirs(backend: Backend) -> list[tuple[Any, str]]:
    """The framework's own distributions, with the name of their discrete counterpart."""
    dist = backend.dist
    probs = backend.array(PROBS[:, 2])
    found = [
        (dist.Bernoulli(probs=probs), "Bernoulli"),
        (dist.Bernoulli(logits=probs), "Bernoulli"),
    ]
    if hasattr(dist, "OneHotCategorical"):
        found.append((dist.OneHotCategorical(probs=backend.array(PROBS)), "OneHotCategorical"))
        straight = dist.OneHotCategoricalStraightThrough(probs=backend.array(PROBS))
        found.append((straight, "OneHotCategorical"))
    return found


def ours(backend: Backend) -> list[tuple[Any, str]]:
    """Our one-hot and binary distributions, with the name of their discrete counterpart."""
    names, probs = backend.names, backend.array(PROBS)
    estimator = names.StraightThrough()
    return [
        (names.OneHotCategorical(probs=probs, estimator=estimator), "OneHotCategorical"),
        (names.Bernoulli(probs=probs[:, 2]), "Bernoulli"),
        (names.ExpRelaxedOneHotCategorical(0.5, probs=probs), "OneHotCategorical"),
        (names.RelaxedBernoulliStraightThrough(0.5, probs=probs[:, 2]), "Bernoulli"),
    ]


def test_discrete(backend: Backend) -> None:
    """The discrete counterpart has the same probabilities, exact zeros too, also in wrappers."""
    sites = importlib.import_module(f"relaxed_dists_{backend.framework}.distributions.sites")
    for distribution, name in theirs(backend) + ours(backend):
        discrete_one = sites.discrete(distribution)
        assert type(discrete_one) is getattr(backend.names, name)
        assert discrete_one.estimator is None
        expected = backend.numpy(distribution.probs)
        np.testing.assert_allclose(backend.numpy(discrete_one.probs), expected, rtol=1e-6)
        assert ((backend.numpy(discrete_one.probs) == 0) == (expected == 0)).all()
        inside = wrapped(backend, distribution)
        assert type(sites.innermost(inside)) is type(distribution)
        around = sites.rewrapped(inside, sites.discrete)
        assert around.batch_shape == inside.batch_shape
        assert around.event_shape == inside.event_shape
        assert type(sites.innermost(around)) is type(discrete_one)
        value = np.ones(inside.shape()) * (np.eye(3)[1] if "Hot" in name else 1)
        mass = np.log((expected[:, 1] if "Hot" in name else expected) + 1e-300).sum()
        got = backend.numpy(around.log_prob(backend.array(value)))
        assert got[1] == 0  # masked
        if "Hot" in name:  # in the binary case a probability is 0
            np.testing.assert_allclose(got[[0, 2, 3]], mass, rtol=1e-6)


@pytest.mark.parametrize("name", ["Normal", "Categorical"])
def test_other_laws(backend: Backend, name: str) -> None:
    """Other distributions have no discrete counterpart."""
    dist = backend.dist
    sites = importlib.import_module(f"relaxed_dists_{backend.framework}.distributions.sites")
    probs = backend.array([0.5, 0.5])
    distribution = dist.Normal(probs, probs) if name == "Normal" else dist.Categorical(probs=probs)
    assert (
        sites.discrete(
            sites.innermost(distribution.expand((3, *distribution.batch_shape)).to_event(1))
        )
        is None
    )
