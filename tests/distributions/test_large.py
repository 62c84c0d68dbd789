"""Moments, entropies and KL divergences of many categories and rows, in chunks."""

import importlib
import re
from typing import Any

import numpy as np
import pytest
from scipy import special

from harness import Backend
from memory import peak_bytes
from quadratures import grouped_moments
from relaxed_dists._distributions import quadrature
from relaxed_dists._infer import evidence

K = 50_257


@pytest.mark.parametrize("k", [5, quadrature.MANY])
def test_chunks_change_nothing(backend: Backend, k: int, seed: int) -> None:
    """75 rows in chunks of 32 or of one have the values and gradients of all rows together.

    The formula is a simple one, so that the test sees the chunks alone.
    """
    rng, batch = np.random.default_rng(seed), (3, 25)
    module = importlib.import_module(f"relaxed_dists_{backend.room}.quadrature")
    with backend.double():
        logits, t = (
            backend.array(rng.normal(size=(*batch, k))),
            backend.array(rng.uniform(size=batch)),
        )
        assert quadrature.rows_of_chunk(75, k, False) in (1, 32)
        shapes = []

        def way(logits: Any, t: Any) -> tuple[Any, Any]:
            shapes.append(tuple(logits.shape))
            scaled = logits * t[..., None]
            return scaled, (scaled * scaled).sum(-1)

        def chunked(logits: Any, t: Any) -> Any:
            if backend.framework == "pyro":
                return module._by_chunks(way, (logits,), (t,), k)
            return module._by_chunks(lambda x, t: way(*x, *t), 1, 1, (logits,), (t,))

        def total(f: Any) -> Any:
            return lambda logits, t: (f(logits, t)[0] ** 3).sum() + (f(logits, t)[1] ** 2).sum()

        pairs = zip(chunked(logits, t), way(logits, t), strict=True)
        for mine, expected in pairs:
            np.testing.assert_allclose(backend.numpy(mine), backend.numpy(expected), 1e-14)
        slopes = (backend.grad(total(f), logits, t) for f in (chunked, way))
        for mine, expected in zip(*slopes, strict=True):
            np.testing.assert_allclose(mine, expected, 1e-12)
    assert np.prod(shapes[0][:-1]) < 75


@pytest.mark.parametrize("what", ["mean", "kl"])
def test_gradients_in_chunks(backend: Backend, what: str, seed: int) -> None:
    """With 40 rows, which make chunks, the last 12 have the gradients that they have alone."""
    rng = np.random.default_rng(seed)
    logits, other = rng.normal(size=(2, 40, 3))
    t = rng.uniform(0.3, 2.0, 40)

    def slopes(some: slice) -> np.ndarray:
        x, y, s = (backend.array(a[some], "float32") for a in (logits, other, t))

        def total(x: Any) -> Any:
            p = backend.names.RelaxedOneHotCategorical(s, logits=x)
            if what == "mean":
                return (p.mean**2).sum()
            q = backend.names.RelaxedOneHotCategorical(0.7, logits=y)
            return backend.divergence(p, q).sum()

        return backend.with_gradient(total, x)[1]

    np.testing.assert_allclose(slopes(slice(None))[-12:], slopes(slice(-12, None)), 1e-4, 1e-6)


@pytest.mark.parametrize("what", ["mean", "entropy", "kl", "kl at one temperature"])
def test_memory_keeps_to_the_budget(backend: Backend, what: str) -> None:
    """Beside arguments and results, 24 rows hold no more than 20 arrays of a chunk.

    In JAX a chunk has 8 rows for entropies and divergences, and XLA copies the arguments of a loop.
    Without chunks, the integrals would hold 16 arrays of the 24 rows.
    """
    rows = 24
    logits, other, t, s = (
        backend.array(x, "float32")
        for x in (*np.zeros((2, rows, K)), np.full(rows, 0.5), np.full(rows, 0.7))
    )
    if backend.framework == "pyro":
        t, s = t[0], s[0]

    def f(logits: Any, other: Any) -> Any:
        relaxed = backend.names.RelaxedOneHotCategorical
        p = relaxed(t, logits=logits, validate_args=False)
        if what in ("mean", "entropy"):
            return p.mean if what == "mean" else p.entropy()
        q = relaxed(t if "one" in what else s, logits=other, validate_args=False)
        return backend.divergence(p, q)

    chunk = 4 * max(quadrature.CHUNK, K)
    several = 4 if what == "mean" else 0  # mean and variance, each in parts and whole
    bound = 20 * chunk + several * 4 * rows * K
    if backend.framework == "numpyro":
        bound = bound + 8 * 8 * chunk * (what != "mean") + 3 * 4 * rows * K
    assert peak_bytes(backend, f, logits, other) < bound < 16 * 4 * rows * K


