"""relax: densities by the papers' formulas, values, and other handlers outside and inside."""

import importlib
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from scipy import stats
from scipy.special import expit, log_expit, log_softmax, softmax

from harness import Backend, Torch
from languages import kind
from numpy_ops import binary_concrete_density, concrete_density

LOGITS, LOGIT, T = np.array([0.3, -0.5, 1.0]), 0.4, 0.7
SIZE, SUBSAMPLE, SCALE = 5, 2, 0.3
MASK = np.array([True, False])
Y = log_softmax(np.random.default_rng(2).normal(0, 1, (SUBSAMPLE, 3)), -1)
B = np.array([0.8, -1.1])
WEIGHTS = np.array([-1.0, 0.5, 2.0])


def one_hot(backend: Backend, own: bool, **parameters: Any) -> Any:
    """A one-hot distribution, the framework's own if it has one."""
    module = backend.dist if own and isinstance(backend, Torch) else backend.names
    return module.OneHotCategorical(**parameters)


def plated(backend: Backend, own: bool = False) -> Callable[[], Any]:
    """A model with plates, a subsample, a mask and a scale.

    Its density does not depend on which rows are drawn.
    """
    p, h, dist = backend.ppl, backend.handlers, backend.dist
    logits, weights = backend.array(LOGITS), backend.array(WEIGHTS)
    bernoulli = dist.Bernoulli if own else backend.names.Bernoulli

    def model() -> Any:
        with p.plate("rows", SIZE, subsample_size=SUBSAMPLE):
            z = p.sample("z", one_hot(backend, own, logits=logits))
            with h.scale(scale=SCALE), h.mask(mask=backend.array(MASK, "bool")):
                b = p.sample("b", bernoulli(logits=backend.array(LOGIT)))
            mean = z @ weights + b
            p.sample("x", dist.Normal(mean, backend.array(1.0)), obs=backend.array(1.5))
        return z, b

    return model


def by_hand(scaled: bool = True) -> float:
    """The density of the relaxed model at Y and B, by the papers; without scales it is wrong.

    The rows count SIZE / SUBSAMPLE times, the Bernoulli site SCALE times, and only its first row.
    """
    x, w = np.exp(Y), expit(B)
    t = np.array(T)
    rows = np.log(concrete_density(LOGITS, np.full(SUBSAMPLE, T), x) * x.prod(-1))
    gates = np.log(binary_concrete_density(np.array(LOGIT), t, w) * w * (1 - w))
    observed = stats.norm.logpdf(1.5, x @ WEIGHTS + w)
    if not scaled:
        return float((rows + gates + observed).sum())
    return float(SIZE / SUBSAMPLE * (rows + SCALE * MASK * gates + observed).sum())


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("by_name", [True, False])
def test_joint_density(backend: Backend, own: bool, by_name: bool) -> None:
    """The joint density is the papers' density, with each scale, mask and subsample once."""
    names, model = backend.names, plated(backend, own)
    if by_name:
        config = {"z": names.RelaxedReparam(T), "b": names.RelaxedReparam(T)}
        relaxed = backend.handlers.reparam(model, config=config)
    else:
        relaxed = names.relax(model, T)
    given = {"z_relaxed": backend.array(Y), "b_relaxed": backend.array(B)}
    density = backend.language.log_density(relaxed, given)
    np.testing.assert_allclose(density, by_hand(), rtol=1e-12)
    assert abs(density - by_hand(scaled=False)) > 1


def test_the_trace(backend: Backend) -> None:
    """The relaxed site is latent; the site's own name is deterministic, with the relaxed value."""
    found = backend.language.trace(backend.names.relax(plated(backend), T))
    kinds = {k: kind(v) for k, v in found.items() if v["type"] in ("sample", "deterministic")}
    kinds.pop("rows", None)
    expected = {"z_relaxed": "latent", "z": "deterministic", "b_relaxed": "latent"}
    assert kinds == {**expected, "b": "deterministic", "x": "observed"}
    drawn = {k: backend.numpy(found[k]["value"]) for k in ("z", "z_relaxed", "b", "b_relaxed")}
    np.testing.assert_allclose(drawn["z"], np.exp(drawn["z_relaxed"]), rtol=1e-12)
    np.testing.assert_allclose(drawn["b"], expit(drawn["b_relaxed"]), rtol=1e-12)


