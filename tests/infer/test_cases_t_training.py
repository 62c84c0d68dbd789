"""Trainings that can fail silently: gradients by temperatures, scalar sites, and evaluation."""

import functools
import itertools
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import norm

from harness import Backend
from relaxed_dists._distributions import estimators, formulas
from relaxed_dists._distributions.estimators import (
    DecoupledGumbelSoftmax,
    GappedStraightThrough,
    GumbelRao,
    GumbelSoftmax,
    ReinMax,
    ReinMaxRao,
)

HARD = [GumbelSoftmax, GumbelRao, GappedStraightThrough, ReinMax, ReinMaxRao]
COEFFICIENTS = np.array([1.0, 2.0, 5.0])


def _drawn(backend: Backend, binary: bool, estimator: Any, logits: Any) -> Any:
    """A nonlinear function of a draw, with a different value for each category."""
    names = backend.names
    distribution = (names.Bernoulli if binary else names.OneHotCategorical)(
        logits=logits, estimator=estimator
    )
    z = backend.draw(distribution, 0)
    total = z + 0.5 if binary else (z * backend.array(COEFFICIENTS)).sum(-1)
    return (total**2).sum()


class Attached(GumbelRao):
    """A wrong estimator: its hard value has the relaxed sample's gradient by the temperature."""

    def one_hot(self, ops: Any, logits: Any, gumbel: Any, more: Any = None) -> Any:
        """The hard value with all gradients of the soft one."""
        soft = estimators.relaxed(ops, logits, self.temperature, gumbel)
        return formulas.straight_through(ops, formulas.hard_argmax(ops, logits, gumbel), soft)


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("estimator", [*HARD, Attached])
def test_t4_a_hard_value_gives_its_temperature_no_gradient(
    backend: Backend, estimator: Any, binary: bool, seed: int
) -> None:
    """The gradient by the temperature and the mixed second derivative are exactly 0.

    The gradient by the logits is not 0. The wrong estimator fails.
    """
    rng = np.random.default_rng(seed)
    logits = backend.array(rng.normal(size=(50,) if binary else (50, 3)))
    t = backend.array(rng.uniform(1, 2, 50))

    def f(logits: Any, t: Any) -> Any:
        return _drawn(backend, binary, estimator(t), logits) + (0.0 * t).sum()

    by_logits, by_t = backend.grad(backend.compiled(f), logits, t)
    assert abs(by_logits).max() > 0.1
    assert (by_t == 0).all() == (estimator is not Attached)


# torch's forward mode uses torch.jit.script, and warns about that itself.
@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
@pytest.mark.parametrize("estimator", HARD)
def test_t4_nor_a_second_derivative(backend: Backend, estimator: Any, seed: int) -> None:
    """The squared gradient by the logits has no gradient by the temperature, in any mode."""
    logits = backend.array(np.random.default_rng(seed).normal(size=(50, 3)))
    t = backend.array(np.full(50, 1.3))

    def f(logits: Any, t: Any) -> Any:
        return _drawn(backend, False, estimator(t), logits)

    if backend.framework == "pyro":
        import torch

        forward = torch.func.jvp(lambda t: f(logits, t), (t,), (torch.ones_like(t),))[1]
        second = torch.func.grad(lambda t: (torch.func.grad(f)(logits, t) ** 2).sum())(t)
    else:
        import jax

        forward = jax.jvp(lambda t: f(logits, t), (t,), (1.0 + 0.0 * t,))[1]
        second = jax.jit(jax.grad(lambda t: (jax.grad(f)(logits, t) ** 2).sum()))(t)
    assert (backend.numpy(forward) == 0).all()
    assert (backend.numpy(second) == 0).all()


