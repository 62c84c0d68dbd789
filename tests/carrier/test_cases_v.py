"""Programs whose values lose the relaxed sample that they were made from, and the right results."""

from typing import Any

import numpy as np
import pytest

from carrying import needs_jax, needs_torch, rounded
from harness import Backend, handlers, jax, jnp, numpyro, pyro, torch

pytestmark = pytest.mark.filterwarnings("ignore:.*dtype float64 requested:UserWarning")

N, LOGIT = 50, 1.0
# The KL of N relaxed binary values with logit LOGIT from those with logit 0, and its derivative by
# the logit: d coth(d / 2) - 2 for each value, at any temperature.
KL = N * (LOGIT / np.tanh(LOGIT / 2) - 2)
SLOPE = N * (1 / np.tanh(LOGIT / 2) - LOGIT / 2 / np.sinh(LOGIT / 2) ** 2)


def numpyro_elbo(name: str = "Trace_ELBO", particles: int = 200) -> Any:
    """One of NumPyro's ELBOs."""
    import numpyro.infer

    return getattr(numpyro.infer, name)(num_particles=particles)


@needs_jax
def test_v1_two_masks_on_a_site_count_as_one(seed: int) -> None:
    """Loss and gradient equal those with one mask or none, and are near the exact KL.

    They are equal to 1e-5. The means over 200 particles have standard errors of 0.5 and 0.4; the
    bound is 3.
    """
    from relaxed_dists.numpyro import RelaxedBernoulli

    def site(logit: Any, masks: int) -> None:
        d = RelaxedBernoulli(0.05, logits=logit * jnp.ones(N))
        draw = lambda: numpyro.sample("z", d)  # noqa: E731
        for _ in range(masks):
            draw = handlers.mask(draw, mask=jnp.ones(N, bool))
        with numpyro.plate("n", N):
            draw()

    def loss(logit: Any, masks: int) -> Any:
        key = jax.random.key(seed)
        return numpyro_elbo().loss(key, {}, lambda: site(0.0, masks), lambda: site(logit, masks))

    both = jax.jit(jax.value_and_grad(loss), static_argnums=1)
    none, one, two = (np.array(both(LOGIT, masks)) for masks in range(3))
    np.testing.assert_allclose(one, none, 1e-5)
    np.testing.assert_allclose(two, none, 1e-5)
    np.testing.assert_allclose(two, [KL, SLOPE], atol=3)


@needs_jax
def test_f2_a_masked_hard_concrete_that_plates_expand(seed: int) -> None:
    """Gradient and shapes are those of an unmasked site that is expanded by hand.

    Only the order of sums differs, so the gradients agree to 1e-5.
    """
    import numpyro.distributions as dist

    from relaxed_dists.numpyro import HardConcrete

    logits = jnp.array([[1.0], [-1.0]])

    def site(logits: Any, way: str) -> Any:
        d = HardConcrete(0.7, logits=logits)
        with numpyro.plate("a", 2, dim=-2), numpyro.plate("b", 3, dim=-1):
            d = d if way == "masked" else d.expand((2, 3))
            return numpyro.sample("z", d if way == "bare" else d.mask(jnp.array(True)))

    def loss(logits: Any, way: str) -> Any:
        def model() -> None:
            z = site(jnp.zeros((2, 1)), way)
            numpyro.sample("x", dist.Normal(z, 1.0).to_event(2), obs=jnp.ones((2, 3)))

        key = jax.random.key(seed)
        return numpyro_elbo().loss(key, {}, model, lambda: site(logits, way))

    slope = jax.jit(jax.grad(loss), static_argnums=1)
    slopes = {way: slope(logits, way) for way in ("masked", "expanded", "bare")}
    np.testing.assert_allclose(slopes["masked"], slopes["bare"], 1e-5, 1e-5)
    np.testing.assert_allclose(slopes["expanded"], slopes["bare"], 1e-5, 1e-5)
    with handlers.seed(rng_seed=seed), handlers.trace() as trace:
        site(logits, "masked")
    z = trace["z"]
    assert z["fn"].log_prob(z["value"], z["intermediates"]).shape == z["value"].shape == (2, 3)


