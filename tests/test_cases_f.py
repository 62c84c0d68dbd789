"""The frameworks' machinery on our distributions: what it does with its own, or our error."""

from typing import Any

import numpy as np
import pytest

from cases import DISCRETE
from harness import BACKENDS, Backend
from languages import LANGUAGES
from machinery import (
    NAMES,
    arguments,
    event_dim,
    made,
    numbers,
    with_logits,
)

FEW = [name for name in NAMES if " " not in name or name.endswith(" GumbelSoftmax")]


# 1. Enumeration, in Pyro.


@pytest.fixture
def pyro() -> Any:
    """Pyro, with its inference loaded."""
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
    """All that Pyro's enumeration says of a model, in numbers."""
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
    if not any(d.event_shape for d in marginals.values()):  # Pyro's own can't for one-hot values
        mode = infer_discrete(parallel, first_available_dim=-3, temperature=0)
        found["mode"] = values(poutine.trace(mode).get_trace())
        drawn = poutine.trace(elbo.sample_posterior).get_trace(parallel, nothing)
        found["drawn"] = {name: x.shape for name, x in values(drawn).items()}
    return found


@pytest.mark.parametrize("name", ["coins", "nested", "mixture", "chain"])
def test_f1_enumeration_gives_the_numbers_of_pyros_own(pyro: Any, name: str) -> None:
    """Losses, marginals, most probable and drawn values, in plates and out of them."""
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
        for site, x in value.items():
            np.testing.assert_allclose(np.asarray(mine[key][site]), np.asarray(x), rtol=1e-4)


def test_f1_enumerated_guides_give_the_gradients_of_pyros_own(pyro: Any) -> None:
    """In parallel in a plate, and one after the other."""
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
    """The potential energy is the same, so the chains of one seed are."""
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
    """Marginals of a subset are none; an estimator is not for enumeration."""
    import torch
    from pyro import distributions as dist
    from pyro.infer import TraceEnum_ELBO, config_enumerate

    from relaxed_dists.pyro import Bernoulli, OneHotCategorical, StraightThrough, Subset

    def model(law: Any, how: str = "parallel") -> Any:
        def run() -> None:
            z = pyro.sample("z", law, infer={"enumerate": how})
            pyro.sample(
                "x", dist.Normal(z.sum(-1) if law.event_dim else z, 1.0), obs=torch.ones(())
            )

        return run

    elbo = TraceEnum_ELBO(max_plate_nesting=0)
    subset = model(Subset(2, logits=torch.zeros(3)))
    assert np.isfinite(elbo.loss(config_enumerate(subset), nothing))
    with pytest.raises(ValueError, match="given the other sites its value is no Subset"):
        elbo.compute_marginals(subset, nothing)
    for law in (
        Bernoulli(logits=torch.zeros(()), estimator=StraightThrough()),
        OneHotCategorical(logits=torch.zeros(3), estimator=StraightThrough()),
    ):
        with pytest.raises(NotImplementedError, match="can't be enumerated with an estimator"):
            elbo.loss(model(law), nothing)
        with pytest.raises(NotImplementedError, match="can't be enumerated with an estimator"):
            elbo.loss(model(law), model(law, "sequential"))


@pytest.mark.parametrize("name", DISCRETE)
def test_f1_ours_are_the_frameworks_own_in_pyro(pyro: Any, name: str) -> None:
    """Pyro and torch ask isinstance; what a law is made of is still ours."""
    import copy
    import pickle

    import torch
    from pyro import distributions as dist

    law = made(BACKENDS["pyro"](), name)
    assert isinstance(law, getattr(dist, name))
    assert isinstance(law, getattr(torch.distributions, name))
    for other in (law, law.expand((5, 2)), copy.copy(law), pickle.loads(pickle.dumps(law))):
        assert type(other) is type(law)
        assert "_categorical" not in vars(other)
        np.testing.assert_array_equal(other.logits, law.logits.expand(other.logits.shape))
        np.testing.assert_allclose(other.probs, law.probs.expand(other.logits.shape))
        assert other.param_shape == other.logits.shape


# 4. The shapes of a distribution from those of its arguments.


@pytest.mark.parametrize("name", [name for name in NAMES if " " not in name])
def test_f4_infer_shapes_gives_the_shapes_of_the_law_that_is_made(
    backend: Backend, name: str
) -> None:
    """By name and by position, of logits and probs, with temperatures that broadcast."""
    cls = getattr(backend.names, name)
    for batch, heat in (((), ()), ((2,), ()), ((4, 1), (2,)), ((), (3,))):
        logits = backend.array(numbers(name, batch))
        given = arguments(name, logits, backend.array(np.full(heat, 0.5)))
        law = cls(**given)
        shapes = {key: np.shape(x) for key, x in given.items()}
        expected = tuple(law.batch_shape), tuple(law.event_shape)
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


# 5. Drawing a model asks for no density.


@pytest.mark.parametrize("name", NAMES)
def test_f5_models_are_drawn_with_their_dependencies(backend: Backend, name: str) -> None:
    """Each site depends on what its parameters are computed from, and nothing else."""
    pytest.importorskip("graphviz")
    language = LANGUAGES[backend.framework](backend)
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
    """As an ELBO that leaves them out takes them."""
    pytest.importorskip("graphviz")
    language = LANGUAGES[backend.framework](backend)
    framework = pytest.importorskip(backend.framework)

    def model() -> None:
        with language.plate("rows", 2, -1):
            language.sample("z", made(backend, name, (2,), "float32").mask(False))

    assert "rows" in framework.render_model(model).source


@pytest.mark.parametrize("name", ["RelaxedBernoulliStraightThrough", "RelaxedSubset"])
def test_f5_outside_of_a_drawing_the_errors_stay(backend: Backend, name: str) -> None:
    """Only the frameworks' own inspection is answered."""
    law = made(backend, name)
    with pytest.raises((ValueError, NotImplementedError), match=r"has lost|has no log_prob"):
        law.log_prob(backend.array(backend.numpy(backend.draw(law, 0))))


# 6. vmap over a distribution, by NumPyro's own helper.


@pytest.mark.parametrize("name", FEW)
def test_f6_vmap_over_maps_all_parameters(name: str) -> None:
    """A mapped law has one more batch dimension, at any axis, and maps back."""
    pytest.importorskip("numpyro")
    import jax
    from numpyro.distributions.batch_util import promote_batch_shape, vmap_over

    backend = BACKENDS["numpyro"]()
    x = backend.array(numbers(name, (5, 2)), "float32")
    one, event = with_logits(backend, name, x[0]), event_dim(name)
    key = jax.random.key(0)
    rows = np.stack([with_logits(backend, name, row).sample(key) for row in x])

    def draw(law: Any) -> Any:
        return law.sample(key)

    for axis, place in ((0, 0), (-1 - event, 1)):
        axes = vmap_over(one, logits=axis)
        law = jax.vmap(lambda row: with_logits(backend, name, row), out_axes=axes)(x)
        assert law.batch_shape == ((5, 2), (2, 5))[place]
        assert promote_batch_shape(law).batch_shape == law.batch_shape
        found = jax.vmap(draw, in_axes=(vmap_over(law, logits=axis),))(law)
        np.testing.assert_allclose(found, rows, rtol=1e-5, atol=1e-6)
    if "Permutation" not in name:
        assert vmap_over(one, probs=1).logits == 1
    if one.temperature is not None:
        assert vmap_over(one, temperature=-1).logits == -1 - event
