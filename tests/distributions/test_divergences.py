"""KL divergences of relaxed distributions: exact, differentiable, compiled, light on memory."""

import functools

import mpmath
import numpy as np
import pytest
from scipy import stats

from harness import Backend, enable_x64, one_graph
from quadratures import binary_expectation, kl_at_one_temperature, log_density, over_plane, plane

ROWS = ["ExpRelaxedOneHotCategorical", "RelaxedOneHotCategorical"]
LOGITS, OTHER = np.array([0.5, -1.0, 0.2]), np.array([0.0, 0.3, -0.4])
BINARY = ["LogitRelaxedBernoulli", "RelaxedBernoulli"]


def kl(backend: Backend, name: str, p: tuple, q: tuple, dtype: str = "float64") -> np.ndarray:
    """KL of two distributions of a class, given as (temperature, logits)."""
    laws = (
        getattr(backend.names, name)(backend.array(t, dtype), logits=backend.array(x, dtype))
        for t, x in (p, q)
    )
    return backend.kl(*laws)


def binary_kl(d: float, t: float, other: float, u: float) -> float:
    """The KL of two logistic distributions, by a sum over an even grid."""

    def log_ratio(y: np.ndarray) -> np.ndarray:
        first = stats.logistic.logpdf(t * y - d) + np.log(t)
        return first - stats.logistic.logpdf(u * y - other) - np.log(u)

    return binary_expectation(log_ratio, d, t)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_at_one_temperature(backend: Backend, dtype: str) -> None:
    """The KL agrees with partial fractions at 80 digits, for close and for distant logits.

    In float64 the relative error is below 1e-12, in float32 the error is below 3e-6 times K. The
    KL is never below -1e-12.
    """
    rng = np.random.default_rng(0)
    scales = np.array([1e-6, 0.1, 1.0, 10.0, 80.0])
    logits = rng.normal(0, 1, (5, 10)).astype(dtype).astype("float64")
    other = (logits + scales[:, None] * rng.normal(0, 1, (5, 10))).astype(dtype)
    expected = [kl_at_one_temperature(x, y) for x, y in zip(logits, other, strict=True)]
    for name in ROWS:
        ours = kl(backend, name, (0.3, logits), (0.3, other), dtype)
        if dtype == "float64":
            np.testing.assert_allclose(ours, expected, rtol=1e-12, atol=1e-20)
        np.testing.assert_allclose(ours, expected, rtol=3e-6, atol=3e-5)
        assert (ours > -1e-12).all()
        np.testing.assert_array_equal(kl(backend, name, (0.3, logits), (0.3, logits), dtype), 0)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_binary_at_one_temperature(backend: Backend, dtype: str) -> None:
    """The KL is d coth(d / 2) - 2, with a relative error below 3e-13 for d from 1e-6 to 80."""
    d = np.array([0.0, 1e-6, 1e-3, 0.5, 0.999, 1.001, 5.0, 80.0]).astype(dtype)
    with mpmath.workdps(50):
        exact = [mpmath.mpf(float(x)) for x in d[1:]]
        expected = [0.0] + [float(x * mpmath.coth(x / 2) - 2) for x in exact]
    for name in BINARY:
        ours = kl(backend, name, (0.3, d), (0.3, np.zeros(8)), dtype)
        np.testing.assert_allclose(ours, expected, rtol=3e-13 if dtype == "float64" else 2e-6)
    rows = np.stack([d, 0 * d], -1)
    two = kl(backend, ROWS[0], (0.3, rows), (0.3, 0 * rows), dtype)
    np.testing.assert_allclose(two, expected, rtol=1e-9 if dtype == "float64" else 3e-6, atol=1e-6)


@pytest.mark.parametrize(("t", "u"), [(0.5, 0.7), (1.0, 0.2), (0.4, 2.0)])
def test_at_two_temperatures(backend: Backend, t: float, u: float) -> None:
    """The KL agrees with integrals over the plane of three categories, and over the line, to 1e-8.

    The discrete distributions' KL differs by more than 0.1.
    """
    logits, other = np.array([0.5, -1.0, 0.2]), np.array([0.0, 0.3, -0.4])
    axis, y = plane(t)
    log_q = log_density(logits, t, y)
    expected = over_plane(axis, np.exp(log_q) * (log_q - log_density(other, u, y)))
    for name in ROWS:
        np.testing.assert_allclose(kl(backend, name, (t, logits), (u, other)), expected, rtol=1e-8)
    discrete = backend.kl(
        *(backend.names.OneHotCategorical(logits=backend.array(x)) for x in (logits, other))
    )
    assert abs(discrete - expected) > 0.1
    expected = [binary_kl(d, t, 0.3, u) for d in logits]
    for name in BINARY:
        ours = kl(backend, name, (t, logits), (u, np.full(3, 0.3)))
        np.testing.assert_allclose(ours, expected, rtol=1e-8)


