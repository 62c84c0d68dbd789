"""The rows of the tables in docs/input.md: each kind of input gives right numbers, or raises."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.special import expit, gammaln, log_softmax

from cases import DISCRETE, RELAXED, STRAIGHT_THROUGH
from harness import Backend, jax

NAN, INF = np.nan, np.inf
LAWS = RELAXED + DISCRETE
SCORED = [name for name in LAWS if name not in STRAIGHT_THROUGH]  # by numbers alone


def rows(name: str) -> bool:
    """Whether the distribution's events are vectors."""
    return "OneHot" in name


def reference(name: str, logits: Any, t: Any, value: Any) -> np.ndarray:
    """Maddison et al. (2017), equation 5 and appendix C.3, in logs and float64; -inf masks."""
    if name == "Bernoulli":
        return np.where(value == 1, -np.logaddexp(0, -logits), -np.logaddexp(0, logits))
    if name == "OneHotCategorical":
        return np.where(value == 0, 0, log_softmax(logits, -1)).sum(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        y = value if name.startswith("Exp") else np.log(value)
    if not rows(name):  # as two categories, the second with logit 0
        x = expit(value) if name.startswith("Logit") else value
        logits, y = (
            np.stack([logits, np.zeros_like(logits)], -1),
            np.stack([np.log(x), np.log1p(-x)], -1),
        )
    kept = logits > -INF
    off = (~kept & (y > -INF)).any(-1)  # weight on a masked category
    y = np.where(kept, y, 0)
    k = kept.sum(-1)
    scores = log_softmax(np.where(kept, logits - np.asarray(t)[..., None] * y, -INF), -1)
    log_space = name.startswith(("Exp", "Logit"))
    terms = np.where(kept, scores, 0).sum(-1) - (0 if log_space else y.sum(-1))
    return np.where(off, -INF, gammaln(k) + (k - 1) * np.log(t) + terms)


def base(name: str) -> tuple[Any, Any]:
    """Logits, and a value off the edges; both are exact in every dtype (except log values)."""
    if not rows(name):
        value = {"LogitRelaxedBernoulli": [1.0, -2], "Bernoulli": [1.0, 0]}.get(name, [0.25, 0.5])
        return np.array([1.0, -2]), np.array(value)
    x = np.array([[0.25, 0.25, 0.5], [0.5, 0.25, 0.25]])
    value = np.log(x) if name.startswith("Exp") else x if name in RELAXED else np.eye(3)[[1, 2]]
    return np.array([[0.0, 1, -1], [2, 0, 1]]), value


def make(backend: Backend, name: str, t: Any = 0.5, **parameters: Any) -> Any:
    """A distribution; a discrete one has the temperature in an estimator."""
    cls = getattr(backend.names, name)
    if name in RELAXED:
        return cls(t, **parameters)
    return cls(estimator=backend.names.GumbelSoftmax(t), **parameters)


def every_second(backend: Backend, names: list[str], at: int, whole: bool) -> list[str]:
    """Half of the names in NumPyro, which compiles each dtype and shape, in turn by case.

    Pyro, and the flag --whole, run all names.
    """
    return names if whole or backend.framework == "pyro" else names[at % 2 :: 2]


Wrap = Callable[[Backend, Any], Any]


def of(dtype: str) -> Wrap:
    """A function that makes x the framework's array of the dtype."""
    return lambda backend, x: backend.array(x, dtype)


def raw(backend: Backend, x: Any) -> Any:
    """x as NumPy's array, in float64."""
    return x


def listed(backend: Backend, x: Any) -> Any:
    """x as a nested list, or as a Python number."""
    return x.tolist()


def strided(backend: Backend, x: Any) -> Any:
    """x as every second entry of a wider array."""
    return backend.array(np.repeat(x, 2, -1), "float32")[..., ::2] if x.ndim else x.item()


def backwards(backend: Backend, x: Any) -> Any:
    """x as a NumPy array with negative strides."""
    return np.ascontiguousarray(x[::-1])[::-1] if x.ndim else x


single = of("float32")
# The types of logits, temperature and value, and the draw's dtype in Pyro and in NumPyro.
WORKS: dict[str, tuple[Wrap, Wrap, Wrap, str, str]] = {
    "a Python number as the temperature": (single, listed, single, "float32", "float32"),
    "lists": (listed, listed, listed, "float32", "float64"),
    "NumPy arrays": (raw, raw, raw, "float64", "float64"),
    "views with strides": (strided, strided, strided, "float32", "float32"),
    "views that run backwards": (backwards, backwards, backwards, "float64", "float64"),
    "integers": (of("int32"), listed, single, "float32", "float64"),
    "float64 with a row of float32": (of("float64"), single, single, "float64", "float64"),
    "float32 with a row of float16": (single, of("float16"), single, "float32", "float32"),
    "float16 with a row of bfloat16": (of("float16"), of("bfloat16"), single, "float32", "float32"),
    "float32 with a float64 of no dimension": (single, of("float64"), single, "float32", "float64"),
    "a value in half precision": (single, listed, of("float16"), "float32", "float32"),
}
NO_DIMENSION = ("float32 with a float64 of no dimension", "integers", "views with strides")


@pytest.mark.parametrize("label", WORKS)
def test_works(backend: Backend, label: str, whole: bool) -> None:
    """Draws have the framework's promoted dtype, and densities the paper's numbers.

    Errors are below 3e-6 relative to 1, or 2e-2 with log values in half precision, which rounds
    them. NumPyro runs half of the distributions for each case, in turn.
    """
    wrap, wrap_t, wrap_value, torch_dtype, jax_dtype = WORKS[label]
    for name in every_second(backend, SCORED, [*WORKS].index(label), whole):
        logits, value = base(name)
        t = np.array(0.5) if wrap_t is listed or label in NO_DIMENSION else np.full(2, 0.5)
        distribution = make(backend, name, wrap_t(backend, t), logits=wrap(backend, logits))
        drawn, got = (
            backend.draw(distribution, 0),
            distribution.log_prob(wrap_value(backend, value)),
        )
        if name in RELAXED:
            dtype = torch_dtype if backend.framework == "pyro" else jax_dtype
            assert str(drawn.dtype).endswith(dtype), name
        assert np.isfinite(backend.numpy(distribution.log_prob(drawn))).all(), name
        limit = 2e-2 if "half" in label else 3e-6
        expected = reference(name, logits, t, value)
        np.testing.assert_allclose(backend.numpy(got), expected, rtol=limit, atol=limit)


L, B = np.array([[0.0, 1, -1], [2, 0, 1]]), np.array([1.0, -2])
MASKED = np.array([[0, 1, -INF], [0, 1, -1e9]])
# A temperature, parameters of one-hot and of binary distributions, and the batch shape. Only a
# relaxed distribution's temperature extends the batch shape: an estimator's must broadcast to it.
SHAPES: dict[str, tuple[Any, dict[str, Any], dict[str, Any], tuple[int, ...]]] = {
    "an empty batch": (0.5, {"logits": np.zeros((0, 3))}, {"logits": np.zeros(0)}, (0,)),
    "temperatures of a larger batch": (np.ones((4, 1)), {"logits": L}, {"logits": B}, (4, 2)),
    "no temperatures": (np.ones((0, 1)), {"logits": L}, {"logits": B}, (0, 2)),
    "booleans": (True, {"probs": L > 0}, {"probs": B > 0}, (2,)),
    "weights of any sum": (0.5, {"probs": 5 * np.exp(L)}, {"probs": expit(B)}, (2,)),
    "-inf, or -1e9, as a mask": (0.5, {"logits": MASKED}, {"logits": MASKED[:, 2]}, (2,)),
    "the lowest float32 as a mask": (0.5, {"logits": MASKED.clip(-3e38)}, {"logits": B}, (2,)),
}


@pytest.mark.parametrize("label", SHAPES)
def test_works_in_shape(backend: Backend, label: str, whole: bool) -> None:
    """The batch shape is the broadcast shape, and draws with a sample shape have finite densities.

    NumPyro runs half of the distributions for each case, in turn.
    """
    t, of_rows, of_numbers, shape = SHAPES[label]
    names = RELAXED if np.ndim(t) else LAWS
    for name in every_second(backend, names, [*SHAPES].index(label), whole):
        distribution = make(backend, name, t, **(of_rows if rows(name) else of_numbers))
        draw = backend.draw(distribution, 0, (3,))
        got = backend.numpy(distribution.log_prob(draw))
        assert got.shape == (3, *shape), name
        assert np.isfinite(got).all(), name


VALUES: dict[str, Callable[[Any], Any]] = {
    "a value that lacks the batch": lambda x: x[0],
    "a value with samples before the batch": lambda x: np.stack([x] * 3),
    "an integer value": lambda x: x.astype(int),
    "a boolean value": lambda x: x.astype(bool),
    "a value as a list": lambda x: x.tolist(),
}


@pytest.mark.parametrize("label", VALUES)
def test_values_work(backend: Backend, label: str) -> None:
    """Values of any accepted type have the right mass, to 1e-6, broadcast with the batch."""
    for name in DISCRETE:
        logits, value = base(name)
        given_value = VALUES[label](value)
        got = make(backend, name, logits=logits).log_prob(given_value)
        expected = reference(name, logits, 0.5, np.asarray(given_value, float))
        np.testing.assert_allclose(backend.numpy(got), expected, rtol=1e-6)


TEMPERATURE = "got temperature=.*; expected positive numbers from .* floor above zero"
RAISES: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "a temperature of 0, below 0 or NaN": ({"t": [0, -1, NAN]}, {}, TEMPERATURE),
    "a temperature out of range": ({"t": [1e-30, 1e-40, 1e-320, 1e30, INF]}, {}, TEMPERATURE),
    "a temperature for each category": (
        {"t": np.ones((2, 4))}, {}, r"got a temperature of shape .*Drop"),
    "complex numbers": ({"logits": [L + 0j]}, {"logits": [B + 0j]}, "got logits of .*Convert"),
    "no numbers": (
        {"logits": ["a", {}, [[1, 2], [3]]]}, {}, "got logits of .*expected real numbers"),
    "a temperature that is no number": ({"t": ["a", [None], 1j]}, {}, "got temperature of .*real"),
    "no dimension, or no categories": (
        {"logits": [0.5, np.zeros((2, 0))]}, {"skip": True}, "got logits of shape .*categories"),
    "NaN or +inf in logits": (
        {"logits": [[0, NAN], [INF, 0]]}, {}, "got logits with NaN, .*overflow"),
    "logits from 2**24 up": ({"logits": [[0, 1e9], [3e38, 0]]}, {}, "expected numbers below"),
    "a row of masks": (
        {"logits": [[[0, 0], [-INF, -INF]]]}, {"skip": True}, "whole row of -inf"),
    "negative or NaN probs": ({"probs": [[-0.1, 1], [NAN, 1]]}, {}, "got probs that are .*logits"),
    "a row of zeros as probs": ({"probs": [[0, 0]]}, {"skip": True}, "row of zeros"),
    "probs above 1": ({"skip": True}, {"probs": [[0.5, 1.5]]}, "outside \\[0, 1\\]"),
    "both probs and logits, or neither": (
        {"none": [0]}, {}, "got neither probs nor logits; expected exactly one"),
    "a value of another event shape": ({"value": np.ones((1, 2, 5))}, {}, "got a value of shape"),
    "a value that is no number": (
        {"value": [L + 0j, None, "a"]}, {}, "got a value of .*real numbers"),
    "a NaN value": (
        {"value": [L * NAN]}, {"value": [B * NAN]}, "expected (logs|points|one|real|nu|z|the)"),
}  # fmt: skip


@pytest.mark.parametrize("label", RAISES)
def test_raises(backend: Backend, label: str) -> None:
    """Bad input raises a ValueError that says what was got, what was expected, and what to do."""
    for name in LAWS:
        of_rows, of_numbers, text = RAISES[label]
        kind, cases = next(iter((of_rows if rows(name) or not of_numbers else of_numbers).items()))
        logits, _ = base(name)
        for case in cases if kind != "skip" else []:
            missing = repr(case) in ("None", "[None]")
            if missing and backend.framework == "numpyro" and jax.__version_info__ < (0, 6):
                continue  # there None is a NaN
            with pytest.raises(ValueError, match=f"(?s){text}") as caught:  # noqa: PT012
                if kind == "value":
                    make(backend, name, logits=logits).log_prob(case)
                elif kind == "t":
                    make(backend, name, case, logits=logits)
                else:
                    make(backend, name, **({} if kind == "none" else {kind: case}))
            assert "expected" in str(caught.value)
