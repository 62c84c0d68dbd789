"""Helpers of the carrier's tests: draws, their densities by the papers, and the expected errors.

A straight-through or simplex value keeps the relaxed sample that it was made from; the carrier is
what keeps this sample. Expected densities are the papers' formulas, in NumPy, at the log value or
logit that the log-space or logit-space distribution draws with the same seed.
"""

import importlib.util
import re
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
from scipy.special import gammaln, log_softmax

from harness import BACKENDS, Backend, jax, one_graph

VIEWS = ["RelaxedOneHotCategorical", "RelaxedBernoulli"]
SPACE = {"O": "ExpRelaxedOneHotCategorical", "B": "LogitRelaxedBernoulli"}
LOGITS = np.random.default_rng(1).normal(0, 1.5, (3, 4))  # batch shape (3,), or (3, 4) if binary
TEMPERATURE = 0.5

RIGHT, LOST = "right", "lost"

MASK = np.array([True, False, True])
# Sample statements, made from the framework's module, its handlers, a distribution and a mask.
SITES: dict[str, Callable[[Any, Any, Any, Any], Any]] = {
    "alone": lambda ppl, h, d, mask: ppl.sample("z", d),
    "plate": lambda ppl, h, d, mask: ppl.plate("rows", 3)(lambda: ppl.sample("z", d))(),
    "mask": lambda ppl, h, d, mask: ppl.sample("z", d.mask(mask)),
    "mask handler": lambda ppl, h, d, mask: h.mask(lambda: ppl.sample("z", d), mask=mask)(),
    "scale": lambda ppl, h, d, mask: h.scale(lambda: ppl.sample("z", d), scale=0.3)(),
}
FACTOR = {"mask": MASK, "mask handler": MASK, "scale": 0.3}

needs_torch, needs_jax = (
    pytest.mark.skipif(importlib.util.find_spec(name) is None, reason="framework not installed")
    for name in ("pyro", "numpyro")
)


def cells(table: dict[str, dict[str, Any]]) -> Any:
    """A test's parametrization by the cells of a table that has a column for each framework."""
    marks = {"pyro": needs_torch, "numpyro": needs_jax}
    return pytest.mark.parametrize(
        ("framework", "way"),
        [
            pytest.param(framework, way, marks=marks[framework], id=f"{framework}-{way}")
            for framework, column in table.items()
            for way in column
        ],
    )


def enter(framework: str) -> tuple[Backend, ExitStack]:
    """The backend of a framework, and the context of its double precision."""
    backend, stack = BACKENDS[framework](), ExitStack()
    stack.enter_context(backend.double())
    return backend, stack


def letter(name: str) -> str:
    """O for a one-hot distribution and B for a binary one, by the name of the class."""
    return "O" if "OneHot" in name else "B"


def make(backend: Backend, name: str, t: float = TEMPERATURE, dtype: str = "float64") -> Any:
    """The distribution of a class's name at LOGITS."""
    logits = backend.array(LOGITS, dtype)
    return getattr(backend.names, name)(backend.array(t, dtype), logits=logits)


def density(name: str, y: np.ndarray, t: float, logits: np.ndarray = LOGITS) -> np.ndarray:
    """The relaxed log density on the simplex, or on (0, 1), at a log value or a logit y."""
    d = logits - t * y
    if letter(name) == "B":
        jacobian = np.logaddexp(0, y) + np.logaddexp(0, -y)
        return np.log(t) + d - 2 * np.logaddexp(0, d) + jacobian
    k = y.shape[-1]
    return gammaln(k) + (k - 1) * np.log(t) + log_softmax(d, -1).sum(-1) - y.sum(-1)


def hard(name: str, y: np.ndarray) -> np.ndarray:
    """The one-hot vector of a log value, or the bit of a logit."""
    return np.eye(y.shape[-1])[y.argmax(-1)] if letter(name) == "O" else (y > 0) * 1.0


def pair(
    backend: Backend, name: str, seed: int, t: float = TEMPERATURE, shape: tuple[int, ...] = ()
) -> tuple[Any, Any, np.ndarray]:
    """A distribution, a draw of it, and, in NumPy, the log value or logit of the same seed."""
    d = make(backend, name, t)
    value = backend.draw(d, seed, shape)
    y = backend.numpy(backend.draw(make(backend, SPACE[letter(name)], t), seed, shape))
    return d, value, y


