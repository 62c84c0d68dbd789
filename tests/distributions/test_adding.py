"""Add a distribution and an estimator as CONTRIBUTING.md says; the general tests must pass."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import logit
from scipy.stats import kstest

import cases
import machinery
from harness import Backend
from numpy_ops import binary_concrete_density
from relaxed_dists import _errors
from relaxed_dists._distributions.family import Family

# The addition to the core: a family, which is the framework-free object of a distribution.
FAMILY = '''
"""Twice the logit of a relaxed Bernoulli sample."""

import math

from relaxed_dists._distributions.bernoulli import LogitRelaxedBernoulli


class DoubledLogit(LogitRelaxedBernoulli):
    """A real number."""

    def draw(self, ops, p, noise):
        return 2 * super().draw(ops, p, noise)[0], None

    def log_prob(self, ops, p, value, sample):
        return super().log_prob(ops, p, value / 2, None) - math.log(2)

    def cdf(self, ops, p, value, sample):
        return super().cdf(ops, p, value / 2, None)

    def icdf(self, ops, p, q):
        return 2 * super().icdf(ops, p, q)[0], None

    def mean(self, ops, p):
        return 2 * super().mean(ops, p)

    mode = mean

    def variance(self, ops, p):
        return 4 * super().variance(ops, p)

    def entropy(self, ops, p):
        return super().entropy(ops, p) + math.log(2)
'''

# The addition to each backend: a class.
CLASS = '''
from {constraints} import constraints
from relaxed_dists_{framework}.distributions.bernoulli import _RelaxedBinary

import toy_family


class DoubledLogit(_RelaxedBinary):
    """Twice the logit of a relaxed Bernoulli sample."""

    support = constraints.real
    _family = toy_family.DoubledLogit()
'''
CONSTRAINTS = {"pyro": "torch.distributions", "numpyro": "numpyro.distributions"}

# The addition to the core for an estimator: a class.
ESTIMATOR = '''
from dataclasses import dataclass

from relaxed_dists._distributions import formulas
from relaxed_dists._distributions.estimators import Estimator


@dataclass(frozen=True)
class HalfStraightThrough(Estimator):
    """A hard sample with half the gradient of the probabilities."""

    def one_hot(self, ops, logits, gumbel, more=None):
        hard = formulas.hard_argmax(ops, logits, gumbel)
        return formulas.straight_through(ops, hard, formulas.softmax(ops, logits) / 2)
'''


def density(logits: np.ndarray, t: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The density of a doubled logit, from the paper's density on (0, 1)."""
    return binary_concrete_density(logits, t, x) * x * (1 - x) / 2


# The addition to the tests: a row of the table of cases.
ROW = cases.Case(
    "DoubledLogit",
    False,
    lambda x: 2 * logit(x),
    lambda value: value / 2,
    density,
    "RelaxedBernoulliStraightThrough",
    "Bernoulli",
)


def module(folder: Path, name: str, text: str, monkeypatch: Any) -> Any:
    """The module that is imported from a file with this text."""
    folder.joinpath(f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(folder))
    importlib.invalidate_caches()
    monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module(name)


@pytest.fixture
def toy(backend: Backend, tmp_path: Path, monkeypatch: Any) -> Iterator[str]:
    """The name of the added distribution, which the backend has during the test."""
    framework = backend.framework
    module(tmp_path, "toy_family", FAMILY, monkeypatch)
    text = CLASS.format(framework=framework, constraints=CONSTRAINTS[framework])
    made = module(tmp_path, f"toy_{framework}", text, monkeypatch)
    monkeypatch.setattr(backend.names, ROW.name, made.DoubledLogit, raising=False)
    cases.RELAXED.append(ROW.name)
    yield ROW.name
    cases.RELAXED.remove(ROW.name)


def test_a_distribution(backend: Backend, toy: str, seed: int) -> None:
    """The general tests of shapes, copies, dtypes, densities, gradients and samples pass."""
    from test_densities import test_density_is_the_papers
    from test_generic import (
        test_compiled_densities_are_the_same,
        test_copies_are_the_same_distribution,
        test_expansions_can_be_made_in_steps,
        test_pytrees_keep_everything_and_compile_once,
    )
    from test_samples import test_dtypes, test_gradient_of_a_draw, test_shapes_change_no_number

    test_expansions_can_be_made_in_steps(backend, toy)
    test_copies_are_the_same_distribution(backend, toy)
    if backend.framework == "numpyro":
        test_pytrees_keep_everything_and_compile_once(toy)
        test_compiled_densities_are_the_same(toy)
    for dtype in ("float16", "float64"):
        test_dtypes(backend, toy, dtype)
    test_shapes_change_no_number(backend, toy)
    with backend.double():
        test_density_is_the_papers(backend, ROW)
        test_gradient_of_a_draw(backend, ROW)


