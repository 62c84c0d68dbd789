"""KL divergences that raise: of relaxed and discrete distributions, and of different spaces."""

import importlib
from typing import Any

import pytest

from cases import DISCRETE, RELAXED
from harness import Backend

# The error's text has three choices, and says which of them is a bound.
CHOICES = (
    r"(?s)kl_divergence got {} and {}; expected .* relaxed model with a relaxed guide, a bound of "
    r".* discrete guide that has an estimator, the bound .* gradient estimated; .* discrete model "
    r"with a relaxed guide .*, but a bound of nothing"
)


def distribution(backend: Backend, name: str) -> Any:
    """The distribution of a name, ours or the framework's, with two logits."""
    logits = backend.array([0.0, 1.0])
    if name.startswith("their "):
        theirs = backend.dist
        return getattr(theirs, name.removeprefix("their "))(logits=logits)
    return getattr(backend.names, name)(*((0.5,) if name in RELAXED else ()), logits=logits)


@pytest.mark.parametrize("relaxed", RELAXED)
def test_relaxed_against_discrete(backend: Backend, relaxed: str) -> None:
    """The KL raises in either order, also with the framework's classes, and says what to use."""
    theirs = ["their Bernoulli", "their Categorical"]
    if backend.framework == "pyro":
        theirs += ["their OneHotCategorical", "their OneHotCategoricalStraightThrough"]
    for discrete in DISCRETE + theirs:
        p, q = distribution(backend, relaxed), distribution(backend, discrete)
        for left, right in ((p, q), (q, p)):
            text = CHOICES.format(type(left).__name__, type(right).__name__)
            with pytest.raises(ValueError, match=text):
                backend.kl(left, right)


def test_relaxed_laws_of_different_spaces(backend: Backend) -> None:
    """Different value spaces have no KL; straight-through values count as relaxed ones."""
    spaces = [{RELAXED[0]}, {RELAXED[1], RELAXED[4]}, {RELAXED[2]}, {RELAXED[3], RELAXED[5]}]
    for own in spaces:
        for p in own:
            for q in set(RELAXED) - own:
                text = f"kl_divergence got {p} and {q}, whose values are .*; expected .* Use the"
                with pytest.raises(ValueError, match=text):
                    backend.kl(distribution(backend, p), distribution(backend, q))


@pytest.mark.parametrize("own", [False, True])
def test_no_elbo_falls_back_to_an_estimate(backend: Backend, own: bool) -> None:
    """TraceMeanField_ELBO raises the KL's error, since an estimate in its place is no bound.

    In Pyro it scores our prior before the KL, and so raises the prior's error.
    """
    framework = backend.ppl
    infer = backend.infer
    theirs = backend.dist
    prior = (theirs if own else backend.names).Bernoulli(logits=backend.array(0.0))
    posterior = backend.names.RelaxedBernoulliStraightThrough(0.5, logits=backend.array(1.0))

    def model() -> None:
        framework.sample("z", prior)

    def guide() -> None:
        framework.sample("z", posterior)

    arguments: tuple[Any, ...] = (model, guide)
    if backend.framework == "numpyro":
        arguments = (importlib.import_module("jax").random.key(0), {}, *arguments)
    first = backend.framework == "pyro" and not own
    with pytest.raises(ValueError, match="make no bound" if first else "a bound of nothing"):
        infer.TraceMeanField_ELBO().loss(*arguments)
