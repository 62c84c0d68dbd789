"""Arbitrary input by hypothesis, bad input that isn't validated, and the rows of docs/input.md."""

import functools
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cases import DISCRETE, RELAXED, STRAIGHT_THROUGH
from harness import Backend, one_graph
from test_input import (
    LAWS,
    RAISES,
    SHAPES,
    VALUES,
    WORKS,
    base,
    every_second,
    make,
    reference,
    rows,
)

NAN, INF = np.nan, np.inf
DTYPES = ["float16", "bfloat16", "float32", "float64"]
# Bad input that validation doesn't see: temperatures, logits (the last column is used for binary
# distributions), and the temperature and the logits that give the same results.
OPEN = np.array([[0.0, 1, -1], [2, 0, 1]])
TRACED: dict[str, tuple[list[float], list[Any], float, Any]] = {
    "a temperature of 0, below 0 or NaN, unseen": ([0.0, -1, NAN], [OPEN], 2.0**-20, OPEN),
    "a temperature above 2**20, unseen": ([1e30, INF], [OPEN], 2.0**20, OPEN),
    "NaN in logits, unseen": (
        [0.5],
        [np.array([[0, 1, NAN], [2, 0, 1]])],
        0.5,
        np.array([[0, 1, -INF], [2, 0, 1]]),
    ),
    "a row of masks, unseen": (
        [0.5],
        [np.array([[NAN, -1e9, -INF], [2, 0, 1]])],
        0.5,
        np.array([[-INF, -INF, -INF], [2, 0, 1]]),
    ),
}


@functools.cache  # each distribution is compiled once
def functions(backend: type[Backend], name: str, how: str) -> tuple[Any, Any]:
    """Functions of logits and temperature: a draw with its log_prob, and a number from both."""
    made = backend()
    cls, estimator = getattr(made.names, name), made.names.GumbelSoftmax
    checks = {"validate_args": False} if how == "unvalidated" else {}

    def both(logits: Any, t: Any) -> Any:
        first = (t,) if name in RELAXED else ()
        distribution = cls(
            *first, logits=logits, **({} if first else {"estimator": estimator(t)}), **checks
        )
        draw = distribution.rsample() if made.framework == "pyro" else made.draw(distribution, 0)
        return draw, distribution.log_prob(draw)

    def scalar(logits: Any, t: Any) -> Any:
        draw, log_prob = both(logits, t)
        return log_prob.sum() + (0 if name.startswith(("Exp", "Logit")) else draw[..., 0].sum())

    if how == "compiled" and made.framework == "pyro":
        return tuple(one_graph(f, backend="eager") for f in (both, scalar))
    if how == "compiled":
        import jax

        return jax.jit(both), jax.jit(jax.grad(scalar, (0, 1)))
    return both, scalar


def outcome(backend: Backend, name: str, t: float, logits: Any, how: str) -> list[np.ndarray]:
    """A draw, its log_prob and their gradients by logits and temperature."""
    both, scalar = functions(type(backend), name, how)
    logits, t = backend.array(logits, "float32"), backend.array(t, "float32")
    if backend.framework == "pyro":
        import torch

        torch.manual_seed(0)
    values = [backend.numpy(x) for x in both(logits, t)]
    if how == "compiled" and backend.framework == "numpyro":
        return values + [backend.numpy(x) for x in scalar(logits, t)]
    return values + backend.grad(scalar, logits, t)


@pytest.mark.parametrize("how", ["unvalidated", "compiled"])
@pytest.mark.parametrize("label", TRACED)
def test_what_cannot_be_refused(
    backend: Backend, label: str, how: str, whole: bool, monkeypatch: Any
) -> None:
    """Bad numbers that validation doesn't see give the results of the good ones, without NaN.

    NumPyro runs half of the distributions for each case, in turn.
    """
    if backend.framework == "pyro" and how == "compiled":
        # Compiled kernels make other noise of a seed than torch's operations.
        monkeypatch.setattr("relaxed_dists_torch.compiled.KERNELS", None)
    temperatures, wrong, t, right = TRACED[label]
    names = LAWS if how == "unvalidated" else ["RelaxedOneHotCategorical", "OneHotCategorical"]
    for name in every_second(backend, names, [*TRACED].index(label), whole):
        cut = (lambda x: x) if rows(name) else (lambda x: x[:, 2])
        expected = outcome(backend, name, t, cut(right), "unvalidated")
        for bad in temperatures:
            for logits in wrong:
                got = outcome(backend, name, bad, cut(logits), how)
                for x, y in zip(got, expected, strict=True):
                    assert not np.isnan(x).any(), (name, x)
                    if "temperature" not in label or x.shape:  # clamping stops the gradient
                        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("name", [name for name in LAWS if rows(name)])
def test_a_row_of_masks(backend: Backend, name: str) -> None:
    """Without validation, a fully masked row draws 0 (-inf in log space), with gradient 0."""
    logits = np.array([[-INF, -INF, -INF], [2, 0, 1]])
    draw, log_prob, by_logits, _ = outcome(backend, name, 0.5, logits, "unvalidated")
    assert (draw[0] == (-INF if name.startswith("Exp") else 0)).all()
    assert abs(log_prob[0]) < 1e-6  # JAX's lgamma(1), in float32
    assert (by_logits[0] == 0).all()
    distribution = make(backend, name, logits=backend.array(logits), validate_args=False)
    assert (backend.numpy(distribution.probs)[0] == 0).all()
    assert backend.numpy(distribution.discrete.entropy())[0] == 0


