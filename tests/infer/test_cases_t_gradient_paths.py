"""Models through which no gradient reaches a discrete site, and pairs of a mass and a density."""

import functools
import importlib
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from harness import Backend
from relaxed_dists.schedules import constant

X, MEANS = np.array([-2.0, 0.1, 1.9, 0.4]), np.array([-2.0, 0.0, 2.0])
STUCK = "got the site 'z', on whose value other densities depend"
INDEXED = r"indexes by floating numbers, as the values of .* are; expected it to multiply"


def _whole(pp: Backend, z: Any) -> Any:
    return z.int() if pp.framework == "pyro" else z.astype("int32")


# How a model uses a one-hot value, and the error that this raises.
USES: dict[str, tuple[Callable[[Backend, Any, Any], Any], str]] = {
    "product": (lambda pp, z, m: z @ m, ""),
    "entries": (lambda pp, z, m: z[..., 0] * m[0] + z[..., 2] * m[2], ""),
    "argmax": (lambda pp, z, m: m[z.argmax(-1)], STUCK),
    "comparison": (lambda pp, z, m: pp.xp.where(z[..., 0] == 1, m[0], m[2]), STUCK),
    "greater": (lambda pp, z, m: pp.xp.where(z[..., 0] > 0.5, m[0], m[2]), STUCK),
    "whole numbers": (lambda pp, z, m: 0.0 + _whole(pp, z) @ pp.array([-2, 0, 2], "int32"), STUCK),
    "rounding": (lambda pp, z, m: z.round() @ m, STUCK),
    "index": (lambda pp, z, m: m[z], INDEXED),
    "nothing": (lambda pp, z, m: 0.0 * m[0] + pp.array(np.zeros(4)), ""),
    "both": (lambda pp, z, m: z @ m + m[z.argmax(-1)], ""),  # biased, but not detectable
}


def _model(pp: Backend, use: Callable[..., Any]) -> None:
    with pp.ppl.plate("d", 4):
        z = pp.ppl.sample("z", pp.names.OneHotCategorical(probs=pp.array(np.ones(3))))
        loc = use(pp, z, pp.array(MEANS))
        pp.ppl.sample("x", pp.dist.Normal(loc, 0.5), obs=pp.array(X))


def _guide(pp: Backend, temperature: Any) -> None:
    logits = pp.ppl.param("logits", pp.array(np.zeros((4, 3))))
    with pp.ppl.plate("d", 4):
        estimator = pp.names.GumbelSoftmax(temperature)
        pp.ppl.sample("z", pp.names.OneHotCategorical(logits=logits, estimator=estimator))


def _first_step(pp: Backend, model: Any, guide: Any, loss: Any = None, seed: int = 0) -> Any:
    """A step in Pyro, the initial state in NumPyro."""
    if pp.framework == "pyro":
        import pyro

        pyro.set_rng_seed(seed)
        loss = loss or pyro.infer.TraceMeanField_ELBO()
        adam = pyro.optim.Adam({"lr": 0.05})
        return pp.names.AnnealedSVI(model, guide, adam, loss, constant(0.5)).step()
    import jax
    import numpyro

    loss = loss or numpyro.infer.TraceMeanField_ELBO()
    svi = pp.names.AnnealedSVI(model, guide, numpyro.optim.Adam(0.05), loss, constant(0.5))
    return svi.init(jax.random.key(seed))


def _expected(use: str, framework: str) -> Any:
    """A context for the error, a warning (rounding in torch has zero gradients) or nothing."""
    text = USES[use][1]
    if not text:
        return warnings.catch_warnings()
    if use == "rounding" and framework == "pyro":
        return pytest.warns(UserWarning, match=text)
    return pytest.raises(ValueError, match=text)


@pytest.mark.parametrize("use", USES)
def test_t2_the_first_step_sees_a_site_that_no_gradient_reaches(backend: Backend, use: str) -> None:
    """The first step raises the error with a manual and with an automatic guide."""
    pp = backend
    model = functools.partial(_model, pp, USES[use][0])
    guides: list[Any] = [lambda temperature: _guide(pp, temperature)]
    if use in ("product", "argmax", "index"):
        guides.append(pp.names.AutoRelaxed(model))
    for guide in guides:
        with _expected(use, pp.framework):
            _first_step(pp, model, guide)


