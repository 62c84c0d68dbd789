"""The frameworks' tools work on our distributions as on their own, or raise our error."""

import os
import subprocess
import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import funsored
from cases import DISCRETE, RELAXED
from harness import BACKENDS, SUPPORT, Backend
from machinery import NAMES, arguments, event_dim, made, numbers, with_logits
from relaxed_dists._distributions import machinery

FEW = [name for name in NAMES if " " not in name or name.endswith(" GumbelSoftmax")]


# 1. Tests of enumeration, in Pyro.


@pytest.fixture
def pyro() -> Any:
    """The module pyro, with pyro.infer imported."""
    pytest.importorskip("pyro")
    import pyro
    import pyro.infer

    return pyro


def enumerated_models(one_hot: Any, bernoulli: Any) -> dict[str, Any]:
    """Models with discrete sites: a single plate, nested plates and dependent sites, a chain."""
    import pyro
    import torch
    from pyro import distributions as dist

    x = torch.tensor([-2.0, 0.1, 1.9, 0.4])
    means = torch.tensor([-2.0, 0.0, 2.0])
    steps = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4]])

    def coins() -> None:
        with pyro.plate("n", 4):
            z = pyro.sample("z", bernoulli(probs=torch.tensor([0.3, 0.3, 0.5, 0.9])))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def nested() -> None:
        a = pyro.sample("a", bernoulli(logits=torch.tensor(0.3)))
        b = pyro.sample("b", bernoulli(logits=2 * a - 1))
        with pyro.plate("n", 4, dim=-1):
            c = pyro.sample("c", bernoulli(logits=a + b - 1.0))
            with pyro.plate("m", 2, dim=-2):
                d = pyro.sample("d", bernoulli(logits=c - b))
                pyro.sample("x", dist.Normal(d, 1.0), obs=x.expand(2, 4))

    def mixture() -> None:
        with pyro.plate("n", 4):
            z = pyro.sample("z", one_hot(probs=torch.tensor([0.2, 0.3, 0.5])))
            pyro.sample("x", dist.Normal((z * means).sum(-1), 1.0), obs=x)

    def chain() -> None:
        z = torch.tensor([1.0, 0.0, 0.0])
        for t in pyro.markov(range(4)):
            z = pyro.sample(f"z{t}", one_hot(probs=(z[..., None] * steps).sum(-2)))
            pyro.sample(f"x{t}", dist.Normal((z * means).sum(-1), 1.0), obs=x[t])

    return {"coins": coins, "nested": nested, "mixture": mixture, "chain": chain}


def nothing() -> None:
    """The guide of a model that is enumerated."""


def values(trace: Any) -> dict[str, Any]:
    """The latent values of a trace."""
    from pyro.poutine.util import prune_subsample_sites

    nodes = prune_subsample_sites(trace).nodes
    return {
        name: site["value"]
        for name, site in nodes.items()
        if site["type"] == "sample" and not site["is_observed"]
    }


def enumerations(pyro: Any, model: Any) -> dict[str, Any]:
    """The results of Pyro's enumeration of a model: losses, marginals, modes and draws."""
    from pyro import poutine
    from pyro.infer import TraceEnum_ELBO, config_enumerate, infer_discrete

    elbo, parallel = TraceEnum_ELBO(max_plate_nesting=2), config_enumerate(model)
    marginals = elbo.compute_marginals(parallel, nothing)
    found = {
        "loss": elbo.loss(parallel, nothing),
        "expanded": elbo.loss(config_enumerate(model, expand=True), nothing),
        "shapes": {name: d.batch_shape + d.event_shape for name, d in marginals.items()},
        "probs": {name: d.probs for name, d in marginals.items()},
    }
    if not any(d.event_shape for d in marginals.values()):  # else Pyro's infer_discrete fails
        mode = infer_discrete(parallel, first_available_dim=-3, temperature=0)
        found["mode"] = values(poutine.trace(mode).get_trace())
        drawn = poutine.trace(elbo.sample_posterior).get_trace(parallel, nothing)
        found["drawn"] = {name: x.shape for name, x in values(drawn).items()}
    return found


