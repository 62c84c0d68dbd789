"""Values that have lost the sample behind them: the programs of users, and what must come out."""

from typing import Any

import numpy as np
import pytest

from carrying import handlers, jax, jnp, needs_jax, numpyro

pytestmark = pytest.mark.filterwarnings("ignore:.*dtype float64 requested:UserWarning")

N, LOGIT = 50, 1.0
# The divergence of N binary values with logit LOGIT from those with logit 0, and its derivative by
# the logit: d coth(d / 2) - 2 for each, at whatever temperature.
KL = N * (LOGIT / np.tanh(LOGIT / 2) - 2)
SLOPE = N * (1 / np.tanh(LOGIT / 2) - LOGIT / 2 / np.sinh(LOGIT / 2) ** 2)


def numpyro_elbo(name: str = "Trace_ELBO", particles: int = 200) -> Any:
    """One of NumPyro's ELBOs."""
    import numpyro.infer

    return getattr(numpyro.infer, name)(num_particles=particles)


@needs_jax
def test_v1_two_masks_on_a_site_count_as_one(seed: int) -> None:
    """Loss and gradient: those of a single mask and of none (1e-5), and near the exact KL.

    The mean of 200 particles has a standard error of 0.5 and 0.4: 3 is six of them.
    """
    from relaxed_dists.numpyro import RelaxedBernoulli

    def site(logit: Any, masks: int) -> None:
        law = RelaxedBernoulli(0.05, logits=logit * jnp.ones(N))
        draw = lambda: numpyro.sample("z", law)  # noqa: E731
        for _ in range(masks):
            draw = handlers.mask(draw, mask=jnp.ones(N, bool))
        with numpyro.plate("n", N):
            draw()

    def loss(logit: Any, masks: int) -> Any:
        key = jax.random.key(seed)
        return numpyro_elbo().loss(key, {}, lambda: site(0.0, masks), lambda: site(logit, masks))

    none, one, two = (np.array(jax.value_and_grad(loss)(LOGIT, masks)) for masks in range(3))
    np.testing.assert_allclose(one, none, 1e-5)
    np.testing.assert_allclose(two, none, 1e-5)
    np.testing.assert_allclose(two, [KL, SLOPE], atol=3)


@needs_jax
def test_f2_a_masked_hard_concrete_that_plates_expand(seed: int) -> None:
    """The gradient of an ELBO, and shapes: those of the one that is expanded by hand and unmasked.

    Only in the order of sums they differ: 1e-5.
    """
    import numpyro.distributions as dist

    from relaxed_dists.numpyro import HardConcrete

    logits = jnp.array([[1.0], [-1.0]])

    def site(logits: Any, way: str) -> Any:
        law = HardConcrete(0.7, logits=logits)
        with numpyro.plate("a", 2, dim=-2), numpyro.plate("b", 3, dim=-1):
            law = law if way == "masked" else law.expand((2, 3))
            return numpyro.sample("z", law if way == "bare" else law.mask(jnp.array(True)))

    def loss(logits: Any, way: str) -> Any:
        def model() -> None:
            z = site(jnp.zeros((2, 1)), way)
            numpyro.sample("x", dist.Normal(z, 1.0).to_event(2), obs=jnp.ones((2, 3)))

        key = jax.random.key(seed)
        return numpyro_elbo().loss(key, {}, model, lambda: site(logits, way))

    slopes = {way: jax.grad(loss)(logits, way) for way in ("masked", "expanded", "bare")}
    np.testing.assert_allclose(slopes["masked"], slopes["bare"], 1e-5, 1e-5)
    np.testing.assert_allclose(slopes["expanded"], slopes["bare"], 1e-5, 1e-5)
    with handlers.seed(rng_seed=seed), handlers.trace() as trace:
        site(logits, "masked")
    z = trace["z"]
    assert z["fn"].log_prob(z["value"], z["intermediates"]).shape == z["value"].shape == (2, 3)


@needs_jax
def test_e6_to_event_inside_vmap() -> None:
    """Shapes are read off the parameters, which vmap maps; the wrappers go on from there."""
    from relaxed_dists.numpyro import RelaxedOneHotCategorical

    def inside(logits: Any) -> Any:
        return RelaxedOneHotCategorical(0.5, logits=logits).to_event(1)

    mapped = jax.vmap(inside)(jnp.zeros((5, 4, 3)))
    masked = jax.vmap(lambda logits: inside(logits).mask(logits.sum() == 0))(jnp.zeros((5, 4, 3)))
    for law in (mapped, masked, mapped.mask(True), mapped.mask(jnp.ones(5, bool)).mask(True)):
        assert (law.batch_shape, law.event_shape) == ((5,), (4, 3))
        assert law.sample(jax.random.key(0), (2,)).shape == (2, 5, 4, 3)
        assert (law.to_event(1).batch_shape, law.to_event().event_shape) == ((), (5, 4, 3))
        assert (law.expand((2, 5)).batch_shape, law.expand_by((2,)).event_shape) == ((2, 5), (4, 3))
        shapes = jax.vmap(lambda law: jnp.zeros(law.batch_shape + law.event_shape))(law)
        assert shapes.shape == (5, 4, 3)


def in_a_scan(name: str, wrap: Any, logit: Any, t: float, length: int = N) -> None:
    """A program whose one site is in NumPyro's scan."""
    from numpyro.contrib.control_flow import scan

    from relaxed_dists import numpyro as names

    def step(carry: None, _: None) -> tuple[None, Any]:
        logits = jnp.stack([logit, 0.0 * logit]) if "OneHot" in name else logit
        law = getattr(names, name)(t, logits=logits)
        return carry, numpyro.sample("z", wrap(law))

    scan(step, None, None, length=length)


# The relaxed laws' divergence is the same on all of these spaces, as that of two categories is.
SCANNED = [
    "RelaxedBernoulli",
    "RelaxedBernoulliStraightThrough",
    "RelaxedOneHotCategorical",
    "RelaxedOneHotCategoricalStraightThrough",
]


@needs_jax
@pytest.mark.parametrize("name", SCANNED)
def test_v2_a_scan_scores_the_relaxed_sample(name: str, seed: int) -> None:
    """At each temperature near the exact KL, where numbers that saturate gave up to 756 for 8.2.

    The standard error of 100 particles is 0.7: 4 is nearly six of them. The loss is a mean of
    losses of log ratios, so that temperature hardly changes it: to 1e-3 of each other.
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