@needs_jax
def test_e6_to_event_inside_vmap() -> None:
    """Distributions returned by vmap have the shapes of their batched parameters, also wrapped."""
    from relaxed_dists.numpyro import RelaxedOneHotCategorical

    def inside(logits: Any) -> Any:
        return RelaxedOneHotCategorical(0.5, logits=logits).to_event(1)

    mapped = jax.vmap(inside)(jnp.zeros((5, 4, 3)))
    masked = jax.vmap(lambda logits: inside(logits).mask(logits.sum() == 0))(jnp.zeros((5, 4, 3)))
    for d in (mapped, masked, mapped.mask(True), mapped.mask(jnp.ones(5, bool)).mask(True)):
        assert (d.batch_shape, d.event_shape) == ((5,), (4, 3))
        assert d.sample(jax.random.key(0), (2,)).shape == (2, 5, 4, 3)
        assert (d.to_event(1).batch_shape, d.to_event().event_shape) == ((), (5, 4, 3))
        assert (d.expand((2, 5)).batch_shape, d.expand_by((2,)).event_shape) == ((2, 5), (4, 3))
        shapes = jax.vmap(lambda d: jnp.zeros(d.batch_shape + d.event_shape))(d)
        assert shapes.shape == (5, 4, 3)


def in_a_scan(name: str, wrap: Any, logit: Any, t: float, length: int = N) -> None:
    """A program with a single site, in NumPyro's scan."""
    from numpyro.contrib.control_flow import scan

    from relaxed_dists import numpyro as names

    def step(carry: None, _: None) -> tuple[None, Any]:
        logits = jnp.stack([logit, 0.0 * logit]) if "OneHot" in name else logit
        d = getattr(names, name)(t, logits=logits)
        return carry, numpyro.sample("z", wrap(d))

    scan(step, None, None, length=length)


# The KL divergence is the same in the value space of each of these distributions.
SCANNED = [
    "RelaxedBernoulli",
    "RelaxedBernoulliStraightThrough",
    "RelaxedOneHotCategorical",
    "RelaxedOneHotCategoricalStraightThrough",
]


@needs_jax
@pytest.mark.parametrize("name", SCANNED)
def test_v2_a_cond_scores_the_guides_sample(name: str, seed: int) -> None:
    """The loss is near the exact KL, 3.3; with the relaxed sample of another draw it is 88 or 96.

    The model's cond makes another draw before NumPyro replaces it by the guide's value. The mean
    over 200 particles has a standard error of 0.2; the bound is 1.
    """
    from numpyro.contrib.control_flow import cond

    from relaxed_dists import numpyro as names

    def program(logit: float) -> None:
        logits = logit * jnp.ones(20)
        if "OneHot" in name:
            logits = jnp.stack([logits, 0.0 * logits], -1)
        d = getattr(names, name)(0.05, logits=logits).to_event(1)
        draw = lambda _: numpyro.sample("z", d)  # noqa: E731
        cond(True, draw, draw, None)

    key, guide = jax.random.key(seed), lambda: program(LOGIT)
    loss = numpyro_elbo().loss(key, {}, lambda: program(0.0), guide)
    assert abs(loss - 20 * KL / N) < 1.0


@needs_jax
@pytest.mark.parametrize("name", SCANNED)
def test_v2_a_scan_scores_the_relaxed_sample(name: str, seed: int) -> None:
    """The loss is near the exact KL, 8.2; scores of saturated values would give up to 756.

    The mean over 100 particles has a standard error of 0.7; the bound is 4. Temperature hardly
    changes a loss that is a mean of log ratios, so the losses agree to 1e-3.
    """

    def loss(t: Any, logit: Any) -> Any:
        key = jax.random.key(seed)
        model, guide = (lambda at=at: in_a_scan(name, lambda z: z, at, t) for at in (0.0, logit))
        return numpyro_elbo(particles=100).loss(key, {}, model, guide)

    losses = jax.jit(jax.vmap(jax.value_and_grad(loss, 1), (0, None)))(
        jnp.array([0.05, 0.1, 0.2, 0.5]), LOGIT
    )
    np.testing.assert_allclose(losses[0], KL, atol=4)
    np.testing.assert_allclose(losses[1], SLOPE, atol=4)
    np.testing.assert_allclose(losses[0], losses[0][0], 1e-3)


GATE = r"HardConcrete\.log_prob got .* in an ELBO whose gradient would miss the mass"
# Other wrappers that replace a value by another inside an ELBO.


def reached(wrap: Any, elbo: Any = None, model_wrap: Any = None, name: str = "B") -> Any:
    """The compiled gradient of an ELBO whose site is wrapped in model and guide, or the error."""
    from relaxed_dists import numpyro as names

    made = {"B": names.RelaxedBernoulli, "H": names.HardConcrete}[name]

    def loss(logit: Any) -> Any:
        def site(logit: Any, wrap: Any) -> None:
            numpyro.sample("z", wrap(made(0.1, logits=logit * jnp.ones(3))))

        model, guide = (lambda: site(0.0, model_wrap or wrap)), (lambda: site(logit, wrap))
        return (elbo or numpyro_elbo(particles=2)).loss(jax.random.key(0), {}, model, guide)

    return jax.jit(jax.grad(loss))(LOGIT)