@pytest.mark.parametrize("name", ["coins", "nested", "mixture", "chain"])
def test_f1_enumeration_gives_the_numbers_of_pyros_own(pyro: Any, name: str) -> None:
    """Losses, marginals, modes and the shapes of draws equal those with Pyro's distributions."""
    from pyro import distributions as dist

    from relaxed_dists import pyro as ours

    mine, theirs = (
        enumerations(pyro, enumerated_models(of.OneHotCategorical, of.Bernoulli)[name])
        for of in (ours, dist)
    )
    assert mine.keys() == theirs.keys()
    for key, value in theirs.items():
        if not isinstance(value, dict):
            assert mine[key] == pytest.approx(value, rel=1e-5)
            continue
        assert value
        assert mine[key].keys() == value.keys()
        for site, x in value.items():
            np.testing.assert_allclose(np.asarray(mine[key][site]), np.asarray(x), rtol=1e-4)


def test_f1_enumerated_guides_give_the_gradients_of_pyros_own(pyro: Any) -> None:
    """A guide enumerated in parallel or sequentially has the gradients of Pyro's distributions."""
    import torch
    from pyro import distributions as dist
    from pyro.infer import TraceEnum_ELBO, config_enumerate

    from relaxed_dists import pyro as ours

    means = torch.tensor([-2.0, 0.0, 2.0])

    def gradient(one_hot: Any, how: str) -> tuple[float, np.ndarray]:
        pyro.clear_param_store()
        size = 4 if how == "parallel" else 1

        def model() -> None:
            with pyro.plate("n", size) if size > 1 else pyro.poutine.scale(scale=1.0):
                z = pyro.sample("z", one_hot(probs=torch.tensor([0.2, 0.3, 0.5])))
                pyro.sample("x", dist.Normal((z * means).sum(-1), 1.0), obs=torch.tensor(0.7))

        def guide() -> None:
            logits = pyro.param("logits", torch.tensor([[0.1, 0.2, -0.3]]).repeat(size, 1))
            with pyro.plate("n", size) if size > 1 else pyro.poutine.scale(scale=1.0):
                pyro.sample("z", one_hot(logits=logits if size > 1 else logits[0]))

        elbo = TraceEnum_ELBO(max_plate_nesting=1)
        loss = elbo.differentiable_loss(model, config_enumerate(guide, how))
        loss.backward()
        return loss.item(), pyro.param("logits").grad.numpy()

    for how in ("parallel", "sequential"):
        mine, theirs = (gradient(of.OneHotCategorical, how) for of in (ours, dist))
        assert mine[0] == pytest.approx(theirs[0], rel=1e-6)
        np.testing.assert_allclose(mine[1], theirs[1], atol=1e-6)


def test_f1_nuts_over_an_enumerated_model_draws_what_it_draws_with_pyros_own(pyro: Any) -> None:
    """The potential energy is equal, so chains of the same seed are equal."""
    import torch
    from pyro import distributions as dist
    from pyro.infer.mcmc.util import initialize_model

    from relaxed_dists import pyro as ours

    def energy(bernoulli: Any) -> float:
        def model() -> None:
            m = pyro.sample("m", dist.Normal(0.0, 1.0))
            with pyro.plate("n", 3):
                z = bernoulli(probs=torch.tensor([0.2, 0.3, 0.9]))
                z = pyro.sample("z", z, infer={"enumerate": "parallel"})
                pyro.sample("x", dist.Normal(m + z, 1.0), obs=torch.tensor([0.0, 1.0, 2.0]))

        _, potential, _, _ = initialize_model(model, max_plate_nesting=1)
        return potential({"m": torch.tensor(0.4)}).item()

    assert energy(ours.Bernoulli) == pytest.approx(energy(dist.Bernoulli), rel=1e-6)


def test_f1_what_cannot_be_enumerated_says_so(pyro: Any) -> None:
    """A subset has no marginals, and a distribution with an estimator can't be enumerated."""
    import torch
    from pyro import distributions as dist
    from pyro.infer import TraceEnum_ELBO, config_enumerate

    from relaxed_dists.pyro import Bernoulli, OneHotCategorical, StraightThrough, Subset

    def model(distribution: Any, how: str = "parallel") -> Any:
        def run() -> None:
            z = pyro.sample("z", distribution, infer={"enumerate": how})
            pyro.sample(
                "x",
                dist.Normal(z.sum(-1) if distribution.event_dim else z, 1.0),
                obs=torch.ones(()),
            )

        return run

    elbo = TraceEnum_ELBO(max_plate_nesting=0)
    subset = model(Subset(2, logits=torch.zeros(3)))
    assert np.isfinite(elbo.loss(config_enumerate(subset), nothing))
    with pytest.raises(ValueError, match="given the other sites its value is no Subset"):
        elbo.compute_marginals(subset, nothing)
    for distribution in (
        Bernoulli(logits=torch.zeros(()), estimator=StraightThrough()),
        OneHotCategorical(logits=torch.zeros(3), estimator=StraightThrough()),
    ):
        with pytest.raises(NotImplementedError, match="can't be enumerated with an estimator"):
            elbo.loss(model(distribution), nothing)
        with pytest.raises(NotImplementedError, match="can't be enumerated with an estimator"):
            elbo.loss(model(distribution), model(distribution, "sequential"))