@pytest.mark.parametrize("binary", [False, True])
def test_t4_a_soft_value_keeps_it(backend: Backend, binary: bool, seed: int) -> None:
    """The gradient by the temperature equals finite differences of the value, in float64.

    The decoupled estimator has a gradient by the forward temperature, and none by the backward one.
    """
    rng = np.random.default_rng(seed)
    logits = backend.array(rng.normal(size=(50,) if binary else (50, 3)))
    t, h = backend.array(0.6), 1e-6

    def soft(t: Any) -> Any:
        return _drawn(backend, binary, GumbelSoftmax(t, hard=False), logits)

    soft = backend.compiled(soft)
    expected = backend.numpy(soft(t + h) - soft(t - h)) / (2 * h)
    assert abs(expected) > 1
    assert backend.grad(soft, t)[0] == pytest.approx(expected, rel=1e-6)

    def decoupled(forward: Any, backward: Any) -> Any:
        estimator = DecoupledGumbelSoftmax(forward, backward)
        return _drawn(backend, binary, estimator, logits) + 0.0 * backward

    forward, backward = backend.grad(backend.compiled(decoupled), t, backend.array(1.1))
    assert forward == pytest.approx(expected, rel=1e-6)
    assert backward == 0


def test_t4_functional(backend: Backend) -> None:
    """gumbel_softmax has the same gradients as its estimator."""
    logits, t = backend.array(np.zeros((50, 3))), backend.array(0.5)
    how: Any = {}
    if backend.framework == "numpyro":
        import jax

        how = {"key": jax.random.key(0)}
    for hard in (True, False):

        def f(t: Any, hard: bool = hard) -> Any:
            z = backend.names.gumbel_softmax(logits, t, hard, **how)
            return ((z * backend.array(COEFFICIENTS)).sum(-1) ** 2).sum() + 0.0 * t

        assert (backend.grad(f, t)[0] == 0) == hard


X, MEANS = np.array([-2.0, 0.1, 1.7]), np.array([-2.0, 0.0, 2.0])


def _learned_pyro(estimator: Any, optim: str) -> tuple[float, float]:
    import pyro
    import torch
    from pyro.distributions import constraints

    from relaxed_dists.pyro import OneHotCategorical

    x, means = (torch.tensor(a, dtype=torch.float32) for a in (X, MEANS))

    def model() -> None:
        with pyro.plate("data", 3):
            z = pyro.sample("z", OneHotCategorical(probs=torch.ones(3)))
            pyro.sample("x", pyro.distributions.Normal(z @ means, 0.7), obs=x)

    def guide() -> None:
        t = pyro.param("t", torch.tensor(1.5), constraint=constraints.positive)
        logits = pyro.param("logits", torch.zeros(3, 3))
        with pyro.plate("data", 3):
            pyro.sample("z", OneHotCategorical(logits=logits, estimator=estimator(t)))

    adam = getattr(pyro.optim, optim)({"lr": 0.05})
    svi = pyro.infer.SVI(model, guide, adam, pyro.infer.TraceMeanField_ELBO())
    for _ in range(40):
        svi.step()
    return pyro.param("t").item(), pyro.param("logits").detach().abs().max().item()


def _learned_numpyro(estimator: Any, optim: str) -> tuple[float, float]:
    import jax
    import jax.numpy as jnp
    import numpyro
    from numpyro.distributions import constraints
    from numpyro.infer import SVI, TraceMeanField_ELBO

    from relaxed_dists.numpyro import OneHotCategorical

    def model() -> None:
        with numpyro.plate("data", 3):
            z = numpyro.sample("z", OneHotCategorical(probs=jnp.ones(3)))
            numpyro.sample("x", numpyro.distributions.Normal(z @ jnp.array(MEANS), 0.7), obs=X)

    def guide() -> None:
        t = numpyro.param("t", 1.5, constraint=constraints.positive)
        logits = numpyro.param("logits", jnp.zeros((3, 3)))
        with numpyro.plate("data", 3):
            numpyro.sample("z", OneHotCategorical(logits=logits, estimator=estimator(t)))

    svi = SVI(model, guide, getattr(numpyro.optim, optim)(0.05), TraceMeanField_ELBO())
    params = svi.run(jax.random.key(0), 40, progress_bar=False).params
    return float(params["t"]), float(abs(params["logits"]).max())