def ways() -> dict[str, Any]:
    """Arguments of `reached` for sites whose values lose the sample in NumPyro."""
    import numpyro.distributions as dist
    from numpyro.infer import Trace_ELBO

    weights = dist.Categorical(probs=jnp.ones(3) / 3)
    mixture = {"wrap": lambda fn: dist.MixtureSameFamily(weights, fn)}
    affine = dist.transforms.AffineTransform(0.0, 2.0)
    transformed = {"wrap": lambda fn: dist.TransformedDistribution(fn, affine).to_event(1)}
    theirs = {"wrap": lambda fn: dist.Independent(fn, 1).mask(jnp.array(True))}
    several = Trace_ELBO(multi_sample_guide=True)
    multi = {
        "wrap": lambda fn: fn.expand((2, 3)).to_event(1),
        "model_wrap": lambda fn: fn.to_event(1),
        "elbo": several,
    }
    return {"mixture": mixture, "transform": transformed, "their mask": theirs, "multi": multi}


@needs_jax
@pytest.mark.parametrize("way", ["mixture", "transform", "their mask", "multi"])
def test_v2_a_compiled_elbo_refuses_a_value_that_lost_its_sample(way: str) -> None:
    """Tracing raises the error, since numbers are unknown; HardConcrete has its own error."""
    seen = "may be rounded, which cannot be seen in a compiled ELBO"
    with pytest.raises(ValueError, match=rounded("RelaxedBernoulli", seen)[:-1]):  # JAX adds a note
        reached(**ways()[way])
    with pytest.raises(
        ValueError, match=r"HardConcrete\.log_prob got .* in an ELBO whose gradient"
    ):
        reached(**ways()[way], name="H")


@needs_jax
def test_v2_what_the_user_gives_is_scored_as_it_is(seed: int) -> None:
    """Values that no draw made are scored by their numbers: data, other guides, and NUTS."""
    from numpyro.infer.autoguide import AutoNormal
    from numpyro.infer.util import potential_energy

    from relaxed_dists.numpyro import RelaxedBernoulli

    x, d = jnp.array([0.2, 0.9]), RelaxedBernoulli(0.5, logits=jnp.array([0.5, -1.0]))
    expected = d.log_prob(x)
    np.testing.assert_allclose(jax.jit(lambda x: d.log_prob(x))(x), expected, 1e-5)
    mapped = jax.vmap(lambda d, x: d.log_prob(x))(d, x)
    np.testing.assert_allclose(mapped, expected, 1e-5)

    def observed(x: Any) -> None:
        numpyro.sample("w", d.to_event(1))
        numpyro.sample("x", d.to_event(1), obs=x)

    def latent(*_: Any) -> None:
        numpyro.sample("w", d.to_event(1))

    automatic, key = AutoNormal(latent), jax.random.key(seed)
    with handlers.seed(rng_seed=seed):
        automatic()
    params = {"w_auto_loc": jnp.zeros(2), "w_auto_scale": jnp.ones(2)}
    elbo = numpyro_elbo(particles=1).loss
    # Tracing is enough: any error would come while tracing, and nothing has to be compiled.
    jax.eval_shape(lambda x: elbo(key, {}, observed, latent, x), x)
    jax.eval_shape(lambda params: elbo(key, params, latent, automatic), params)
    jax.eval_shape(lambda w: potential_energy(latent, (), {}, {"w": w}), x)


@needs_jax
def test_v2_a_scan_under_the_mean_field_elbo(seed: int) -> None:
    """The ELBO uses the KL, without a score; if only the model is masked, it scores and raises."""

    def loss(logit: Any, masked: bool) -> Any:
        def wrap(fn: Any) -> Any:
            return fn.mask(True) if masked else fn

        model = lambda: in_a_scan("RelaxedBernoulli", wrap, 0.0, 0.05)  # noqa: E731
        guide = lambda: in_a_scan("RelaxedBernoulli", lambda fn: fn, logit, 0.05)  # noqa: E731
        elbo = numpyro_elbo("TraceMeanField_ELBO", 2)
        return elbo.loss(jax.random.key(seed), {}, model, guide)

    jax.eval_shape(lambda logit: loss(logit, masked=False), LOGIT)
    with pytest.raises(ValueError, match="may be rounded"):
        jax.eval_shape(lambda logit: loss(logit, masked=True), LOGIT)