@pytest.mark.parametrize("use", USES)
def test_t2_so_does_relax(backend: Backend, use: str, seed: int) -> None:
    """relax checks at the first call with data, by SVI with an autoguide or by NUTS."""
    pp = backend
    model = pp.names.relax(functools.partial(_model, pp, USES[use][0]), 0.5)
    if pp.framework == "pyro":
        import pyro
        from pyro.infer.autoguide import AutoNormal

        adam, loss = pyro.optim.Adam({"lr": 0.05}), pyro.infer.Trace_ELBO()
        with _expected(use, "pyro"):
            pyro.infer.SVI(model, AutoNormal(model), adam, loss).step()
        return
    import jax
    import numpyro

    with _expected(use, "numpyro"):
        if use == "comparison":
            kernel = numpyro.infer.NUTS(model)
            mcmc = numpyro.infer.MCMC(kernel, num_warmup=1, num_samples=1, progress_bar=False)
            mcmc.run(jax.random.key(seed))
        numpyro.infer.util.log_density(numpyro.handlers.seed(model, seed), (), {}, {})


def _masked(pp: Backend, z: Any, m: Any) -> Any:
    """Use the argmax only in a masked density."""
    handlers = pp.handlers
    with handlers.mask(mask=pp.array(np.zeros(4), "bool")):
        pp.ppl.sample("y", pp.dist.Normal(m[z.argmax(-1)], 0.5), obs=pp.array(X))
    return pp.array(np.zeros(4))


def _deterministic(pp: Backend, z: Any, m: Any) -> Any:
    """Use the argmax only in a deterministic site."""
    pp.ppl.deterministic("k", z.argmax(-1))
    return z @ m


def _computed(pp: Backend, z: Any, m: Any) -> Any:
    """Use the argmax in a deterministic site on which a density depends."""
    return m[pp.ppl.deterministic("k", z.argmax(-1))]


def _two(pp: Backend, z: Any, m: Any) -> Any:
    """Add another site, which is used smoothly."""
    distribution = pp.names.OneHotCategorical(probs=pp.array(np.ones(3)))
    w = pp.ppl.sample("w", distribution)
    return w @ m + m[z.argmax(-1)]


def _later(pp: Backend, z: Any, m: Any) -> Any:
    """Use the value only in the prior of another site."""
    rows = pp.array(np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8]]))
    w = pp.ppl.sample("w", pp.names.OneHotCategorical(probs=rows[z.argmax(-1)]))
    return w @ m


@pytest.mark.parametrize(
    ("use", "text"),
    [(_masked, ""), (_deterministic, ""), (_computed, STUCK), (_two, STUCK), (_later, STUCK)],
)
def test_t2_what_is_used_where(backend: Backend, use: Any, text: str) -> None:
    """Only an unmasked density that depends on the value raises the error, which names the site."""
    pp = backend
    model = functools.partial(_model, pp, use)
    caught: Any = pytest.raises(ValueError, match=text) if text else warnings.catch_warnings()
    with caught:
        _first_step(pp, model, pp.names.AutoRelaxed(model))