def test_distributions_in_wrappers(backend: Backend) -> None:
    """Expanded, masked and independent sites keep their shapes; masked elements do not count."""
    p, mask = backend.ppl, np.array([1, 0, 1, 1], bool)
    t = np.full((4, 2), T) * [[1.0], [0.5], [2.0], [1.0]]

    def model() -> Any:
        for name, distribution in {
            "z": backend.names.OneHotCategorical(logits=backend.array(LOGITS)),
            "b": backend.dist.Bernoulli(logits=backend.array(LOGIT)),
        }.items():
            distribution = distribution.expand((4, 2)).to_event(1).mask(backend.array(mask, "bool"))
            p.sample(name, distribution)

    relaxed = backend.names.relax(model, backend.array(t))
    with p.plate("rows", 4):
        found = backend.language.trace(relaxed)
    z, b = found["z_relaxed"], found["b_relaxed"]
    assert (z["fn"].batch_shape, z["fn"].event_shape) == ((4,), (2, 3))
    assert (b["fn"].batch_shape, b["fn"].event_shape) == ((4,), (2,))
    rng = np.random.default_rng(3)
    y, g = log_softmax(rng.normal(0, 1, (4, 2, 3)), -1), rng.normal(0, 1, (4, 2))
    x, w = np.exp(y), expit(g)
    expected = np.log(concrete_density(LOGITS, t, x) * x.prod(-1)).sum(-1)
    got = backend.numpy(z["fn"].log_prob(backend.array(y)))
    np.testing.assert_allclose(got, mask * expected, rtol=1e-12)
    expected = np.log(binary_concrete_density(np.array(LOGIT), t, w) * w * (1 - w)).sum(-1)
    got = backend.numpy(b["fn"].log_prob(backend.array(g)))
    np.testing.assert_allclose(got, mask * expected, rtol=1e-12)


def drawn(backend: Backend, logits: Any, t: Any, hard: bool, seed: int) -> dict[str, Any]:
    """The sites z and b of a relaxed model with the given logits, of shape (4, 3)."""

    def model() -> None:
        p = backend.ppl
        with p.plate("rows", 4):
            p.sample("z", backend.names.OneHotCategorical(logits=logits))
            p.sample("b", backend.names.Bernoulli(logits=logits[:, 0]))

    return backend.language.values(backend.names.relax(model, t, hard=hard), seed)


@pytest.mark.parametrize("hard", [True, False])
def test_values_and_gradients(backend: Backend, hard: bool, seed: int) -> None:
    """Soft values and Jacobians are the paper's; hard values are corners with the same gradient.

    With the noise fixed, u = (logits + noise) / t, the gradient of sum w softmax(u) by the logits
    is (w x - x (w . x)) / t, and that by t has -u / t as another factor.
    """
    logits = np.random.default_rng(seed).normal(0, 1, (4, 3))
    t, w = np.array([0.3, 0.5, 1.0, 2.0]), WEIGHTS
    plain = drawn(backend, backend.array(logits), 1.0, False, seed)
    u = backend.numpy(plain["z_relaxed"]) / t[:, None]
    v = backend.numpy(plain["b_relaxed"]) / t
    x, s = softmax(u, -1), expit(v)
    got = drawn(backend, backend.array(logits), backend.array(t), hard, seed)
    z, b = backend.numpy(got["z"]), backend.numpy(got["b"])
    np.testing.assert_allclose(z, np.eye(3)[u.argmax(-1)] if hard else x, rtol=1e-9)
    np.testing.assert_allclose(b, v > 0 if hard else s, rtol=1e-9)

    def loss(logits: Any, t: Any) -> Any:
        site = drawn(backend, logits, t, hard, seed)
        return (site["z"] * backend.array(w)).sum() + site["b"].sum()

    by_logits, by_t = backend.grad(backend.compiled(loss), backend.array(logits), backend.array(t))
    through = w * x - x * (x @ w)[:, None]  # by u
    expected = through / t[:, None]
    expected[:, 0] += s * (1 - s) / t
    np.testing.assert_allclose(by_logits, expected, rtol=1e-8, atol=1e-10)
    expected = -(through * u).sum(-1) / t - s * (1 - s) * v / t
    np.testing.assert_allclose(by_t, expected, rtol=1e-8, atol=1e-10)