@pytest.mark.parametrize("optim", ["Adam", "ClippedAdam"])
@pytest.mark.filterwarnings("ignore:.*does not support models with discrete latent:UserWarning")
def test_t4_a_learned_temperature_stays(backend: Backend, optim: str) -> None:
    """A learned temperature does not move, while SVI trains the other parameters."""
    learned = {"pyro": _learned_pyro, "numpyro": _learned_numpyro}[backend.framework]
    for estimator in (GumbelSoftmax, GumbelRao) if optim == "Adam" else (ReinMax,):
        t, logits = learned(estimator, optim)
        assert t == pytest.approx(1.5, abs=1e-6)
        assert logits > 0.5


START, OFF = 0.3, np.array([0.25, 0.35, 0.45])


def _scalar_sites(backend: Backend, loss: Any, plate: bool, runs: int, seed: int) -> np.ndarray:
    """Gradient estimates by three scalar sites' logits; in Pyro a sequential plate has the sites.

    With ``plate`` each site is in a vectorised plate of size one, and has batch shape (1,).
    """
    pp = backend
    loop = pp.ppl.plate("loop", 3) if pp.framework == "pyro" else range(3)
    around = (lambda i: pp.ppl.plate(f"one{i}", 1)) if plate else lambda i: nullcontext()

    def model() -> None:
        for i in loop:
            with around(i):
                z = pp.ppl.sample(f"z{i}", pp.names.Bernoulli(probs=pp.array(0.5)))
                pp.ppl.factor(f"cost{i}", -2 * (z - OFF[i]) ** 2)

    def guide() -> None:
        for i in loop:
            logit = pp.ppl.param(f"logit{i}", pp.array(START))
            with around(i):
                estimator = pp.names.GumbelSoftmax(0.5)
                pp.ppl.sample(f"z{i}", pp.names.Bernoulli(logits=logit, estimator=estimator))

    names = [f"logit{i}" for i in range(3)]
    if pp.framework == "pyro":
        import pyro

        found = []
        for run in range(runs):
            pyro.clear_param_store()
            pyro.set_rng_seed(seed + run)
            loss.loss_and_grads(model, guide)
            found.append([pyro.param(name).grad.item() for name in names])
        return np.array(found)
    import jax

    def of(params: Any, key: Any) -> Any:
        return loss.loss(key, params | {"w": pp.array(0.3)}, model, guide)

    keys = jax.random.split(jax.random.key(seed), 600)[:runs]
    params = dict.fromkeys(names, pp.array(START))
    slopes = jax.jit(jax.vmap(jax.grad(of), (None, 0)))(params, keys)
    return np.stack([backend.numpy(slopes[name]) for name in names], -1)


@pytest.mark.parametrize("name", ["REBAR_ELBO", "RELAX_ELBO"])
def test_t5_scalar_binary_sites(backend: Backend, name: str, seed: int) -> None:
    """The mean estimate is the exact gradient, from the two values of each site.

    The false-alarm rate is 1e-6 for each site. The test sees errors of 5 standard errors: 0.15 for
    600 estimates in NumPyro, 0.34 for 120 in Pyro. Each estimate equals that in a plate of one.
    """
    if backend.framework == "pyro":
        import pyro

        surrogate: Any = lambda values: values["z1"] * pyro.param("w", backend.array(0.3))  # noqa: E731
    else:
        surrogate = lambda params, values: values["z1"] * params["w"]  # noqa: E731
    ours = backend.names
    loss = ours.REBAR_ELBO() if name == "REBAR_ELBO" else ours.RELAX_ELBO(surrogate)
    runs = 120 if backend.framework == "pyro" else 600
    found = _scalar_sites(backend, loss, False, runs, seed)
    p = expit(START)
    gain = -2 * (1 - OFF) ** 2 + 2 * OFF**2 - START  # f(1) - f(0)
    error = found.std(0) / runs**0.5
    assert (abs(found.mean(0) + p * (1 - p) * gain) < 5 * error).all()
    assert (error < 0.75 / runs**0.5).all()
    again = _scalar_sites(backend, loss, True, 10, seed)
    np.testing.assert_allclose(again, found[:10], atol=1e-9)