@pytest.mark.parametrize("name", DISCRETE)
def test_f1_ours_are_the_frameworks_own_in_pyro(pyro: Any, name: str) -> None:
    """Our distributions are instances of Pyro's and torch's classes, which use isinstance."""
    import copy
    import pickle

    import torch
    from pyro import distributions as dist

    distribution = made(BACKENDS["pyro"](), name)
    assert isinstance(distribution, getattr(dist, name))
    assert isinstance(distribution, getattr(torch.distributions, name))
    for other in (
        distribution,
        distribution.expand((5, 2)),
        copy.copy(distribution),
        pickle.loads(pickle.dumps(distribution)),
    ):
        assert type(other) is type(distribution)
        assert "_categorical" not in vars(other)
        np.testing.assert_array_equal(other.logits, distribution.logits.expand(other.logits.shape))
        np.testing.assert_allclose(other.probs, distribution.probs.expand(other.logits.shape))
        assert other.param_shape == other.logits.shape


# 4. Tests of infer_shapes, which computes a distribution's shapes from its arguments' shapes.


@pytest.mark.parametrize("name", [name for name in NAMES if " " not in name])
def test_f4_infer_shapes_gives_the_shapes_of_the_law_that_is_made(
    backend: Backend, name: str
) -> None:
    """infer_shapes accepts logits and probs, by name and position, and broadcasts temperatures."""
    cls = getattr(backend.names, name)
    for batch, heat in (((), ()), ((2,), ()), ((4, 1), (2,)), ((), (3,))):
        logits = backend.array(numbers(name, batch))
        given = arguments(name, logits, backend.array(np.full(heat, 0.5)))
        distribution = cls(**given)
        shapes = {key: np.shape(x) for key, x in given.items()}
        expected = tuple(distribution.batch_shape), tuple(distribution.event_shape)
        assert cls.infer_shapes(**shapes) == expected
        if "Permutation" not in name:
            shapes["probs"] = shapes.pop("logits")
            assert cls.infer_shapes(**shapes) == expected
            if "k" not in shapes:
                ordered = [shapes[key] for key in ("temperature", "probs") if key in shapes]
                assert cls.infer_shapes(*ordered) == expected
    shape = expected[1]
    with pytest.raises(ValueError, match=f"{name} got neither probs nor logits"):
        cls.infer_shapes()
    if "temperature" in given:
        with pytest.raises(ValueError, match=rf"{name} got a temperature of shape \(4,\)"):
            cls.infer_shapes(temperature=(4,), logits=(3, *shape))
    if shape:
        with pytest.raises(ValueError, match=f"{name} got logits of shape"):
            cls.infer_shapes(logits=())


# 5. Tests of render_model, which draws a model's graph and needs no density.


@pytest.mark.parametrize("name", NAMES)
def test_f5_models_are_drawn_with_their_dependencies(backend: Backend, name: str) -> None:
    """In the graph each site depends on the sites of its parameters, and on no other."""
    pytest.importorskip("graphviz")
    language = backend.language
    framework = pytest.importorskip(backend.framework)
    inspect = pytest.importorskip(f"{backend.framework}.infer.inspect")
    zero = backend.array(numbers(name, ()), "float32")

    def model() -> None:
        other = language.sample("other", language.normal(0.0, 1.0))
        loc = language.sample("loc", language.normal(0.0, 1.0))
        z = language.sample("z", with_logits(backend, name, zero + loc))
        mean = z.sum() + 0.0 * other
        y = language.sample("y", with_logits(backend, name, zero + mean))
        language.sample("x", language.normal(y.sum(), 1.0), obs=backend.array(0.0, "float32"))

    parents = {"other": [], "loc": [], "z": ["loc"], "y": ["other", "z"], "x": ["y"]}
    relations = inspect.get_model_relations(model)["sample_sample"]
    assert {site: sorted(found) for site, found in relations.items()} == parents
    prior = inspect.get_dependencies(model)["prior_dependencies"]
    assert {site: sorted(found) for site, found in prior.items()} == {
        site: sorted([site, *found]) for site, found in parents.items()
    }
    arrows = framework.render_model(model).source.count("->")
    assert arrows == sum(map(len, parents.values()))