@pytest.mark.parametrize("wrong", ["moves nothing", "believes all"])
def test_t2_a_wrong_check_fails(
    backend: Backend, wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tests fail for a check that tries no other values, or finds a change in all."""
    paths: Any = importlib.import_module(f"relaxed_dists_{backend.framework}.infer.paths")
    if wrong == "moves nothing":
        monkeypatch.setattr(paths, "moved", lambda *args: iter(()))
        with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
            test_t2_the_first_step_sees_a_site_that_no_gradient_reaches(backend, "argmax")
        return
    if backend.framework == "pyro":
        monkeypatch.setattr(paths, "_matters", lambda *args: True)
    else:
        monkeypatch.setattr(paths, "same", lambda *args: False)
    with pytest.raises(ValueError, match=STUCK):
        test_t2_what_is_used_where(backend, _masked, "")


def _own_loss(framework: str) -> Any:
    """A user's loss, which the library knows nothing about."""
    infer = importlib.import_module(f"{framework}.infer")
    inner: Any = infer.Trace_ELBO()
    if framework == "pyro":
        return lambda *args, **kwargs: inner.differentiable_loss(*args, **kwargs)

    class Own(infer.elbo.ELBO):  # type: ignore[misc, name-defined]
        def loss(self, *args: Any, **kwargs: Any) -> Any:
            return inner.loss(*args, **kwargs)

    return Own()


def test_t2_losses_and_guides_that_need_no_derivative(backend: Backend) -> None:
    """Leave-one-out, a user's loss and a guide without an estimator raise nothing; REBAR raises."""
    pp = backend
    model = functools.partial(_model, pp, USES["argmax"][0])
    for loss in (pp.names.LeaveOneOut_ELBO(2), _own_loss(pp.framework)):
        _first_step(pp, model, pp.names.AutoRelaxed(model), loss)

    def plain(temperature: Any) -> None:
        with pp.ppl.plate("d", 4):
            pp.ppl.sample("z", pp.names.OneHotCategorical(logits=pp.array(np.zeros((4, 3)))))

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "SVI with .* does not support the discrete")
        infer = importlib.import_module(f"{pp.framework}.infer")
        _first_step(pp, model, plain, infer.Trace_ELBO())
    if pp.framework == "pyro":
        with pytest.raises(ValueError, match="REBAR_ELBO got the site 'z', on whose value no"):
            _first_step(pp, model, pp.names.AutoRelaxed(model), pp.names.REBAR_ELBO())


def test_t2_a_guide_that_is_not_trained(backend: Backend) -> None:
    """Values need a derivative only if a parameter of the guide is trained."""
    pp = backend

    def model() -> None:
        scale = pp.ppl.param("scale", pp.array(np.ones(())))
        _model(pp, lambda pp, z, m: scale * m[z.argmax(-1)])

    def guide(temperature: Any, add: bool) -> None:
        fixed = pp.array(np.zeros((4, 3)))
        logits = fixed if not add else fixed + pp.ppl.param("add", fixed)
        with pp.ppl.plate("d", 4):
            estimator = pp.names.GumbelSoftmax(temperature)
            pp.ppl.sample("z", pp.names.OneHotCategorical(logits=logits, estimator=estimator))

    def both() -> None:
        pp.ppl.sample("w", pp.names.Bernoulli(probs=pp.array(0.5)))
        model()

    def second(temperature: Any) -> None:
        estimator = pp.names.GumbelSoftmax(temperature)
        pp.ppl.sample("w", pp.names.Bernoulli(probs=pp.array(0.4), estimator=estimator))
        guide(temperature, True)

    infer = importlib.import_module(f"{pp.framework}.infer")
    _first_step(pp, model, lambda temperature: guide(temperature, False), infer.Trace_ELBO())
    with pytest.raises(ValueError, match=STUCK):
        _first_step(pp, both, second, infer.Trace_ELBO())