DESIGN = np.random.default_rng(0).normal(size=(20, 4))
TARGET = DESIGN[:, 0]
STAYS = np.array([[0.8, 0.15, 0.05], [0.1, 0.7, 0.2], [0.1, 0.2, 0.7]])
STATES, SIGNALS = np.array([-1.0, 0.0, 1.5]), np.array([[-1.5, -0.4], [0.2, 1.4]])


def _gates(pp: Backend) -> None:
    """Four gates outside of plates, shared by all data."""
    g = pp.ppl.sample("g", pp.names.Bernoulli(probs=pp.array(np.full(4, 0.5))).to_event(1))
    with pp.ppl.plate("n", 20):
        pp.ppl.sample("y", pp.dist.Normal(pp.array(DESIGN) @ g, 1.0), obs=pp.array(TARGET))


def _gates_guide(pp: Backend) -> None:
    distribution = pp.names.Bernoulli(
        logits=pp.array(np.zeros(4)), estimator=pp.names.StraightThrough()
    )
    pp.ppl.sample("g", distribution.to_event(1))


def _gates_joint() -> Iterator[float]:
    for g in itertools.product((0.0, 1.0), repeat=4):
        yield norm.logpdf(TARGET, DESIGN @ g, 1.0).sum() + 4 * np.log(0.5)


def _chain(pp: Backend) -> None:
    """Two states outside of plates, the second from a row of a matrix, with data in a plate."""
    p = pp.array(np.full(3, 1 / 3))
    for t, x in enumerate(SIGNALS):
        z = pp.ppl.sample(f"z{t}", pp.names.OneHotCategorical(probs=p))
        p = pp.array(STAYS).T @ z
        with pp.ppl.plate(f"x{t}s", 2):
            pp.ppl.sample(f"x{t}", pp.dist.Normal(pp.array(STATES) @ z, 1.0), obs=pp.array(x))


def _chain_guide(pp: Backend) -> None:
    for t in range(2):
        estimator = pp.names.StraightThrough()
        distribution = pp.names.OneHotCategorical(logits=pp.array(np.zeros(3)), estimator=estimator)
        pp.ppl.sample(f"z{t}", distribution)


def _chain_joint() -> Iterator[float]:
    for states in itertools.product(range(3), repeat=2):
        data = norm.logpdf(SIGNALS, STATES[list(states)][:, None], 1.0).sum()
        yield data + np.log(STAYS[states]) - np.log(3)


def _summed(pp: Backend) -> None:
    """A model that sums a density over all dimensions, which would include that of the samples."""
    g = pp.ppl.sample("g", pp.names.Bernoulli(probs=pp.array(np.full(4, 0.5))).to_event(1))
    pp.ppl.sample("y", pp.dist.Normal(g.sum(), 1.0), obs=pp.array(1.2))


def _summed_joint() -> Iterator[float]:
    for g in itertools.product((0.0, 1.0), repeat=4):
        yield norm.logpdf(1.2, sum(g), 1.0) + 4 * np.log(0.5)


GLOBAL = {
    "gates": (_gates, _gates_guide, _gates_joint),
    "chain": (_chain, _chain_guide, _chain_joint),
    "summed": (_summed, _gates_guide, _summed_joint),
}


@pytest.mark.parametrize("name", GLOBAL)
def test_t6_variables_outside_of_plates(backend: Backend, name: str, seed: int) -> None:
    """The bound equals the sum over all values, and in Pyro that of one sample at a time.

    The bound is within 5 standard errors of 300 samples (false alarms 1e-6). A sum over all
    samples would be hundreds of standard errors off.
    """
    model, guide = (functools.partial(f, backend) for f in GLOBAL[name][:2])
    weights = np.array(list(GLOBAL[name][2]()))
    exact = weights.mean() + np.log(len(weights))  # the guide is uniform
    bounds = backend.language.bounds
    found = bounds(model, guide, seed, num_samples=300)
    assert abs(found.elbo - exact) < 5 * found.elbo_error < 0.5 * abs(exact)
    if backend.framework == "pyro":
        alone = bounds(model, guide, seed, num_samples=300, chunk_size=1)
        assert alone[:4] == pytest.approx(found[:4])