def test_largest_entry_has_the_discrete_distribution(backend: Backend, seed: int) -> None:
    """The largest entry, or a positive logit, has the discrete frequencies at any temperature.

    A chi-squared test of 20,000 draws, with false alarms 1e-6, rejects logits divided by the
    temperature.
    """
    p, n = backend.ppl, 20_000

    def model() -> None:
        with p.plate("rows", n):
            p.sample("z", backend.names.OneHotCategorical(logits=backend.array(LOGITS)))
            p.sample("b", backend.dist.Bernoulli(logits=backend.array(LOGIT)))

    got = backend.language.values(backend.names.relax(model, T), seed)
    largest = np.bincount(backend.numpy(got["z"]).argmax(-1), minlength=3)
    positive = (backend.numpy(got["b_relaxed"]) > 0).sum()

    def fits(counts: np.ndarray, probs: np.ndarray) -> bool:
        return bool(stats.chisquare(counts, n * probs).pvalue > 1e-6)

    two = np.array([n - positive, positive])
    assert fits(largest, softmax(LOGITS))
    assert fits(two, expit(np.array([-LOGIT, LOGIT])))
    assert not fits(largest, softmax(LOGITS / T))
    assert not fits(two, expit(np.array([-LOGIT, LOGIT]) / T))


def test_masked_category(backend: Backend) -> None:
    """A masked category has the value 0 and finite gradients; the density is that without it."""
    logits = np.array([0.3, -np.inf, 1.0])

    def model(logits: Any) -> None:
        backend.ppl.sample("z", backend.names.OneHotCategorical(logits=logits))

    run = partial(backend.names.relax(model, T), backend.array(logits))
    z = backend.numpy(backend.language.values(run)["z"])
    assert z[1] == 0
    np.testing.assert_allclose(z.sum(), 1)
    x = np.array([0.2, 0.8])
    expected = np.log(concrete_density(logits[[0, 2]], np.array(T), x) * x.prod())
    given = {"z_relaxed": backend.array(np.log([0.2, 1e-300, 0.8]) - [0, np.inf, 0])}
    np.testing.assert_allclose(backend.language.log_density(run, given), expected, rtol=1e-12)

    def first(logits: Any) -> Any:
        return backend.language.values(partial(backend.names.relax(model, T), logits))["z"][0]

    (gradient,) = backend.grad(first, backend.array(logits))
    np.testing.assert_allclose(gradient, z[0] * z[2] / T * np.array([1, 0, -1]), rtol=1e-9)


def two_sites(backend: Backend) -> Any:
    """A model with a one-hot site and a Bernoulli site."""
    p = backend.ppl
    z = p.sample("z", backend.names.OneHotCategorical(logits=backend.array(LOGITS)))
    b = p.sample("b", backend.dist.Bernoulli(logits=backend.array(LOGIT)))
    return z, b


def latent(backend: Backend, program: Any) -> set[str]:
    """The names of a program's latent sites."""
    found = backend.language.trace(program)
    return {k for k, v in found.items() if v["type"] == "sample" and kind(v) == "latent"}


def test_ways_to_use_it(backend: Backend) -> None:
    """relax is a function, a decorator and a context manager, for all sites or those named."""
    relax, model = backend.names.relax, partial(two_sites, backend)
    both = {"z_relaxed", "b_relaxed"}

    def within() -> None:
        with relax(temperature=T):
            model()

    def decorated() -> Any:
        return model()

    assert latent(backend, relax(model, T)) == both
    assert latent(backend, within) == both
    assert latent(backend, relax(temperature=T)(decorated)) == both
    assert latent(backend, relax(model, T, sites=["z"])) == {"z_relaxed", "b"}
    assert latent(backend, relax(relax(model, T, sites=["z"]), 1.0)) == both
    again = relax(model, T)
    assert latent(backend, again) == latent(backend, again) == both