@pytest.mark.share("backend")
@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("relaxed", [False, True])
def test_t2_every_kind_of_site(backend: Backend, binary: bool, relaxed: bool) -> None:
    """The check works for relaxed and estimated sites, in an event and in a subsampled plate.

    A share of the cases runs each value of the two parameters in each framework.
    """
    pp = backend
    name = "Bernoulli" if binary else "OneHotCategorical"
    shape: Any = (2, 2) if binary else (2, 3)

    def distribution(temperature: Any, guide: bool) -> Any:
        logits = pp.array(np.full(shape, 0.2))
        if guide:
            logits = pp.ppl.param("logits", logits)
        if relaxed:
            cls = getattr(pp.names, f"Relaxed{name}")
            found = cls(temperature, logits=logits)
        else:
            estimator = pp.names.ReinMax() if guide else None
            found = getattr(pp.names, name)(logits=logits, estimator=estimator)
        return found.to_event(len(found.batch_shape))

    def model(temperature: Any, step: bool) -> None:
        z = pp.ppl.sample("z", distribution(temperature, False))
        if step:
            z = pp.xp.where(z > 0.5, pp.array(1.0), pp.array(0.0))
        with pp.ppl.plate("d", 4, subsample_size=2):
            pp.ppl.sample("x", pp.dist.Normal(z.sum() - z[0, 0], 0.5), obs=pp.array(X[:2]))

    def guide(temperature: Any) -> None:
        pp.ppl.sample("z", distribution(temperature, True))

    elbo = importlib.import_module(f"{pp.framework}.infer").Trace_ELBO
    for step in (False, True) if pp.framework == "pyro" else (True,):
        run = functools.partial(model, step=step)
        caught: Any = pytest.raises(ValueError, match=STUCK)
        with caught if step else warnings.catch_warnings():
            _first_step(pp, run, guide, elbo(num_particles=2))


@pytest.mark.parametrize("backend", ["pyro"], indirect=True)
def test_t2_the_check_changes_nothing(backend: Backend, seed: int) -> None:
    """In Pyro the check keeps random numbers, buffers, the parameters and their order.

    The results equal those of Pyro's own SVI, which has no check, bit for bit.
    """
    import pyro
    import torch

    pp = backend

    def run(cls: Any) -> tuple[Any, ...]:
        pyro.clear_param_store()
        pyro.set_rng_seed(seed)
        net = torch.nn.Sequential(torch.nn.BatchNorm1d(1), torch.nn.Linear(1, 3)).double()

        def guide() -> None:
            pyro.module("net", net)
            with pp.ppl.plate("d", 4, subsample_size=3) as rows:
                logits = net(pp.array(X)[rows][:, None])
                estimator = pp.names.GumbelSoftmax(0.5)
                pp.ppl.sample("z", pp.names.OneHotCategorical(logits=logits, estimator=estimator))

        def model() -> None:
            means = pyro.param("means", lambda: torch.randn(3).double())
            with pp.ppl.plate("d", 4, subsample_size=3) as rows:
                z = pp.ppl.sample("z", pp.names.OneHotCategorical(probs=pp.array(np.ones(3))))
                pp.ppl.sample("x", pp.dist.Normal(z @ means, 0.5), obs=pp.array(X)[rows])

        svi = cls(model, guide, pyro.optim.Adam({"lr": 0.05}), pyro.infer.Trace_ELBO())
        losses = [svi.step() for _ in range(3)]
        params = {k: v.tolist() for k, v in pyro.get_param_store().items()}
        return losses, list(params), params, [x.tolist() for x in net.buffers()], torch.rand(1)

    assert run(pp.names.AnnealedSVI) == run(pyro.infer.SVI)


@pytest.mark.parametrize("backend", ["pyro"], indirect=True)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*might cause the trace to:Warning")  # TracerWarning, of torch
def test_t2_compiled_enumerated_and_evaluated_first(backend: Backend) -> None:
    """In Pyro the check works in a compiled ELBO, with an enumerated site, and in evaluate_loss."""
    import pyro
    from pyro.infer import JitTrace_ELBO, TraceEnum_ELBO, config_enumerate

    pp = backend

    def model(use: Any) -> None:
        with pp.ppl.plate("d", 4):
            z = pp.ppl.sample("z", pp.names.OneHotCategorical(probs=pp.array(np.ones(3))))
            how: Any = {"infer": {"enumerate": "parallel"}}
            b = pyro.sample("b", pyro.distributions.Bernoulli(pp.array(0.5)), **how)
            loc = use(pp, z, pp.array(MEANS)) + b
            pp.ppl.sample("x", pp.dist.Normal(loc, 0.5), obs=pp.array(X))

    def guide(temperature: Any) -> None:
        _guide(pp, temperature)

    def compiled(use: Any) -> None:
        _model(pp, use)

    for use in ("product", "argmax"):
        pairs = [
            (compiled, JitTrace_ELBO()),
            (config_enumerate(model), TraceEnum_ELBO(max_plate_nesting=1)),
        ]
        for program, loss in pairs:
            run = functools.partial(program, USES[use][0])
            with _expected(use, "pyro"):
                _first_step(pp, run, guide, loss)
    run = functools.partial(compiled, USES["argmax"][0])
    loss, adam = pyro.infer.Trace_ELBO(), pyro.optim.Adam({"lr": 0.05})
    svi = pp.names.AnnealedSVI(run, guide, adam, loss, constant(0.5))
    assert np.isfinite(svi.evaluate_loss())
    with pytest.raises(ValueError, match=STUCK):
        svi.step()