def test_moments_of_a_vocabulary(backend: Backend) -> None:
    """50,257 categories in three groups agree with sums over a fine grid, to 1e-6 in float32."""
    counts, values, t = (1, 256, 50_000), (7.0, 2.0, 0.0), 0.5
    logits = np.repeat(values, counts)
    p = backend.names.RelaxedOneHotCategorical(
        backend.array(t, "float32"), logits=backend.array(logits, "float32")
    )
    mean, square = grouped_moments(values, counts, t).T
    first = np.cumsum((0, *counts))[:-1]
    np.testing.assert_allclose(backend.numpy(p.mean)[first], mean, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(backend.numpy(p.variance)[first], square - mean**2, atol=1e-6)


def test_limits_of_a_vocabulary(backend: Backend, seed: int) -> None:
    """At a low temperature means are the probabilities; equal logits have equal means, and KL 0."""
    logits = np.random.default_rng(seed).normal(0, 2, (2, K))
    logits[1] = 0
    relaxed = backend.names.RelaxedOneHotCategorical
    t, x = backend.array(1e-3, "float32"), backend.array(logits, "float32")
    p = special.softmax(logits, -1)
    found = backend.numpy(relaxed(t, logits=x).mean)
    np.testing.assert_allclose(found, p, rtol=1e-3, atol=1e-9)
    assert found[1].std() < 1e-6 * found[1].mean()
    np.testing.assert_allclose(backend.kl(relaxed(t, logits=x), relaxed(t, logits=x)), 0, atol=1e-3)


@pytest.mark.parametrize("name", ["OneHotCategorical", "Bernoulli"])
def test_a_large_plate_normalises_each_row_once(name: str) -> None:
    """The mass of values in a plate takes exp and log of the logits before expand alone, in JAX.

    XLA would otherwise compute those of constant logits while it compiles. A value without the axes
    of the plate still gets the shape of the plate.
    """
    jax = pytest.importorskip("jax")
    cls = getattr(pytest.importorskip("relaxed_dists.numpyro"), name)
    logits = np.array([[0.0, -np.inf, 1.0], [0.5, 0.2, 0.1]], "float32")
    value = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]], "float32")
    if name == "Bernoulli":
        logits, value = logits[:, 0], value[:, 0]
    plain = cls(logits=logits).log_prob(value)
    d = cls(logits=logits).expand((7, 2)).expand((5, 7, 2))
    many = np.broadcast_to(value, (4, 5, 7, *value.shape))
    found = [d.log_prob(many), d.log_prob(many[0]), d.log_prob(value)]
    assert [x.shape for x in found] == [(4, 5, 7, 2), (5, 7, 2), (5, 7, 2)]
    for x in found:
        np.testing.assert_array_equal(x, np.broadcast_to(plain, x.shape))
    with jax.numpy_rank_promotion("raise"):
        d.log_prob(many[0])
    if name == "OneHotCategorical":
        text = str(jax.make_jaxpr(d.log_prob)(many[0]))
        assert re.findall(r"f32\[([\d,]*)\] = exp", text) == ["1,1,2,3"]


def test_chunks_of_samples() -> None:
    """evidence_bounds holds at most 2^23 numbers in a chunk, unless one sample has more."""
    assert evidence.chunk(1000, None, 8 * K) == 20 == 2**23 // (8 * K)
    assert evidence.chunk(1000, None, 2**24) == 1
    assert evidence.chunk(1000, 30, 8 * K) == 30