def test_observed_inside(backend: Backend) -> None:
    """A condition inside keeps the site discrete; a condition outside sets the relaxed site."""
    h, relax = backend.handlers, backend.names.relax
    corner, y = backend.array(np.eye(3)[1]), backend.array(Y[0])
    model = partial(two_sites, backend)
    relaxed = relax(h.condition(model, data={"z": corner}), T)
    assert latent(backend, relaxed) == {"b_relaxed"}
    w = expit(0.8)
    gate = np.log(binary_concrete_density(np.array(LOGIT), np.array(T), w) * w * (1 - w))
    density = backend.language.log_density(relaxed, {"b_relaxed": backend.array(0.8)})
    np.testing.assert_allclose(density, log_softmax(LOGITS)[1] + gate, rtol=1e-6)
    for program in (
        relax(h.condition(model, data={"z_relaxed": y}), T),
        h.condition(relax(model, T), data={"z_relaxed": y}),
    ):
        assert latent(backend, program) == {"b_relaxed"}
        np.testing.assert_allclose(
            backend.numpy(backend.language.values(program)["z"]), np.exp(Y[0])
        )


def test_order_of_handlers(backend: Backend) -> None:
    """Seeds, scales, masks, blocks and other reparameterisations work outside and inside."""
    h, p, dist, relax = backend.handlers, backend.ppl, backend.dist, backend.names.relax
    reparams = importlib.import_module(f"{backend.framework}.infer.reparam")
    centred = {"m": reparams.LocScaleReparam(0.0)}

    def model() -> None:
        p.sample("m", dist.Normal(backend.array(1.0), backend.array(2.0)))
        two_sites(backend)

    expected = {"m_decentered", "z_relaxed", "b_relaxed"}
    assert latent(backend, relax(h.reparam(model, config=centred), T)) == expected
    assert latent(backend, h.reparam(relax(model, T), config=centred)) == expected
    hidden = h.block(model, hide=["z"])
    assert latent(backend, relax(hidden, T)) == {"m", "b_relaxed"}
    assert latent(backend, h.block(relax(model, T), hide=["z"])) == expected - {"m_decentered"} | {
        "m"
    }
    given = {"z_relaxed": backend.array(Y[0]), "b_relaxed": backend.array(0.8)}
    plain = backend.language.log_density(relax(partial(two_sites, backend), T), given)
    for outside in (True, False):
        inner = partial(two_sites, backend)
        scaled = (
            h.scale(relax(inner, T), scale=SCALE)
            if outside
            else relax(h.scale(inner, scale=SCALE), T)
        )
        np.testing.assert_allclose(backend.language.log_density(scaled, given), SCALE * plain)


def test_already_relaxed(backend: Backend) -> None:
    """A relaxed site does not change, named or not."""
    names = backend.names

    def model() -> None:
        distribution = names.RelaxedOneHotCategoricalStraightThrough(
            T, logits=backend.array(LOGITS)
        )
        backend.ppl.sample("z", distribution)

    assert latent(backend, names.relax(model, T)) == {"z"}
    config = {"z": names.RelaxedReparam(T)}
    assert latent(backend, backend.handlers.reparam(model, config=config)) == {"z"}


def test_half_precision_and_log_expit(backend: Backend) -> None:
    """A float16 site's values are float16, and the sigmoid is exact far down."""
    logits = backend.array(np.zeros(3), "float16")

    def model() -> None:
        backend.ppl.sample("z", backend.names.OneHotCategorical(logits=logits))

    assert "float16" in str(backend.language.values(backend.names.relax(model, T))["z"].dtype)

    def gate() -> None:
        backend.ppl.sample("b", backend.names.Bernoulli(logits=backend.array(LOGIT)))

    given = backend.handlers.condition(
        backend.names.relax(gate, T), data={"b_relaxed": backend.array(-600.0)}
    )
    b = backend.numpy(backend.language.values(given)["b"])
    np.testing.assert_allclose(np.log(b), log_expit(-600.0), rtol=1e-12)
