"""Every method of the frameworks' base class, on each distribution, has a value or our error."""

import importlib
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from harness import Backend
from machinery import EVERY, HARD, NO_DENSITY, NO_RSAMPLE, made

BATCH = (2,)
WITHOUT_DENSITY = {*NO_DENSITY, *HARD}
MATRICES = {name for name in WITHOUT_DENSITY if "Permutation" in name}
NO_MEAN = MATRICES | {"RelaxedSubset"}
NO_CDF = set(EVERY) - {"LogitRelaxedBernoulli", "RelaxedBernoulli", "HardConcrete"}
# The distributions whose method raises, by method; all others have a value.
LACKS: dict[str, Any] = {
    "cdf": NO_CDF,
    "icdf": NO_CDF,
    "conjugate_update": EVERY,
    "entropy": WITHOUT_DENSITY,
    "perplexity": WITHOUT_DENSITY,
    "enumerate_support": set(EVERY) - {"OneHotCategorical", "Bernoulli", "Subset"},
    "log_prob": WITHOUT_DENSITY,
    "score_parts": WITHOUT_DENSITY,
    "mean": NO_MEAN,
    "variance": NO_MEAN,
    "stddev": NO_MEAN,
    "mode": {"RelaxedOneHotCategorical", "RelaxedBernoulli", "HardConcrete"}
    | {"RelaxedSubset", "RelaxedPermutation"},
    "rsample": NO_RSAMPLE,
}


class Asked:
    """A distribution, with a call of each method of its framework's base class."""

    def __init__(self, backend: Backend, name: str) -> None:
        self.backend, self.name, self.law = backend, name, made(backend, name)
        self.draw = backend.draw(self.law, 0)
        self.key: tuple[Any, ...] = ()
        if backend.framework == "numpyro":
            self.key = (importlib.import_module("jax").random.key(0),)

    @property
    def base(self) -> Any:
        """The framework's base class."""
        distributions = self.backend.dist
        name = "TorchDistribution" if self.backend.framework == "pyro" else "Distribution"
        return getattr(distributions, name)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of a draw."""
        return (*BATCH, *self.law.event_shape)

    def inferred(self) -> Any:
        """The shapes that infer_shapes gives."""
        temperature = {} if getattr(self.law, "temperature", None) is None else {"temperature": ()}
        return type(self.law).infer_shapes(logits=tuple(self.law.logits.shape), **temperature)

    def numbers(self) -> dict[str, tuple[Callable[[], Any], tuple[int, ...]]]:
        """Calls of the methods that return numbers, with the numbers' shape."""
        distribution, shape, key = self.law, self.shape, self.key
        half = self.backend.array(np.full(BATCH, 0.5))
        return {
            "cdf": (lambda: distribution.cdf(self.draw), BATCH),
            "icdf": (lambda: distribution.icdf(half), BATCH),
            "entropy": (distribution.entropy, BATCH),
            "perplexity": (lambda: distribution.perplexity(), BATCH),
            "enumerate_support": (lambda: distribution.enumerate_support()[0], shape),
            "log_prob": (lambda: distribution.log_prob(self.draw), BATCH),
            "score_parts": (lambda: distribution.score_parts(self.draw).log_prob, BATCH),
            "mean": (lambda: distribution.mean, shape),
            "variance": (lambda: distribution.variance, shape),
            "stddev": (lambda: distribution.stddev, shape),
            "mode": (lambda: distribution.mode, shape),
            "rsample": (lambda: distribution.rsample(*key), shape),
            "sample": (lambda: distribution.sample(*key, (3,)), (3, *shape)),
            "sample_with_intermediates": (
                lambda: distribution.sample_with_intermediates(*key)[0],
                shape,
            ),
            "sample_n": (lambda: distribution.sample_n(3), (3, *shape)),
        }

    def objects(self) -> dict[str, tuple[Callable[[], Any], Any]]:
        """Calls of all other methods, with the expected result."""
        distribution, kept, validates = self.law, self.law.has_rsample, self.base._validate_args
        flat = getattr(distribution, "tree_flatten", tuple)
        made = type(distribution)
        inferred = (BATCH, tuple(distribution.event_shape))
        return {
            "arg_constraints": (lambda: "logits" in distribution.arg_constraints, True),
            "batch_shape": (lambda: tuple(distribution.batch_shape), BATCH),
            "event_shape": (lambda: len(distribution.event_shape), distribution.event_dim),
            "event_dim": (lambda: distribution.support.event_dim, distribution.event_dim),
            "expand": (lambda: tuple(distribution.expand((3, *BATCH)).batch_shape), (3, *BATCH)),
            "expand_by": (lambda: tuple(distribution.expand_by((3,)).batch_shape), (3, *BATCH)),
            "gather_pytree_aux_fields": (lambda: len(made.gather_pytree_aux_fields()) >= 0, True),
            "gather_pytree_data_fields": (lambda: len(made.gather_pytree_data_fields()) >= 0, True),
            "get_args": (lambda: "logits" in distribution.get_args(), True),
            "has_enumerate_support": (
                lambda: bool(distribution.has_enumerate_support),
                self.listed(),
            ),
            "has_rsample": (lambda: kept, self.name not in NO_RSAMPLE),
            "has_rsample_": (lambda: distribution.has_rsample_(kept).has_rsample, kept),
            "independent": (lambda: tuple(distribution.independent(1).batch_shape), ()),
            "infer_shapes": (lambda: tuple(map(tuple, self.inferred())), inferred),
            "is_discrete": (lambda: distribution.is_discrete, distribution.support.is_discrete),
            "mask": (lambda: tuple(distribution.mask(False).batch_shape), BATCH),
            "pytree_aux_fields": (lambda: isinstance(made.pytree_aux_fields, tuple), True),
            "pytree_data_fields": (lambda: isinstance(made.pytree_data_fields, tuple), True),
            "reparametrized_params": (
                lambda: bool(distribution.reparametrized_params),
                self.relaxed(),
            ),
            "set_default_validate_args": (lambda: made.set_default_validate_args(validates), None),
            "shape": (lambda: tuple(distribution.shape((3,))), (3, *self.shape)),
            "support": (lambda: bool(self.supported().all()), True),
            "to_event": (lambda: tuple(distribution.to_event(1).batch_shape), ()),
            "tree_flatten": (lambda: len(flat()), 2),
            "tree_unflatten": (
                lambda: made.tree_unflatten(*flat()[::-1]).event_dim,
                distribution.event_dim,
            ),
            "validate_args": (lambda: distribution.validate_args(), None),
        }

    def listed(self) -> bool:
        """Whether the distribution has enumerate_support."""
        try:
            self.law.enumerate_support()
        except NotImplementedError:
            return False
        return True

    def relaxed(self) -> bool:
        """Whether the distribution has a temperature."""
        return getattr(self.law, "temperature", None) is not None

    def supported(self) -> Any:
        """Whether the draw is on the support."""
        support = self.law.support
        return (support.check if self.backend.framework == "pyro" else support)(self.draw)