@pytest.mark.parametrize("backend", ["numpyro"], indirect=True)
@pytest.mark.parametrize("distribution", ["relaxed", "straight_through", "soft"])
def test_t6_sites_of_scan_and_cond(backend: Backend, distribution: str, seed: int) -> None:
    """Sites in a scan or cond become discrete too; the bound equals the sum over all values.

    The bound is within 5 standard errors of 2000 samples, with a false-alarm rate of 1e-6.
    """
    from numpyro.contrib.control_flow import cond, scan
    from numpyro.handlers import seed as seeded

    pp, x = backend, np.ones(4)
    make = {
        "relaxed": functools.partial(pp.names.RelaxedBernoulli, 0.5),
        "straight_through": functools.partial(pp.names.RelaxedBernoulliStraightThrough, 0.5),
        "soft": functools.partial(
            pp.names.Bernoulli, estimator=pp.names.GumbelSoftmax(0.5, hard=False)
        ),
    }[distribution]

    def model() -> None:
        def step(carry: None, x: Any) -> tuple[None, None]:
            z = pp.ppl.sample("z", make(probs=pp.array(0.3)))
            pp.ppl.sample("x", pp.dist.Normal(z, 0.35), obs=x)
            return carry, None

        scan(step, None, pp.array(x))

    def guide() -> None:
        scan(lambda c, p: (c, pp.ppl.sample("z", make(probs=p))), None, pp.array(np.full(4, 0.5)))

    one, zero = norm.logpdf(x, 1, 0.35) + np.log(0.3), norm.logpdf(x, 0, 0.35) + np.log(0.7)
    exact = ((one + zero) / 2 + np.log(2)).sum()
    found = backend.language.bounds(model, guide, seed, num_samples=2000)
    assert abs(found.elbo - exact) < 5 * found.elbo_error < 0.6

    def branches() -> Any:
        draw = lambda _: pp.ppl.sample("z", make(probs=pp.array(np.full(9, 0.4))))  # noqa: E731
        return cond(True, draw, draw, None)

    drawn = np.asarray(seeded(pp.names.discretize(branches), seed)())
    assert set(drawn.tolist()) <= {0.0, 1.0}


@pytest.mark.parametrize("backend", ["pyro"], indirect=True)
def test_t6_python_control_flow(backend: Backend, seed: int) -> None:
    """A model that branches on a value is run one sample at a time."""
    pp = backend

    def model() -> None:
        z = pp.ppl.sample("z", pp.names.Bernoulli(probs=pp.array(0.5)))
        loc = pp.array(1.0) if z == 1 else pp.array(-1.0)
        pp.ppl.sample("x", pp.dist.Normal(loc, 1.0), obs=pp.array(0.3))

    def guide() -> None:
        estimator = pp.names.StraightThrough()
        pp.ppl.sample("z", pp.names.Bernoulli(logits=pp.array(0.0), estimator=estimator))

    found = backend.language.bounds(model, guide, seed, num_samples=300)
    exact = norm.logpdf(0.3, [-1.0, 1.0], 1.0)
    assert abs(found.elbo - exact.mean()) < 5 * found.elbo_error < 0.3
    evidence = np.log(np.exp(exact).mean())
    assert abs(found.importance_weighted - evidence) < 5 * found.importance_weighted_error


# Tests of guides with a temperature argument that are evaluated without a temperature.