@pytest.mark.parametrize("backend", ["numpyro"], indirect=True)
def test_t2_under_jit(backend: Backend, seed: int) -> None:
    """In NumPyro, with traced data, the check only warns, since tracers have no numbers."""
    import jax
    import numpyro

    pp = backend

    for use in ("nothing", "argmax"):

        def model(x: Any, use: str = use) -> None:
            with pp.ppl.plate("d", 4):
                z = pp.ppl.sample("z", pp.names.OneHotCategorical(probs=pp.array(np.ones(3))))
                pp.ppl.sample("x", pp.dist.Normal(USES[use][0](pp, z, pp.array(MEANS)), 0.5), obs=x)

        loss = numpyro.infer.TraceMeanField_ELBO()
        guide = pp.names.AutoRelaxed(model, pp.names.ReinMax())
        svi = pp.names.AnnealedSVI(model, guide, numpyro.optim.Adam(0.05), loss)
        warned: Any = pytest.warns(UserWarning, match=STUCK)
        with warned if use == "argmax" else warnings.catch_warnings():
            jax.eval_shape(jax.jit(svi.init), jax.random.key(seed), pp.array(X))


# Tests of a discrete prior with a relaxed guide, under the framework's own SVI.

SORTS = ["OneHotCategorical", "Bernoulli"]


def _pair(pp: Backend, name: str, guide: str, wrap: str = "") -> tuple[Any, Any]:
    """A discrete prior and a relaxed guide of a site: in a plate, masked or as an event."""
    shape = (4, 3) if name == "OneHotCategorical" else (4,)
    cls, relaxed = getattr(pp.names, name), getattr(pp.names, guide)
    mask = pp.array(np.array([True, True, False, True]), "bool")
    handlers = pp.handlers

    def site(distribution: Any) -> Any:
        if wrap == "event":
            return pp.ppl.sample("z", distribution.to_event(1))
        with pp.ppl.plate("d", 4), handlers.mask(mask=mask if wrap == "mask" else 0 * mask == 0):
            return pp.ppl.sample("z", distribution)

    def model() -> None:
        z = site(cls(logits=pp.array(np.zeros(shape))))
        with pp.ppl.plate("e", 4, dim=-1):
            pp.ppl.sample("x", pp.dist.Normal(z[..., 0] + z.sum(), 0.5), obs=pp.array(X))

    def guided() -> None:
        logits = pp.ppl.param("logits", pp.array(np.zeros(shape)))
        site(relaxed(0.5, logits=logits, validate_args=False))

    return model, guided


def _svi(pp: Backend, model: Any, guide: Any, elbo: str = "Trace_ELBO", **how: Any) -> Any:
    """A step of the framework's own SVI, compiled in NumPyro."""
    infer = importlib.import_module(f"{pp.framework}.infer")
    loss = getattr(infer, elbo)(**how)
    if pp.framework == "pyro":
        import pyro

        pyro.clear_param_store()
        return infer.SVI(model, guide, pyro.optim.Adam({"lr": 0.05}), loss).step()
    import jax
    import numpyro

    svi = infer.SVI(model, guide, numpyro.optim.Adam(0.05), loss)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return jax.jit(svi.update)(svi.init(jax.random.key(0)))


