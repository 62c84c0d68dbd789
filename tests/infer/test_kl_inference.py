"""TraceMeanField_ELBO uses the exact KL of relaxed distributions, in each kind of wrapper.

The likelihood is constant, so that the loss is the KL up to a constant: two seeds give the same
loss and the same gradient to the last bit, and the loss is that of Monte Carlo with the densities
of the papers, in NumPy.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.special import log_softmax

from carrying import MASK, SITES, SPACE, VIEWS, density, letter
from cases import RELAXED
from harness import Backend, Torch, jax

rng = np.random.default_rng(3)
# Three rows of two events of four categories; binary sites use the first category's. The prior is
# the same for all rows: the plate, or expand, broadcasts it.
LOGITS, PRIOR = rng.normal(0, 1.5, (3, 2, 4)), rng.normal(0, 1, (2, 4))
DIRECTION = rng.normal(0, 1, LOGITS.shape)
PAIRS = [(0.5, 2 / 3), (0.5, 0.5)]  # the guide's temperature, and the model's
CONSTANT = 0.5 * np.log(2 * np.pi)  # the negative log density of a standard normal at 0
DRAWS = 100_000

Site = Callable[[Any, Any, Any, Any], Any]


def in_plates(ppl: Any, h: Any, distribution: Any, mask: Any) -> Any:
    """A site whose events are in a second plate, and not in the distribution."""
    with ppl.plate("events", 2, dim=-1), ppl.plate("rows", 3, dim=-2):
        return ppl.sample("z", distribution.base_dist)


def subsampled(ppl: Any, h: Any, distribution: Any, mask: Any) -> Any:
    """A site in a subsampled plate, so that rows count twice, with a mask and a scale."""
    with ppl.plate("rows", 6, subsample_size=3), h.mask(mask=mask), h.scale(scale=0.3):
        return ppl.sample("z", distribution)


def masked_event(ppl: Any, h: Any, distribution: Any, mask: Any) -> Any:
    """A site in a plate, whose mask is inside of to_event."""
    with ppl.plate("rows", 3):
        return ppl.sample(
            "z", distribution.base_dist.expand((3, 2)).mask(mask[:, None]).to_event(1)
        )


def expanded(site: Site) -> Site:
    """The site of a distribution that is already expanded to the rows of the plate."""

    def at(ppl: Any, h: Any, distribution: Any, mask: Any) -> Any:
        with ppl.plate("rows", 3):
            return site(ppl, h, distribution.expand((3,)), mask)

    return at


EVERY = {name: expanded(SITES[name]) for name in ("alone", "mask", "mask handler", "scale")} | {
    "plate": SITES["plate"],
    "plates": in_plates,
    "subsampled": subsampled,
    "masked event": masked_event,
}
# Each distribution in a plate, and two distributions in every kind of site.
CASES = [(name, "plate") for name in RELAXED]
CASES += [(name, site) for name in VIEWS for site in EVERY if site != "plate"]
WEIGHT = {"mask": MASK, "mask handler": MASK, "masked event": MASK} | {
    "scale": np.full(3, 0.3),
    "subsampled": 2 * 0.3 * MASK,
}


@functools.cache
def monte_carlo(
    one_hot: bool, pair: tuple[float, float]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The KL of each row and its slope along DIRECTION, each with its standard error."""
    (t, t_prior), name = pair, SPACE["O" if one_hot else "B"]
    shape = (DRAWS, *LOGITS.shape) if one_hot else (DRAWS, *LOGITS.shape[:-1])
    noise = np.random.default_rng(0)
    noise = noise.gumbel(size=shape) if one_hot else noise.logistic(size=shape)
    part = slice(None) if one_hot else 0

    def draws(step: float) -> np.ndarray:
        logits = (LOGITS + step * DIRECTION)[..., part]
        y = (logits + noise) / t
        y = log_softmax(y, -1) if one_hot else y
        ratio = density(name, y, t, logits) - density(name, y, t_prior, PRIOR[..., part])
        return ratio.sum(-1)

    found = {"loss": draws(0.0), "slope": (draws(1e-3) - draws(-1e-3)) / 2e-3}
    return {what: (x.mean(0), x.std(0) / DRAWS**0.5) for what, x in found.items()}