def test_against_draws(backend: Backend) -> None:
    """For 20 categories, the KL is within five standard errors of that of 200,000 draws.

    Each number has a false-alarm rate of 1e-6. The dtype is float32; the rows' ratios of
    temperatures are below, at and above one.
    """
    rng, n = np.random.default_rng(1), 200_000
    logits, other = rng.normal(0, 1, (3, 20)), rng.normal(0, 1, (3, 20))
    t, u = np.array([0.5, 0.5, 1.5]), np.array([0.75, 0.5, 0.1])
    p, q = (
        backend.names.ExpRelaxedOneHotCategorical(
            backend.array(temperature, "float32"), logits=backend.array(x, "float32")
        )
        for temperature, x in ((t, logits), (u, other))
    )
    exact = backend.kl(p, q)
    scores = logits + rng.gumbel(size=(n, 3, 20))
    y = scores / t[:, None] - np.logaddexp.reduce(scores / t[:, None], -1, keepdims=True)
    ratio = 19 * np.log(t / u)
    for sign, temperature, x in ((1, t, logits), (-1, u, other)):
        s = x - temperature[:, None] * y
        ratio = ratio + sign * (s.sum(-1) - 20 * np.logaddexp.reduce(s, -1))
    error = ratio.std(0) / np.sqrt(n)
    assert (abs(exact - ratio.mean(0)) < 5 * error).all()
    assert (abs(exact - 1.05 * ratio.mean(0)) > 5 * error).all()  # an error of 5 % is seen


@functools.cache
def slopes_over_the_plane(t: float, u: float, h: float = 1e-4) -> list[np.ndarray]:
    """Central differences of the integral by x, t, z and u, at LOGITS, t, OTHER and u."""

    def integral(x: np.ndarray, t: np.ndarray, z: np.ndarray, u: np.ndarray) -> float:
        axis, y = plane(float(t), 401)
        log_q = log_density(x, float(t), y)
        return over_plane(axis, np.exp(log_q) * (log_q - log_density(z, float(u), y)))

    point, slopes = [LOGITS, np.float64(t), OTHER, np.float64(u)], []
    for i, own in enumerate(point):
        slopes.append(np.zeros(np.shape(own)))
        for j in np.ndindex(np.shape(own)):
            sides = []
            for sign in (1, -1):
                moved = [np.array(x) for x in point]
                moved[i][j] += sign * h
                sides.append(integral(*moved))
            slopes[i][j] = (sides[0] - sides[1]) / (2 * h)
    return slopes


def test_gradients(backend: Backend) -> None:
    """The KL's gradients by all parameters agree with central differences, to 1e-6.

    Temperatures are unequal or equal. The differences are of integrals over the plane, not of our
    KL.
    """

    def ours(x: object, t: object, z: object, u: object) -> object:
        distribution = backend.names.ExpRelaxedOneHotCategorical
        return backend.divergence(distribution(t, logits=x), distribution(u, logits=z)).sum()

    for t, u in ((0.5, 0.8), (0.6, 0.6)):
        point = [LOGITS, t, OTHER, u]
        gradients = backend.grad(backend.compiled(ours), *(backend.array(x) for x in point))
        for gradient, slope in zip(gradients, slopes_over_the_plane(t, u), strict=True):
            np.testing.assert_allclose(gradient, slope, atol=1e-6)


def test_temperatures_that_broadcast(backend: Backend) -> None:
    """The KL doesn't depend on whether one temperature is shared by rows, repeated or expanded.

    The results agree to 1e-11, since rows that share a temperature have other code.
    """
    rng = np.random.default_rng(2)
    logits, other = rng.normal(0, 1, (4, 3, 5)), rng.normal(0, 1, (3, 5))
    made = functools.partial(kl, backend, ROWS[1])
    whole = np.broadcast_to(other, (4, 3, 5)).copy()
    expected = made((0.5, logits), (0.8, whole))
    np.testing.assert_allclose(
        made((np.full((4, 3), 0.5), logits), (0.8, whole)), expected, rtol=1e-11
    )
    np.testing.assert_allclose(
        made((np.full(3, 0.5), logits), (np.full((4, 1), 0.8), whole)), expected, rtol=1e-11
    )
    mixed = made((np.array([0.5, 0.7, 0.8]), logits), (0.8, whole))
    np.testing.assert_allclose(mixed[:, 0], expected[:, 0], rtol=1e-11)
    assert (abs(mixed[:, 1] - expected[:, 1]) > 1e-3).all()


def test_straight_through_laws_have_the_kl_of_their_densities(backend: Backend) -> None:
    """A straight-through distribution's KL is that of its relaxed sample, like its density."""
    for hard, soft in (
        ("RelaxedOneHotCategoricalStraightThrough", ROWS[1]),
        ("RelaxedBernoulliStraightThrough", BINARY[1]),
    ):
        p, q = (0.5, np.array([0.5, -1.0, 0.2])), (0.8, np.zeros(3))
        np.testing.assert_array_equal(kl(backend, hard, p, q), kl(backend, soft, p, q))