@pytest.mark.share("backend", "name")
@pytest.mark.parametrize("wrap", ["", "mask", "event"])
@pytest.mark.parametrize("suffix", ["", "StraightThrough"])
@pytest.mark.parametrize("name", SORTS)
def test_t3_the_frameworks_svi(backend: Backend, name: str, suffix: str, wrap: str) -> None:
    """An ELBO with the mass of a relaxed value raises an error with AnnealedSVI's text.

    A share of the cases runs each suffix and each wrapper for each distribution and framework.
    """
    pp, relaxed = backend, f"Relaxed{name}{suffix}"
    text = f"'z', which the model draws from {name} and the guide from {relaxed}; expected two rel"
    model, guide = _pair(pp, name, relaxed, wrap)
    for how in ({}, {"num_particles": 2, "vectorize_particles": True}):
        if not how or not wrap:
            with pytest.raises(ValueError, match=f"(?s)The ELBO got the site {text}.*allow_mixed="):
                _svi(pp, model, guide, **how)
    with pytest.raises(ValueError, match=f"(?s)The ELBO got the site {text}"):
        _svi(pp, model, guide, "TraceGraph_ELBO")


@pytest.mark.parametrize("name", SORTS)
def test_t3_soft_values_under_trace_graph(backend: Backend, name: str) -> None:
    """TraceGraph_ELBO's loss is Trace_ELBO's, though Pyro wraps the model's discrete values."""
    pp = backend
    model, _ = _pair(pp, name, f"Relaxed{name}")
    shape = (4, 3) if name == "OneHotCategorical" else (4,)

    def guide() -> None:
        soft = pp.names.GumbelSoftmax(0.5, hard=False)
        with pp.ppl.plate("d", 4):
            logits = pp.array(np.zeros(shape))
            pp.ppl.sample("z", getattr(pp.names, name)(logits=logits, estimator=soft))

    losses = []
    for elbo in ("Trace_ELBO", "TraceGraph_ELBO"):
        loss = getattr(importlib.import_module(f"{pp.framework}.infer"), elbo)()
        if pp.framework == "pyro":
            import pyro

            pyro.set_rng_seed(0)
            losses.append(loss.loss(model, guide))
        else:
            import jax

            losses.append(float(loss.loss(jax.random.key(0), {}, model, guide)))
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


@pytest.mark.parametrize("name", SORTS)
def test_t3_what_is_no_such_pair(backend: Backend, name: str) -> None:
    """A mass by hand, allow_mixed, discretize and an estimator raise no error.

    A relaxed value that another site observes raises no error.
    """
    pp, relaxed = backend, f"Relaxed{name}StraightThrough"
    model, guide = _pair(pp, name, relaxed)
    shape = (4, 3) if name == "OneHotCategorical" else (4,)
    prior = getattr(pp.names, relaxed)(0.5, logits=pp.array(np.zeros(shape)))
    z = backend.draw(prior, 0)
    plain = getattr(pp.names, name)(logits=pp.array(np.zeros(shape)))
    mass = backend.numpy(prior.discrete.log_prob(z))
    np.testing.assert_allclose(mass, backend.numpy(plain.log_prob(z)))

    def by_hand() -> None:
        with pp.ppl.plate("d", 4):
            z = pp.ppl.sample("z", prior)
            pp.ppl.factor("mass", prior.discrete.log_prob(z) + plain.log_prob(z))
            pp.ppl.sample("seen", plain, obs=z)

    _svi(pp, by_hand, guide)
    _svi(pp, model, pp.names.discretize(guide))
    if pp.framework == "pyro":
        import pyro

        pyro.clear_param_store()
        pp.names.evidence_bounds(model, guide, num_samples=4, progress_bar=False)
        adam, loss = pyro.optim.Adam({"lr": 0.05}), pyro.infer.Trace_ELBO()
        how: Any = {"allow_mixed": ["z"]}
        for _ in range(2):
            pp.names.AnnealedSVI(model, guide, adam, loss, **how).step()
        return
    import jax
    import numpyro

    adam, loss = numpyro.optim.Adam(0.05), numpyro.infer.Trace_ELBO()
    svi = pp.names.AnnealedSVI(model, guide, adam, loss, allow_mixed=["z"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        svi.run(jax.random.key(0), 2, progress_bar=False)