@pytest.mark.parametrize("name", ["HardConcrete", "RelaxedSubset", "OneHotCategorical"])
def test_f5_masked_sites_in_plates_are_drawn(backend: Backend, name: str) -> None:
    """render_model accepts sites that mask(False) leaves out of an ELBO."""
    pytest.importorskip("graphviz")
    language = backend.language
    framework = pytest.importorskip(backend.framework)

    def model() -> None:
        with language.plate("rows", 2, -1):
            language.sample("z", made(backend, name, (2,), "float32").mask(False))

    assert "rows" in framework.render_model(model).source


@pytest.mark.parametrize("name", ["RelaxedBernoulliStraightThrough", "RelaxedSubset"])
def test_f5_outside_of_a_drawing_the_errors_stay(backend: Backend, name: str) -> None:
    """Outside of the frameworks' inspection, log_prob still raises its error."""
    distribution = made(backend, name)
    with pytest.raises((ValueError, NotImplementedError), match=r"has lost|has no log_prob"):
        distribution.log_prob(backend.array(backend.numpy(backend.draw(distribution, 0))))


# 6. Tests of vmap over a distribution, by NumPyro's vmap_over.


@pytest.mark.parametrize("name", FEW)
def test_f6_vmap_over_maps_all_parameters(name: str) -> None:
    """A vmapped distribution has one more batch dimension, at any axis, and can be mapped again."""
    pytest.importorskip("numpyro")
    import jax
    from numpyro.distributions.batch_util import promote_batch_shape, vmap_over

    backend = BACKENDS["numpyro"]()
    x = backend.array(numbers(name, (5, 2)), "float32")
    one, event = with_logits(backend, name, x[0]), event_dim(name)
    key = jax.random.key(0)
    rows = np.stack([with_logits(backend, name, row).sample(key) for row in x])

    axis = -1 - event  # the last one of the batch
    distribution = jax.vmap(
        lambda row: with_logits(backend, name, row), out_axes=vmap_over(one, logits=axis)
    )(x)
    assert distribution.batch_shape == (2, 5)
    assert promote_batch_shape(distribution).batch_shape == (2, 5)
    found = jax.vmap(lambda d: d.sample(key), in_axes=(vmap_over(distribution, logits=axis),))(
        distribution
    )
    np.testing.assert_allclose(found, rows, rtol=1e-5, atol=1e-6)
    if "Permutation" not in name:
        assert vmap_over(one, probs=1).logits == 1
    if one.temperature is not None:
        assert vmap_over(one, temperature=-1).logits == -1 - event


# 10. A test of a guide of discrete distributions, in Pyro.


def test_f10_the_same_guide_as_auto_discrete_parallel(pyro: Any) -> None:
    """AutoDiscreteParallel accepts only Pyro's classes; AutoRelaxed reaches the same bound."""
    import torch
    from pyro import distributions as dist
    from pyro.infer import SVI, TraceEnum_ELBO, config_enumerate
    from pyro.infer.autoguide import AutoDiscreteParallel

    from relaxed_dists import pyro as ours

    def model(one_hot: Any) -> Any:
        def run() -> None:
            with pyro.plate("n", 3):
                z = pyro.sample("z", one_hot(probs=torch.tensor([0.2, 0.3, 0.5])))
                mean = (z * torch.tensor([-2.0, 0.0, 2.0])).sum(-1)
                pyro.sample("x", dist.Normal(mean, 1.0), obs=torch.tensor([-2.0, 0.1, 1.9]))

        return run

    mine = model(ours.OneHotCategorical)
    with pytest.raises(NotImplementedError, match="OneHotCategorical is not supported"):
        AutoDiscreteParallel(mine)()
    estimated = ours.AutoRelaxed(mine, estimator=ours.StraightThrough())
    guides = {mine: config_enumerate(ours.discretize(estimated))}
    theirs = model(dist.OneHotCategorical)
    guides[theirs] = AutoDiscreteParallel(theirs)
    losses = []
    for run, guide in guides.items():
        pyro.clear_param_store()
        svi = SVI(run, guide, pyro.optim.Adam({"lr": 0.2}), TraceEnum_ELBO(max_plate_nesting=1))
        losses.append([svi.step() for _ in range(80)][-1])
    evidence = ours.exact_evidence(mine)  # the bound of a mean-field guide, since z is independent
    np.testing.assert_allclose(losses, [-evidence] * 2, atol=0.02)