def test_inference_asks_the_family(backend: Backend, toy: str, seed: int) -> None:
    """discretize, reparametrization and the error of a missing KL use the added family."""
    distribution = machinery.made(backend, toy)
    assert type(distribution.discrete).__name__ == "Bernoulli"
    names, language = backend.names, backend.language

    def model() -> Any:
        return language.sample("x", distribution)

    values = language.values(names.discretize(model))
    assert set(np.unique(backend.numpy(values["x"]))) <= {0.0, 1.0}
    noisy = language.values(
        backend.handlers.reparam(model, config={"x": names.GumbelSoftmaxReparam()})
    )
    logits, noise = backend.numpy(distribution.logits), backend.numpy(noisy["x_logistic"])
    np.testing.assert_allclose(backend.numpy(noisy["x"]), 2 * (logits + noise) / 0.5, rtol=1e-6)
    with pytest.raises((ValueError, NotImplementedError)):
        backend.kl(distribution, names.LogitRelaxedBernoulli(0.5, logits=distribution.logits))


def check(backend: Backend, seed: int) -> None:
    """The density is the paper's, and draws follow the cdf, with a false alarm once in 1e6."""
    from test_densities import test_density_is_the_papers

    test_density_is_the_papers(backend, ROW)
    distribution = machinery.made(backend, ROW.name, ())
    draws = backend.draw(distribution, seed, (20_000,))
    assert kstest(backend.numpy(distribution.cdf(draws)), "uniform").pvalue > 1e-6


@pytest.mark.parametrize("wrong", ["", " - math.log(2)", "2 * "])
def test_a_wrong_one_fails(backend: Backend, toy: str, wrong: str, seed: int) -> None:
    """The tests fail for a density without its Jacobian, and for a draw that is not doubled."""
    namespace: dict[str, Any] = {}
    exec(FAMILY.replace(wrong, "", 1) if wrong else FAMILY, namespace)  # first in the draw
    getattr(backend.names, toy)._family = namespace["DoubledLogit"]()
    with backend.double():
        if not wrong:
            check(backend, seed)
            return
        with pytest.raises(AssertionError):
            check(backend, seed)


def test_an_estimator(backend: Backend, tmp_path: Path, monkeypatch: Any, whole: bool) -> None:
    """The general tests of estimators pass for an added estimator."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "estimators"))
    laws: Any = importlib.import_module("test_estimators")
    made = module(tmp_path, "toy_estimator", ESTIMATOR, monkeypatch)
    if backend.framework == "numpyro":
        pytrees = importlib.import_module("relaxed_dists_jax.estimators")
        pytrees.register(made.HalfStraightThrough)
    estimator = made.HalfStraightThrough()
    monkeypatch.setattr(
        backend.names, "HalfStraightThrough", made.HalfStraightThrough, raising=False
    )
    monkeypatch.setitem(machinery.ESTIMATORS, "HalfStraightThrough", ())
    right = laws.paper

    def paper(given: Any, logits: Any, gumbel: Any, more: Any, g: Any) -> Any:
        one = laws.StraightThrough() if given is estimator else given
        return right(one, logits, gumbel, more, g) / (2 if given is estimator else 1)

    monkeypatch.setattr(laws, "paper", paper)
    with backend.double():
        laws.test_closed_forms(backend, estimator, 0)
        laws.test_a_number_is_the_first_of_two_categories(backend, estimator)
        if whole:
            laws.test_transformed(backend, estimator)
    laws.test_masked_far_apart_and_in_half_precision(backend, estimator, "float32")
    from test_generic import test_copies_are_the_same_distribution

    test_copies_are_the_same_distribution(backend, "OneHotCategorical HalfStraightThrough")


METHODS = ["rsample", "enumerate_support", "cdf", "icdf", "conjugate_update"]
METHODS += ["mean", "variance", "mode", "entropy", "kl"]


@pytest.mark.parametrize("is_discrete", [False, True])
@pytest.mark.parametrize("event_dim", [0, 1])
@pytest.mark.parametrize("what", METHODS)
def test_what_an_added_family_lacks(what: str, event_dim: int, is_discrete: bool) -> None:
    """The error says nothing of an added family that is false of it."""
    known = type("Toy", (Family,), {"event_dim": event_dim, "is_discrete": is_discrete})()
    text = str(_errors.missing("Toy", what, known))
    assert text.startswith(f"Toy has no {what}: ")
    assert "; expected" in text
    assert "is not known" not in text  # its density or mass is known
    assert ("which have no order" in text) == (event_dim > 0 and what in ("cdf", "icdf"))
    assert ("real numbers" in text) == (what == "enumerate_support" and not is_discrete)
    assert "RelaxedToy" not in text
    assert not (is_discrete and ".discrete" in text)