@needs_torch
def test_v2_pyro_refuses_a_rounded_copy_in_an_elbo(seed: int) -> None:
    """A transform's inverse is a rounded copy and raises; a cached inverse is the value itself.

    With the cache the loss is, to 1e-4, that of the bare site, since the Jacobians cancel.
    """
    from pyro.distributions import TransformedDistribution, transforms
    from pyro.infer import Trace_ELBO

    from relaxed_dists.pyro import HardConcrete, RelaxedBernoulli

    def loss(made: Any, wrap: Any) -> Any:
        def site(logit: float) -> None:
            logits = torch.full((N,), logit, requires_grad=True)
            with pyro.plate("n", N):
                pyro.sample("z", wrap(made(0.05, logits=logits)))

        pyro.set_rng_seed(seed)
        return Trace_ELBO().loss(lambda: site(0.0), lambda: site(LOGIT))

    def affine(cache: int) -> Any:
        transform = transforms.AffineTransform(0.0, 2.0, cache_size=cache)
        return lambda fn: TransformedDistribution(fn, [transform])

    bare = loss(RelaxedBernoulli, lambda fn: fn)
    np.testing.assert_allclose(loss(RelaxedBernoulli, affine(1)), bare, 1e-4)
    with pytest.raises(ValueError, match=r"RelaxedBernoulli\.log_prob got a value that has lost"):
        loss(RelaxedBernoulli, affine(0))
    with pytest.raises(
        ValueError, match=r"HardConcrete\.log_prob got .* in an ELBO whose gradient"
    ):
        loss(HardConcrete, affine(0))


def test_v2_which_numbers_hold_their_density(backend: Backend) -> None:
    """A value rounded to 0 or 1 raises, unless a mask or a single category explains the number.

    Other values have the paper's density. An entry of 1 is accepted if no other entry
    underflowed, since its log is then 0 to rounding.
    """
    one_hot, binary = backend.names.RelaxedOneHotCategorical, backend.names.RelaxedBernoulli

    def score(made: Any, logits: Any, value: Any) -> float:
        d = made(0.5, logits=backend.array(logits))
        return float(d.log_prob(backend.array(value)))

    inf, tiny = np.inf, np.finfo(float).tiny
    for logits, value in (
        ([0, 0, 0], [0.5, 0.5, 0]),
        ([0, 0, 0], [1, 0, 0]),
        ([0, 0, 0], [1, 1e-16, tiny / 2]),
        ([0, 0, -inf], [1, 0, 0]),
    ):
        with pytest.raises(ValueError, match=rounded("RelaxedOneHotCategorical")):
            score(one_hot, logits, value)
    for value in (0, 1, tiny / 2):
        with pytest.raises(ValueError, match=rounded("RelaxedBernoulli")):
            score(binary, 0.0, value)
    assert score(one_hot, [0, -inf, -inf], [1, 0, 0]) == 0
    assert score(one_hot, [0, 0, -inf], [0, 0.5, 0.5]) == -inf
    for value in ([0.2, 0.8, 0], [1, 1e-16, 0]):
        pair = score(one_hot, [0, 0], value[:2])
        np.testing.assert_allclose(score(one_hot, [0, 0, -inf], value), pair, 1e-9)
        y = np.log(value[:2])
        expected = np.log(0.5) - 2 * np.logaddexp.reduce(-0.5 * y) - 1.5 * y.sum()
        np.testing.assert_allclose(pair, expected, 1e-9)


def test_v2_trace_graph_elbo_refuses_estimated_sites_in_scan() -> None:
    """NumPyro would add a score-function gradient, since the discrete prior has no rsample."""
    numpyro = pytest.importorskip("numpyro")
    from numpyro.contrib.control_flow import scan

    from relaxed_dists.numpyro import AnnealedSVI, Bernoulli, StraightThrough

    def chain(make: Any) -> None:
        scan(lambda carry, _: (carry, numpyro.sample("z", make())), None, None, length=3)

    def guide() -> None:
        logit = numpyro.param("logit", 0.5)
        chain(lambda: Bernoulli(logits=logit, estimator=StraightThrough()))

    def svi(loss: str) -> Any:
        optim = numpyro.optim.Adam(0.1)
        model = lambda: chain(lambda: Bernoulli(logits=0.0))  # noqa: E731
        return AnnealedSVI(model, guide, optim, getattr(numpyro.infer, loss)())

    with pytest.raises(ValueError, match=r"sites \['z'\] with an estimator in a scan; "):
        svi("TraceGraph_ELBO").init(jax.random.key(0))
    svi("Trace_ELBO").init(jax.random.key(0))
