"""Inference in a relaxed model: autoguides, Predictive, annealing, and NUTS against quadrature."""

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.special import expit, logsumexp

from harness import Backend, Torch
from numpy_ops import binary_concrete_density, concrete_density
from relaxed_dists.schedules import linear

LOGITS, LOGIT = np.array([0.3, -0.5, 1.0]), 0.4
CENTRES = np.array([-1.0, 0.5, 2.0])
X, NOISE, T = 0.2, 0.8, 0.5
ROWS = 64
# The outer centres only: in the relaxed model the middle one is a mixture of them.
CLEAR = np.array([-1.0, 2.0, 2.0, -1.0])


def mixture(backend: Backend, data: np.ndarray, noise: float) -> Callable[..., Any]:
    """A model with a one-hot and a Bernoulli site for each datum, each with its observation.

    The rows are independent, and so are the two sites of a row.
    """
    p, dist = backend.ppl, backend.dist
    x, scale, centres = (backend.array(a) for a in (data, np.array(noise), CENTRES))

    def model() -> None:
        with p.plate("rows", len(data)):
            z = p.sample("z", backend.names.OneHotCategorical(logits=backend.array(LOGITS)))
            b = p.sample("b", dist.Bernoulli(logits=backend.array(LOGIT)))
            p.sample("x", dist.Normal(z @ centres, scale), obs=x)
            p.sample("y", dist.Normal(b, scale), obs=x)

    return model


def normal(x: Any, mean: Any, scale: float) -> Any:
    """A normal log density, up to a constant."""
    return -(((x - mean) / scale) ** 2) / 2


def posterior_means(relaxed: bool = True) -> tuple[np.ndarray, float]:
    """The means of z and b in the relaxed model given X, on a grid of log ratios and logits.

    For the discrete model, which NUTS must not sample, enumeration gives them.
    """
    if not relaxed:
        p = np.exp(LOGITS + normal(X, CENTRES, NOISE))
        q = np.exp(np.array([0.0, LOGIT]) + normal(X, np.arange(2), NOISE))
        return p / p.sum(), float(q[1] / q.sum())
    u = np.linspace(-40, 40, 801)
    log_x = np.stack([*np.meshgrid(u, u), np.zeros((801, 801))], -1)
    log_x -= logsumexp(log_x, -1, keepdims=True)
    x = np.exp(log_x)
    # The paper's density times the volume element, in logs, so that powers of x don't overflow.
    scores = LOGITS - T * log_x
    log_p = (scores - logsumexp(scores, -1, keepdims=True)).sum(-1)
    log_p += normal(X, x @ CENTRES, NOISE)
    p = np.exp(log_p - log_p.max())
    w = expit(u)
    inside = (w > 0) & (w < 1)
    gates = np.zeros_like(u)
    v = w[inside]
    gates[inside] = binary_concrete_density(np.array(LOGIT), np.array(T), v) * v * (1 - v)
    gates = gates * np.exp(normal(X, w, NOISE))
    return (p[..., None] * x).sum((0, 1)) / p.sum(), float((gates * w).sum() / gates.sum())


def test_the_grid() -> None:
    """The grid's density of log ratios is the paper's density on the simplex times the volume."""
    x = np.array([0.2, 0.3, 0.5])
    scores = LOGITS - T * np.log(x)
    log_p = (scores - logsumexp(scores)).sum() + np.log(2 * T**2)
    np.testing.assert_allclose(np.exp(log_p), concrete_density(LOGITS, np.array(T), x) * x.prod())


def nuts(backend: Backend, program: Any, seed: int, **options: Any) -> dict[str, np.ndarray]:
    """The values of latent and deterministic sites from a short chain of NUTS."""
    infer = backend.infer
    if isinstance(backend, Torch):
        backend.ppl.set_rng_seed(seed)
        kernel = infer.NUTS(program, **options)
        mcmc = infer.MCMC(kernel, num_samples=30, warmup_steps=30, disable_progbar=True)
        mcmc.run()
        samples = mcmc.get_samples()
        found = {**samples, **infer.Predictive(program, samples)()}
    else:
        import jax

        kernel = infer.NUTS(program, **options)
        mcmc = infer.MCMC(kernel, num_warmup=30, num_samples=30, progress_bar=False)

        def run(key: Any) -> Any:
            mcmc.run(key)
            return mcmc.get_samples()

        found = jax.jit(run)(jax.random.key(seed))
    return {name: backend.numpy(value) for name, value in found.items()}


def test_nuts(backend: Backend, seed: int) -> None:
    """Posterior means by NUTS equal quadrature; z is sampled in log space, b as its noise.

    The 64 rows are independent copies, so their means give the standard error. The bound is 5
    standard errors, a false alarm in 2e5; the discrete model's means are farther away.
    """
    program = backend.names.relax(mixture(backend, np.full(ROWS, X), NOISE), T)
    config = {"b_relaxed": backend.names.GumbelSoftmaxReparam()}
    program = backend.handlers.reparam(program, config=config)
    found = nuts(backend, program, seed)
    z, b = posterior_means()
    corner, one = posterior_means(relaxed=False)
    rows = np.concatenate([found["z"].mean(0), found["b"].mean(0)[:, None]], -1)
    error = rows.std(0, ddof=1) / np.sqrt(ROWS)
    assert error.max() < 0.04
    assert (np.abs(rows.mean(0) - [*z, b]) < 5 * error).all()
    assert (np.abs(rows.mean(0) - [*corner, one]) > 5 * error).any()