# 11. A test of draws without a gradient, in Pyro.


@pytest.mark.parametrize("name", [*RELAXED, "HardConcrete", "Bernoulli", "OneHotCategorical"])
def test_f11_has_rsample_switches_the_gradient_off(pyro: Any, name: str) -> None:
    """has_rsample_(False) also holds after expand; has_rsample_(True) needs a gradient."""
    import torch

    backend = BACKENDS["pyro"]()
    logits = backend.array(numbers(name)).requires_grad_()
    if name in DISCRETE:
        plain = with_logits(backend, name, logits)
        with pytest.raises(NotImplementedError, match=f"{name} has no rsample without"):
            plain.has_rsample_(True)
        assert not plain.has_rsample_(False).has_rsample
        name += " StraightThrough"
    distribution = with_logits(backend, name, logits)
    assert distribution().requires_grad
    assert distribution.has_rsample_(False) is distribution
    for detached in (
        distribution,
        distribution.expand((3, 2)),
        distribution.expand((3, 2)).to_event(1),
        distribution.mask(True),
    ):
        assert not detached.has_rsample
        x = detached()
        assert not x.requires_grad
        assert torch.autograd.grad(detached.log_prob(x).sum(), logits)[0].abs().sum() > 0
    assert distribution.has_rsample_(True)().requires_grad


# 12. Tests of funsor.


def test_f12_each_class_is_registered_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each class is registered once the module is imported, with both backends in one process."""
    told: list[Any] = []
    module = ModuleType("theirs")

    def register(found: Any, cls: Any) -> None:
        assert found is module
        told.append(cls)

    machinery.tell(module.__name__, register, int)
    assert told == []
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for cls in (int, int, float, int):
        machinery.tell(module.__name__, register, cls)
    assert told == [int, float]


def test_f12_funsor_takes_plain_discrete_laws_and_refuses_the_others(backend: Backend) -> None:
    """funsor converts plain discrete distributions to the same numbers; all others raise."""
    pytest.importorskip("funsor")
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(SUPPORT), *sys.path]),
    }
    command = [sys.executable, funsored.__file__, backend.framework]
    run = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    lines = dict(zip(NAMES, run.stdout.splitlines(), strict=True))
    for name in DISCRETE if backend.framework == "pyro" else ["Bernoulli"]:
        assert lines.pop(name) == f"{name} taken"
    for name, line in lines.items():
        assert line.startswith(f"funsor got a {name.partition(' ')[0]}, of which it would keep")


# 13. A test of reparameterisations, in Pyro.


def test_f13_auto_reparam_takes_our_reparam_by_the_sites_name(pyro: Any) -> None:
    """AutoReparam looks only for torch's class, and leaves our distribution as it is."""
    import torch
    from pyro import distributions as dist
    from pyro import poutine
    from pyro.infer.reparam import AutoReparam

    from relaxed_dists.pyro import GumbelSoftmaxReparam, RelaxedOneHotCategorical

    def model() -> None:
        loc = pyro.sample("loc", dist.Normal(0.0, 1.0))
        pyro.sample("z", RelaxedOneHotCategorical(0.5, logits=torch.zeros(3) + loc))

    for given, expected in (({}, {"z"}), ({"z": GumbelSoftmaxReparam()}, {"z_gumbel"})):
        strategy = AutoReparam(centered=1.0)
        strategy.config.update(given)
        nodes = poutine.trace(poutine.reparam(model, strategy)).get_trace().stochastic_nodes
        assert {name for name in nodes if name[0] == "z"} == expected


# 14. Tests of soft draws.

SOFT = [f"{d} {e}" for d in DISCRETE for e in ("GumbelSoftmax soft", "DecoupledGumbelSoftmax")]


@pytest.mark.parametrize("name", SOFT)
def test_f14_soft_draws_are_on_their_support(backend: Backend, name: str, seed: int) -> None:
    """The support has soft draws, and no shifted draws; the hard support has no soft draws."""
    distribution = made(backend, name, (500,), "float32")
    check = distribution.support.check if backend.framework == "pyro" else distribution.support
    x = backend.draw(distribution, seed)
    assert bool(check(x).all())
    assert ((backend.numpy(x) > 0) & (backend.numpy(x) < 1)).mean() > 0.9
    assert not bool(check(x - 1.5).any())
    assert not bool(check(x + 1.5).any())
    assert "Soft" in repr(distribution.support)
    hard = made(backend, f"{name.partition(' ')[0]} StraightThrough", (500,), "float32").support
    assert not bool((hard.check if backend.framework == "pyro" else hard)(x).all())