def check(backend: Backend, name: str) -> None:
    """Check that each method's value is right in shape and finite, or its error says what to do."""
    asked = Asked(backend, name)
    numbers, objects = asked.numbers(), asked.objects()
    for method in (x for x in dir(asked.base) if not x.startswith("_") and x != "rv"):
        if method == "conjugate_update":
            refused(lambda: asked.law.conjugate_update(asked.law), asked.law, method)
        elif method == "reshape":  # renamed: Pyro's error says to_event
            with pytest.raises(Exception, match="to_event"):
                asked.law.reshape((2,))
        elif method in LACKS and name in LACKS[method]:
            refused(numbers[method][0], asked.law, method)
        elif method in numbers:
            call, shape = numbers[method]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # sample_n warns
                value = backend.numpy(call())
            assert value.shape == shape, (method, value.shape)
            assert np.isfinite(value).all(), method
        else:
            call, expected = objects[method]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # independent warns
                assert call() == expected, method


def refused(call: Callable[[], Any], distribution: Any, method: str) -> None:
    """Check that a call raises an error with a text of this library."""
    name = type(distribution).__name__
    with pytest.raises(NotImplementedError) as caught:
        call()
    text = str(caught.value)
    assert text.startswith(name), (method, text)
    assert "expected" in text, (method, text)
    assert text.count(".") >= 2, (method, text)  # a sentence of advice follows


@pytest.mark.parametrize("name", EVERY)
def test_every_method_has_a_value_or_says_why_not(backend: Backend, name: str) -> None:
    """Every public name of the base class gives a value, or an error.

    A value has its shape and is finite; an error says the class, what was expected and what to do.
    """
    check(backend, name)


def bare(distribution: Any) -> Any:
    """A method that raises an error without a text."""
    raise NotImplementedError


WRONG: dict[str, tuple[str, Any]] = {
    "an error without a text": ("enumerate_support", bare),
    "another shape": ("entropy", lambda distribution: distribution.logits.sum()),
    "no number": ("entropy", lambda distribution: distribution.logits * np.nan),
    "a value where there is none": ("enumerate_support", lambda distribution: distribution.logits),
    "an infinite density": (
        "log_prob",
        lambda distribution, value, *more: distribution.logits * np.inf,
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_method_fails(
    backend: Backend, wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check fails for each wrong method."""
    name, (method, instead) = "RelaxedBernoulli", WRONG[wrong]
    check(backend, name)
    monkeypatch.setattr(getattr(backend.names, name), method, instead)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        check(backend, name)


def test_a_method_that_is_left_out_fails(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check fails if the base class has a method that isn't in the tables."""
    base = Asked(backend, "RelaxedBernoulli").base
    monkeypatch.setattr(base, "newer", lambda distribution: None, raising=False)
    with pytest.raises(KeyError, match="newer"):
        check(backend, "RelaxedBernoulli")


@pytest.mark.parametrize("name", EVERY)
def test_wrappers_say_what_they_lack(backend: Backend, name: str) -> None:
    """In NumPyro, masked and independent distributions say which method they don't have."""
    if backend.framework == "pyro":
        return  # Pyro's wrappers are its own classes
    distribution = made(backend, name)
    draw, masked = backend.draw(distribution, 0), distribution.mask(backend.array([1.0, 0.0]) > 0)
    for outside, own in ((masked, "entropy"), (distribution.to_event(1), "enumerate_support")):
        for method, arguments in (("cdf", (draw,)), ("icdf", (draw,)), (own, ())):
            own_name = type(distribution).__name__
            text = f"^{own_name} has no {method} .*; expected the distribution inside"
            with pytest.raises(NotImplementedError, match=text):
                getattr(outside, method)(*arguments)
        if name not in LACKS["mode"]:
            np.testing.assert_array_equal(
                backend.numpy(outside.mode), backend.numpy(distribution.mode)
            )


def test_pyros_random_variables() -> None:
    """The attribute rv works. It has its own process, since pyro.contrib sets funsor's backend."""
    pytest.importorskip("pyro")
    code = """
import torch
from relaxed_dists.pyro import Bernoulli, RelaxedOneHotCategorical
for law in (Bernoulli(logits=torch.zeros(2)), RelaxedOneHotCategorical(0.5, logits=torch.zeros(2))):
    print(law.rv.distribution is law)
"""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    out = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, check=True)
    assert out.stdout.split() == [b"True", b"True"]