def run(
    backend: Backend,
    name: str,
    site: str,
    pair: tuple[float, float],
    seed: int,
    elbo: str = "TraceMeanField_ELBO",
    **options: Any,
) -> np.ndarray:
    """The loss minus that of the constant likelihood, and the gradient by the guide's logits."""
    ppl, h = backend.ppl, backend.handlers
    distributions = backend.dist
    column = slice(None) if letter(name) == "O" else 0
    start = backend.array(LOGITS[..., column])
    mask = backend.array(MASK, "bool")
    # A straight-through prior would raise where a wrapper loses the sample of the guide's value.
    prior_name = name.removesuffix("StraightThrough")

    def sample(name: str, t: float, logits: Any) -> None:
        distribution = getattr(backend.names, name)(backend.array(t), logits=logits).to_event(1)
        EVERY[site](ppl, h, distribution, mask)

    def model() -> None:
        sample(prior_name, pair[1], backend.array(PRIOR[..., column]))
        normal = distributions.Normal(backend.array(0.0), backend.array(1.0))
        ppl.sample("x", normal, obs=backend.array(0.0))

    def guide() -> None:
        sample(name, pair[0], ppl.param("logits", start))

    infer = backend.infer
    objective = getattr(infer, elbo)(**options)
    if isinstance(backend, Torch):
        ppl.clear_param_store()
        ppl.set_rng_seed(seed)
        loss = objective.loss_and_grads(model, guide)
        gradient = ppl.param("logits").unconstrained().grad
    else:
        loss, gradient = jax.value_and_grad(
            lambda logits: objective.loss(jax.random.key(seed), {"logits": logits}, model, guide)
        )(start)
    return np.append(float(loss) - CONSTANT, backend.numpy(gradient))


def check(name: str, site: str, pair: tuple[float, float], got: np.ndarray) -> None:
    """Assert that loss and slope are within 5 standard errors of Monte Carlo (alarms: 5e-7)."""
    one_hot, weight = letter(name) == "O", WEIGHT.get(site, np.ones(3))
    direction = DIRECTION if one_hot else DIRECTION[..., 0]
    for what, x in {"loss": got[0], "slope": got[1:] @ direction.ravel()}.items():
        mean, error = monte_carlo(one_hot, pair)[what]
        assert abs(x - weight @ mean) < 5 * np.sqrt(weight**2 @ error**2)


@pytest.mark.parametrize(("name", "site"), CASES)
def test_the_loss_is_the_kl_without_noise(
    backend: Backend, name: str, site: str, seed: int
) -> None:
    """Two seeds give the same loss and gradient, bit for bit. Masked rows have no gradient."""
    for pair in PAIRS if site == "plate" else PAIRS[:1]:
        got = run(backend, name, site, pair, seed)
        np.testing.assert_array_equal(got, run(backend, name, site, pair, seed + 1))
        check(name, site, pair, got)
        gradient = got[1:].reshape(3, -1)
        assert np.array_equal((gradient != 0).any(-1), WEIGHT.get(site, np.ones(3)) != 0)


def test_particles(backend: Backend, seed: int) -> None:
    """Several particles, vectorised, give the same loss and gradient as one; rtol 1e-9."""
    options: dict[str, Any] = {"num_particles": 3, "vectorize_particles": True}
    if backend.framework == "pyro":
        options["max_plate_nesting"] = 1
    case = (backend, "RelaxedBernoulliStraightThrough", "plate", PAIRS[0], seed)
    np.testing.assert_allclose(run(*case, **options), run(*case), 1e-9)


def test_an_estimate_is_told_apart(backend: Backend, seed: int) -> None:
    """Trace_ELBO only estimates the KL, so its loss depends on the seed."""
    case = (backend, "RelaxedOneHotCategorical", "plate", PAIRS[0])
    losses = [run(*case, seed + n, elbo="Trace_ELBO")[0] for n in range(2)]
    assert abs(losses[0] - losses[1]) > 0.01


@pytest.mark.parametrize("one_hot", [True, False])
def test_another_kl_is_told_apart(one_hot: bool) -> None:
    """The KL of equal or swapped temperatures differs by far more than the tolerance."""
    mean, error = monte_carlo(one_hot, PAIRS[0])["loss"]
    for pair in (PAIRS[1], PAIRS[0][::-1]):
        wrong, _ = monte_carlo(one_hot, pair)["loss"]
        assert abs(wrong.sum() - mean.sum()) > 20 * np.sqrt(error @ error)