def fitted(backend: Backend, program: Any, guide: Any, steps: int, **options: Any) -> list[float]:
    """The losses of a fit by SVI."""
    infer = backend.infer
    svi = options.pop("svi", infer.SVI)(
        program, guide, backend.language.adam(0.1), infer.Trace_ELBO(), **options
    )
    if isinstance(backend, Torch):
        return [svi.step() for _ in range(steps)]
    import jax

    # Compile init as a whole instead of each of its operations.
    run = jax.jit(lambda key: svi.run(key, steps, progress_bar=False)[::2])
    guide.fitted, losses = run(jax.random.key(0))
    return losses.tolist()


def predicted(backend: Backend, program: Any, guide: Any, n: int) -> dict[str, np.ndarray]:
    """Draws by Predictive with a fitted guide."""
    infer = backend.infer
    if isinstance(backend, Torch):
        found = infer.Predictive(program, guide=guide, num_samples=n)()
    else:
        import jax

        predict = infer.Predictive(program, guide=guide, params=guide.fitted, num_samples=n)
        found = jax.jit(predict)(jax.random.key(1))
    return {name: backend.numpy(value) for name, value in found.items()}


def test_initial_values(backend: Backend) -> None:
    """Initial strategies start a guide inside the relaxed supports, and given values are used."""
    autoguide = backend.autoguide
    starts = importlib.import_module(
        "pyro.infer.autoguide" if isinstance(backend, Torch) else "numpyro.infer"
    )
    program = backend.names.relax(mixture(backend, CLEAR[:1], NOISE), T)
    y = np.log([[0.2, 0.3, 0.5]])
    given = {"z_relaxed": backend.array(y), "b_relaxed": backend.array([0.7])}
    for name, strategy in {
        "AutoMultivariateNormal": starts.init_to_median,
        "AutoDelta": starts.init_to_value(values=given),
    }.items():
        if isinstance(backend, Torch):
            backend.ppl.clear_param_store()
        guide = getattr(autoguide, name)(program, init_loc_fn=strategy)
        if isinstance(backend, Torch):
            guide()
            start = guide.median()
        else:
            infer = importlib.import_module("numpyro.infer")
            svi = infer.SVI(program, guide, backend.language.adam(0.1), infer.Trace_ELBO())
            import jax

            init = jax.jit(lambda key, svi=svi: svi.get_params(svi.init(key)))
            start = guide.median(init(jax.random.key(0)))
        found = {name: backend.numpy(value) for name, value in start.items()}
        np.testing.assert_allclose(logsumexp(found["z_relaxed"], -1), 0, atol=1e-12)
        assert np.isfinite(found["b_relaxed"]).all()
    np.testing.assert_allclose(found["z_relaxed"], y)
    np.testing.assert_allclose(found["b_relaxed"], [0.7])


def test_annealing(backend: Backend) -> None:
    """AnnealedSVI with AutoNormal and a temperature argument finds the discrete posterior.

    The data lie on centres, at noise 0.1, so that the enumerated posterior is a corner to 1e-5.
    """
    autoguide = backend.autoguide
    model = mixture(backend, CLEAR, 0.1)
    temperatures: list[Any] = []

    def relaxed(temperature: Any = 1.0) -> Any:
        temperatures.append(temperature)
        return backend.names.relax(model, temperature)()

    schedule = linear(1.0, 0.1, 150)
    if isinstance(backend, Torch):
        backend.ppl.set_rng_seed(0)
    guide = autoguide.AutoNormal(relaxed)
    options = {"svi": backend.names.AnnealedSVI, "temperature": schedule}
    losses = fitted(backend, relaxed, guide, 200, **options)
    assert np.isfinite(losses).all()
    joint = LOGITS + normal(CLEAR[:, None], CENTRES, 0.1)
    z = np.exp(joint - logsumexp(joint, -1, keepdims=True))
    assert (z.max(-1) > 1 - 1e-5).all()
    found = predicted(backend, backend.names.relax(model, 0.1, hard=True), guide, 20)
    assert set(np.unique(found["z"])) == set(np.unique(found["b"])) == {0.0, 1.0}
    np.testing.assert_allclose(found["z"].mean(0), z, atol=0.1)
    b = expit(LOGIT + normal(CLEAR, 1, 0.1) - normal(CLEAR, 0, 0.1))
    np.testing.assert_allclose(found["b"].mean(0), b, atol=0.1)
    if isinstance(backend, Torch):
        assert min(temperatures) == pytest.approx(0.1)
    else:
        assert len(temperatures) < 10  # traced, not run at each of 200 steps


def test_compiled(backend: Backend, seed: int) -> None:
    """A relaxed model works in a jitted density, or in Pyro in a JitTrace_ELBO."""
    model = mixture(backend, CLEAR, NOISE)
    if isinstance(backend, Torch):
        import warnings

        from pyro.infer import JitTrace_ELBO, Trace_ELBO
        from pyro.infer.autoguide import AutoDelta

        program = backend.names.relax(model, T)
        guide = AutoDelta(program)
        expected = Trace_ELBO().loss(program, guide)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's tracer is deprecated
            elbo = JitTrace_ELBO(ignore_jit_warnings=True)
            losses = [float(elbo.loss(program, guide)) for _ in range(2)]
        np.testing.assert_allclose(losses, [expected] * 2)
        return
    import jax
    from numpyro.infer.util import log_density

    rng = np.random.default_rng(seed)
    y = np.log(rng.dirichlet(np.ones(3), 4))
    given = {"z_relaxed": backend.array(y), "b_relaxed": backend.array(np.zeros(4))}

    def density(t: Any) -> Any:
        return log_density(backend.names.relax(model, t), (), {}, given)[0]

    np.testing.assert_allclose(jax.jit(density)(T), density(T), rtol=1e-12)