def _with_temperature(pp: Backend) -> dict[str, Any]:
    """A model of three points, and guides that use a temperature in several ways."""
    names, logits = pp.names, pp.array(np.random.default_rng(0).normal(size=(3, 3)))

    def model() -> None:
        with pp.ppl.plate("data", 3):
            z = pp.ppl.sample("z", names.OneHotCategorical(probs=pp.array(np.ones(3))))
            loc = (z * pp.array(MEANS)).sum(-1)
            pp.ppl.sample("x", pp.dist.Normal(loc, 0.7), obs=pp.array(X))

    def drawn(estimator: Any, logits: Any = logits) -> None:
        with pp.ppl.plate("data", 3):
            pp.ppl.sample("z", names.OneHotCategorical(logits=logits, estimator=estimator))

    def relaxed(temperature: Any) -> None:
        with pp.ppl.plate("data", 3):
            pp.ppl.sample("z", names.RelaxedOneHotCategorical(temperature, logits=logits))

    return {
        "model": model,
        "estimator": lambda temperature: drawn(names.GumbelSoftmax(temperature)),
        "soft": lambda temperature: drawn(names.GumbelSoftmax(temperature, hard=False)),
        "several": lambda temperature: drawn(names.ReinMaxRao(temperature["z"])),
        "relaxed": relaxed,
        "automatic": names.AutoRelaxed(model),
        "automatic, several": names.AutoRelaxed(model, lambda t: names.GumbelSoftmax(t["z"])),
        "elsewhere": lambda temperature: drawn(None, logits / temperature),
        "another site": lambda temperature: drawn(None) if temperature < 1.5 else None,
        "another shape": lambda temperature: drawn(None, logits[: 3 if temperature < 1.5 else 1]),
    }


LABELS = ["estimator", "soft", "several", "relaxed", "automatic", "automatic, several"]


@pytest.mark.share
@pytest.mark.parametrize("label", LABELS)
def test_t7_evaluation_needs_no_temperature(backend: Backend, label: str, seed: int) -> None:
    """The bounds equal those at any temperature. A share of the cases runs each guide in turn."""
    pp = backend
    guides, params = _with_temperature(pp), {"z_auto_logits": pp.array(np.eye(3))}
    bounds = functools.partial(_bounds, backend, params, guides["model"], guides[label], seed)
    temperature = {"z": 0.5} if "several" in label else 0.5
    assert bounds()[:4] == bounds(temperature=temperature)[:4]
    values = _predicted(backend, params, guides["model"], pp.names.discretize(guides[label]))
    assert values.shape == (5, 3)


def _bounds(backend: Backend, params: Any, model: Any, guide: Any, seed: int, **kwargs: Any) -> Any:
    how: Any = {"num_samples": 20, "progress_bar": False, **kwargs}
    if backend.framework == "pyro":
        import pyro

        pyro.set_rng_seed(seed)
        return backend.names.evidence_bounds(model, guide, **how)
    import jax

    return backend.names.evidence_bounds(jax.random.key(seed), params, model, guide, **how)


def _predicted(backend: Backend, params: Any, model: Any, guide: Any) -> Any:
    if backend.framework == "pyro":
        from pyro.infer import Predictive

        return Predictive(model, guide=guide, num_samples=5)()["x"]
    import jax
    from numpyro.infer import Predictive

    predict = Predictive(model, guide=guide, params=params, num_samples=5)
    return predict(jax.random.key(0))["x"]


def test_t7_unless_it_is_used_elsewhere(backend: Backend, seed: int) -> None:
    """A guide whose discrete distribution depends on the temperature must be given one."""
    pp = backend
    guides = _with_temperature(pp)
    with pytest.raises(ValueError, match="without a temperature, and it draws or scores diff"):
        _bounds(backend, {}, guides["model"], guides["elsewhere"], seed)
    found = [
        _bounds(backend, {}, guides["model"], guides["elsewhere"], seed, temperature=t).elbo
        for t in (0.5, 2.0)
    ]
    assert abs(found[0] - found[1]) > 0.1
    for label in ("another site", "another shape"):
        with pytest.raises(ValueError, match="without a temperature, and it draws or scores diff"):
            _bounds(backend, {}, guides["model"], guides[label], seed)