def lost(name: str) -> str:
    """A pattern of the error message for a value without the relaxed sample behind it."""
    log_space, discrete = SPACE[letter(name)], name.replace("Relaxed", "")
    discrete = discrete.replace("StraightThrough", "")
    text = (
        f"{name}.log_prob got a value that has lost the relaxed sample behind it; expected the "
        "very object that the distribution drew: a copy, an index, a reshape, an in-place write "
        "or a transformation's boundary loses it. Three ways need no carried sample: a site of "
        f"{log_space} with straight_through after it; {discrete} with an estimator; or "
        ".discrete.log_prob(value) for the mass of the hard value. See docs/lost-samples.md."
    )
    return f"^{re.escape(text)}$"


def rounded(name: str, what: str | None = None) -> str:
    """A pattern of the error message for a rounded relaxed value that has lost its log or logit."""
    binary = letter(name) == "B"
    what = what or f"is rounded to {'0 or 1' if binary else '0 in some entries'}"
    text = (
        f"{name}.log_prob got a value that has lost the relaxed sample behind it, and that {what}, "
        "so that its density is not known; expected the very object that the distribution drew, or "
        f"numbers inside the {'interval' if binary else 'simplex'}: a copy, an index, a reshape or "
        f"a transform loses the sample. Use a site of {SPACE[letter(name)]} with "
        f"{'sigmoid' if binary else 'exp'} after it, whose values hold their density. See "
        "docs/lost-samples.md."
    )
    return f"^{re.escape(text)}$"


def outcome(score: Callable[[], Any]) -> Any:
    """The result of a function, or LOST if it raises the error of a value without its sample.

    The error's text is searched for, since a compiler or a handler may wrap the error in another.
    """
    try:
        return score()
    except Exception as raised:
        if "log_prob got a value that has lost the relaxed sample behind it" in str(raised):
            return LOST
        raise


def check(cell: str, score: Callable[[], Any], expected: Any, backend: Backend) -> None:
    """Check a cell of a table: RIGHT expects these numbers to 1e-9, LOST expects the error."""
    got = outcome(score)
    assert (got is LOST) == (cell == LOST)
    if cell == RIGHT:
        got = backend.numpy(got)
        np.testing.assert_allclose(got, np.broadcast_to(expected, got.shape), 1e-9)


def compiled(f: Any, x: Any) -> Any:
    """f(x), compiled by torch in one graph."""
    return one_graph(f, backend="aot_eager")(x)


def inside(
    backend: Backend, name: str, write: Callable[[Any], Any] = lambda value: None
) -> Callable[[Any], Any]:
    """A function from logits to a draw, its relaxed sample, and its log density after `write`."""
    class_of, space_of = (getattr(backend.names, n) for n in (name, SPACE[letter(name)]))

    def in_torch(logits: Any) -> Any:
        from relaxed_dists_torch.carrier import get_relaxed

        d = class_of(TEMPERATURE, logits=logits)
        value = d.rsample()
        sample = get_relaxed(value, "log_simplex" if letter(name) == "O" else "logit")
        write(value)
        return value, sample, d.log_prob(value)

    def in_jax(logits: Any) -> Any:
        key = jax.random.key((1e6 * abs(logits).sum()).astype(int))  # differs for each row
        d = class_of(TEMPERATURE, logits=logits)
        value = d(rng_key=key)
        return value, space_of(TEMPERATURE, logits=logits)(rng_key=key), d.log_prob(value)

    return in_torch if backend.framework == "pyro" else in_jax


def check_inside(backend: Backend, name: str, result: Any) -> None:
    """The score is the density at the relaxed sample, and the value is its rounding."""
    value, y, log_prob = map(backend.numpy, result)
    np.testing.assert_allclose(log_prob, density(name, y, TEMPERATURE), 1e-9)
    np.testing.assert_array_equal(value, hard(name, y))
    assert np.unique(y).size == y.size  # no two entries share their noise


WRITES: dict[str, Callable[[Any], Any]] = {
    "mul_": lambda z: z.mul_(0.5),
    "view": lambda z: z.view(-1).fill_(0.5),
    "item": lambda z: z.__setitem__(0, 0.5),
    "detached": lambda z: z.detach().add_(0.5),
}