@pytest.mark.parametrize("name", SOFT)
def test_f14_the_moments_are_those_of_the_soft_value(backend: Backend, name: str) -> None:
    """Mean and variance equal those of the relaxed distribution at the value's temperature.

    They also agree with 40,000 draws, with false alarms of 1e-6. Errors of 0.01 in the mean are
    seen.
    """
    distribution = made(backend, name)
    relaxed = "RelaxedOneHotCategorical" if "OneHot" in name else "RelaxedBernoulli"
    t = 0.3 if "Decoupled" in name else 0.5
    expected = getattr(backend.names, relaxed)(t, logits=distribution.logits)
    x = backend.numpy(backend.draw(distribution, 0, (40_000,)))
    for moment in ("mean", "variance"):
        found = backend.numpy(getattr(distribution, moment))
        np.testing.assert_allclose(found, backend.numpy(getattr(expected, moment)), rtol=1e-9)
    error = 5 * x.std(0) / 200
    assert (abs(x.mean(0) - backend.numpy(distribution.mean)) < error).all()
    np.testing.assert_allclose(x.var(0), backend.numpy(distribution.variance), atol=0.005)
    hard = backend.numpy(distribution.discrete.variance)
    assert (abs(hard - backend.numpy(distribution.variance)) > 0.01).all()  # the hard value's


@pytest.mark.parametrize("name", SOFT)
def test_f14_a_mixture_scores_soft_draws(backend: Backend, name: str, seed: int) -> None:
    """The log density is that of the sum over components."""
    dist = pytest.importorskip(f"{backend.framework}.distributions")
    weights = backend.array([0.3, 0.7])
    distribution = made(backend, name)
    mixture = dist.MixtureSameFamily(dist.Categorical(probs=weights), distribution)
    x = backend.draw(mixture, seed)
    single = np.array([backend.numpy(distribution.log_prob(x[None]))]).reshape(2)
    expected = np.log((np.array([0.3, 0.7]) * np.exp(single)).sum())
    assert backend.numpy(mixture.log_prob(x)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("kernel", ["NUTS", "HMC"])
def test_f14_a_soft_site_is_still_no_continuous_one(backend: Backend, kernel: str) -> None:
    """HMC and NUTS raise for a soft site, with the advice to relax the model."""
    language = backend.language

    def model() -> None:
        language.sample("z", made(backend, "OneHotCategorical GumbelSoftmax soft"))

    with pytest.raises(ValueError, match="discrete distribution with a pathwise estimator"):
        language.hmc(kernel, model)


# 16. Tests of the supports' names, and of errors of expand.


@pytest.mark.parametrize("name", NAMES)
def test_f16_supports_print_their_names(backend: Backend, name: str) -> None:
    """repr gives the support's name; both frameworks drop the first letter of its class."""
    distribution = made(backend, name)
    expected = {
        "ExpRelaxedOneHotCategorical": "LogSimplex()",
        "HardConcrete": "Gates(lower_bound=0.0, upper_bound=1.0)",
        "Subset": "KHot(k=2)",
        "RelaxedSubset": "RelaxedKHot(k=2)",
        "Permutation": "PermutationMatrix()",
        "RelaxedPermutation": "DoublyStochastic()",
        "OneHotCategorical": "OneHot()",
    }
    cls, _, estimator = name.partition(" ")
    value = {"OneHotCategorical": "OneHot", "Bernoulli": "Boolean"}.get(cls)
    if estimator and value:
        soft = estimator in ("GumbelSoftmax soft", "DecoupledGumbelSoftmax")
        assert repr(distribution.support) == ("Soft" if soft else "Estimated") + value + "()"
    elif name in expected:
        assert repr(distribution.support) == expected[name]


@pytest.mark.parametrize("name", NAMES)
def test_f16_expand_to_a_shape_that_does_not_fit_says_so(backend: Backend, name: str) -> None:
    """expand raises a ValueError for a shape that the batch shape can't broadcast to."""
    distribution = made(backend, name, (2, 3))
    for shape in ((3,), (), (4, 3), (5, 3, 3)):
        match = (
            rf"expand got the batch shape .*{len(shape) and shape[-1]}.* of batch shape \(2, 3\)"
        )
        with pytest.raises(ValueError, match=match if shape else r"batch shape \(\)"):
            distribution.expand(shape)