def test_memory_in_torch() -> None:
    """The backward pass saves the arguments and their gradients, for any number of nodes."""
    torch = pytest.importorskip("torch")
    from relaxed_dists.pyro import RelaxedOneHotCategorical

    logits, kept = torch.randn(100, 20, 10, requires_grad=True), []
    prior = RelaxedOneHotCategorical(0.8, logits=torch.randn(100, 20, 10))

    def pack(x: object) -> object:
        kept.append(x.nbytes)
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        loss = torch.distributions.kl_divergence(
            RelaxedOneHotCategorical(0.5, logits=logits), prior
        )
    loss.sum().backward()
    assert torch.isfinite(logits.grad).all()
    assert sum(kept) < 12 * logits.nbytes  # with 80 nodes' values it would be 80 times


def test_memory_in_jax() -> None:
    """The compiled gradient's temporaries are a few times the logits, for any number of nodes."""
    pytest.importorskip("numpyro")
    jax = pytest.importorskip("jax")
    from numpyro.distributions import kl_divergence

    from relaxed_dists.numpyro import RelaxedOneHotCategorical

    def loss(logits: object, other: object, t: object, u: object) -> object:
        distribution = RelaxedOneHotCategorical
        return kl_divergence(distribution(t, logits=logits), distribution(u, logits=other)).sum()

    x = jax.ShapeDtypeStruct((100, 20, 10), "float32")
    number = jax.ShapeDtypeStruct((), "float32")
    compiled = jax.jit(jax.grad(loss)).lower(x, x, number, number).compile()
    # If temperatures differ by row, each row has a few tables of 173 intervals of 4 numbers. One
    # array of rows, categories and two sets of nodes would have 160 MB.
    assert compiled.memory_analysis().temp_size_in_bytes < 64 * 2**20


def test_transformations_in_torch() -> None:
    """vmap, a second derivative and torch.compile in one graph give the same numbers."""
    torch = pytest.importorskip("torch")
    from relaxed_dists.pyro import RelaxedOneHotCategorical

    generator = torch.Generator().manual_seed(0)
    x, z = (torch.randn(3, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    t = torch.tensor([0.3, 1.0, 2.0], dtype=torch.float64)

    def loss(x: object, z: object, t: object) -> object:
        distribution = RelaxedOneHotCategorical
        return torch.distributions.kl_divergence(
            distribution(t, logits=x), distribution(0.7, logits=z)
        )

    expected = loss(x, z, t)
    torch.testing.assert_close(torch.vmap(loss)(x, z, t), expected)
    compiled = one_graph(loss, backend="aot_eager")
    torch.testing.assert_close(compiled(x, z, t), expected)
    leaves = [y.clone().requires_grad_() for y in (x, z, t)]
    assert torch.autograd.gradgradcheck(loss, leaves, fast_mode=True)
    gradients = torch.autograd.grad(compiled(*leaves).sum(), leaves)
    for ours, other in zip(
        gradients, torch.autograd.grad(loss(*leaves).sum(), leaves), strict=True
    ):
        torch.testing.assert_close(ours, other)
    single = [y.detach().float().requires_grad_() for y in leaves]
    for ours, other in zip(
        torch.autograd.grad(compiled(*single).sum(), single), gradients, strict=True
    ):
        torch.testing.assert_close(ours.double(), other, rtol=1e-5, atol=1e-5)


def test_transformations_in_jax() -> None:
    """vmap and jit give the same numbers, and the Hessian is right, to 1e-6."""
    pytest.importorskip("numpyro")
    jax = pytest.importorskip("jax")
    from numpyro.distributions import kl_divergence

    from relaxed_dists.numpyro import RelaxedOneHotCategorical

    with enable_x64():
        jnp = jax.numpy
        x, z = (jax.random.normal(jax.random.key(i), (2, 3)) for i in range(2))
        t = jnp.array([0.3, 2.0])

        def loss(x: object, z: object, t: object) -> object:
            distribution = RelaxedOneHotCategorical
            return kl_divergence(distribution(t, logits=x), distribution(0.7, logits=z))

        expected = jax.jit(loss)(x, z, t)
        np.testing.assert_allclose(jax.jit(jax.vmap(loss))(x, z, t), expected, rtol=1e-10)
        hessian = jax.jit(jax.hessian(loss))(x[0], z[0], t[0])
        step = jnp.array([1e-4, 0, 0])
        slope = jax.jit(jax.grad(loss))
        difference = (slope(x[0] + step, z[0], t[0]) - slope(x[0] - step, z[0], t[0])) / 2e-4
        np.testing.assert_allclose(hessian[0], difference, atol=1e-6)