@pytest.mark.parametrize("name", [name for name in LAWS if name not in STRAIGHT_THROUGH])
def test_a_nan_value_unseen(backend: Backend, name: str) -> None:
    """Without validation, a NaN value is off the support: density -inf and finite gradients."""
    logits, value = base(name)

    def f(logits: Any) -> Any:
        distribution = make(backend, name, logits=logits, validate_args=False)
        return distribution.log_prob(backend.array(value * NAN)).sum()

    assert backend.numpy(f(backend.array(logits))) == -INF
    assert np.isfinite(backend.grad(f, backend.array(logits))[0]).all()


def test_gradients_of_each_example_in_torch() -> None:
    """vmap of grad, where logits can't be validated, gives each example's gradient."""
    torch = pytest.importorskip("torch")
    from relaxed_dists.pyro import RelaxedOneHotCategorical

    def f(logits: Any) -> Any:
        return RelaxedOneHotCategorical(0.5, logits=logits).log_prob(torch.full((3,), 1 / 3))

    logits = torch.arange(12.0).reshape(4, 3) ** 0.5
    together = torch.func.vmap(torch.func.grad(f))(logits)
    alone = torch.stack([torch.func.grad(f)(x) for x in logits])
    torch.testing.assert_close(together, alone)


def reasons(name: str, logits: np.ndarray, t: np.ndarray) -> list[str]:
    """The errors that the page docs/input.md promises for these parameters."""
    due = []
    batch = logits.shape[:-1] if rows(name) else logits.shape
    top = logits.max(-1, initial=-INF) if rows(name) else logits
    fine = abs(top) < 2**24 if rows(name) else top < 2**24
    if not fine.all():
        due.append("got logits with")
    if not ((t >= 2**-20) & (t <= 2**20)).all():
        due.append("got temperature=")
    try:
        joint = np.broadcast_shapes(t.shape, batch)
    except ValueError:
        joint = None
    if joint is None or (name in DISCRETE and joint != batch):
        due.append("got a temperature of shape")
    return due


@given(data=st.data())
@settings(max_examples=60)
def test_anything(data: st.DataObject) -> None:
    """Any input gives the promised error, or the framework's shape and the paper's density.

    The bound is a hundred units of the scores' rounding; a missing term would be thousands.
    """
    from harness import BACKENDS

    installed = [b() for b in BACKENDS.values() if find_spec(b.framework)]
    backend = data.draw(st.sampled_from(installed))
    name = data.draw(st.sampled_from(LAWS))
    logits, value = base(name)
    scale = data.draw(st.sampled_from([0, 1, -1, 50, 1e6, 1e8, -1e30, INF, NAN]))
    entry = data.draw(st.sampled_from([0.5, 0.5, 1e-3, 10, 2.0**20, 1e-30, 1e-45, 1e30, 0, NAN]))
    with np.errstate(invalid="ignore"):
        logits = logits * scale if abs(scale) < INF else np.where(logits == 0, scale, logits)
    t = np.full(data.draw(st.sampled_from([(), (2,), (3,), (2, 1), (0,)])), entry)
    if data.draw(st.booleans()):
        logits, t = np.repeat(logits[:1], 2, 0), t + 0.0
    dtypes = [data.draw(st.sampled_from(DTYPES)) for _ in range(3)]
    with backend.double(), np.errstate(over="ignore"):
        given_logits, given_t = backend.array(logits, dtypes[0]), backend.array(t, dtypes[1])
        given_value = backend.array(value, "float64" if dtypes[2] == "float64" else "float32")
        seen = [backend.numpy(x) for x in (given_logits, given_t, given_value)]
        due = reasons(name, seen[0], seen[1])
        if due:
            with pytest.raises(ValueError, match="|".join(due)):
                make(backend, name, given_t, logits=given_logits)
            return
        distribution = make(backend, name, given_t, logits=given_logits)
        draw = backend.draw(distribution, 0)
        assert draw.shape == distribution.batch_shape + distribution.event_shape
        got = backend.numpy(distribution.log_prob(draw))
        assert got.shape == tuple(distribution.batch_shape)
        assert np.isfinite(got).all()
        if name not in STRAIGHT_THROUGH:
            got = backend.numpy(distribution.log_prob(given_value))
            cast = backend.numpy(distribution.logits)  # in the distribution's dtype
            where = np.where(cast > -(2.0**24), cast, -INF)
            expected = reference(name, where, seen[1], seen[2])
            size = (
                abs(np.where(abs(where) < INF, where, 0)).max(initial=1)
                + seen[1].max(initial=1) * 3
            )
            np.testing.assert_allclose(got, expected, rtol=1e-5, atol=100 * 6e-8 * size)


def test_the_page_has_the_rows_of_the_tests() -> None:
    """The rows of the page's tables are the cases of these tests, with the same outcomes."""
    page = (Path(__file__).parents[2] / "docs" / "input.md").read_text()
    found = dict(re.findall(r"^\| (.+?) \| (works|raises|counts)\b", page, re.MULTILINE))
    cases = dict.fromkeys([*WORKS, *SHAPES, *VALUES], "works")
    rounded = ["a relaxed value rounded to 0 or 1"]  # in test_cases_v
    cases |= dict.fromkeys([*RAISES, *rounded], "raises") | dict.fromkeys(TRACED, "counts")
    assert found == cases
