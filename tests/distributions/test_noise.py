"""The noise: its tails in float32, and the categories' frequencies in the half precisions.

False-alarm rate 1e-4 for each check (fixed seeds by default).
"""

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy import special, stats

from harness import Backend

ALARM = 1e-4
N = 10_000_000


def gumbel_above(c: float) -> float:
    """The chance that a standard Gumbel variable exceeds c."""
    return -math.expm1(-math.exp(-c))


def logistic_above(c: float) -> float:
    """The chance that a standard logistic variable exceeds c."""
    return float(special.expit(-c))


def flaws(values: np.ndarray, above: Callable[[float], float]) -> set[str]:
    """What is wrong with the upper tail of N values of a distribution whose tail is exponential.

    Seen almost surely: counts off by half, a cut below 13, a fifth of the tail in ties.
    """
    assert np.isfinite(values).all()
    tail, found = values[values > 10], set()
    # Of N values about log N + Gumbel; 1 - above(x) to the power N is the exact cdf.
    cdf = math.exp(N * math.log1p(-above(values.max())))
    if min(cdf, 1 - cdf) < ALARM / 2:
        found.add("maximum")
    for c in (10, 11, 12, 13, 14):
        count, mean = (tail > c).sum(), N * above(c)
        if min(stats.poisson.cdf(count, mean), stats.poisson.sf(count - 1, mean)) < ALARM / 2:
            found.add("counts")
    if len(tail) == 0 or stats.kstest(tail - 10, stats.expon.cdf).pvalue < ALARM:
        found.add("shape")
    # About 61 values. Of 32 random bits 0.07 of their pairs coincide, of float32 0.001.
    top = tail[tail > 12]
    if len(np.unique(top)) < len(top) - 2:
        found.add("ties")
    return found


def test_gumbel_noise_has_an_exact_upper_tail(backend: Backend, seed: int) -> None:
    """The largest of 10 million, the counts, the shape and the spacing above 12, in float32."""
    draws = backend.numpy(backend.noise(True, seed, (N,), "float32"))
    assert flaws(draws, gumbel_above) == set()


def test_noise_of_small_draws_is_as_good(backend: Backend, seed: int) -> None:
    """The same of 500 draws, which torch's own generator makes where larger ones are NumPy's."""
    parts = [backend.noise(True, 500 * seed + i, (N // 500,), "float32") for i in range(500)]
    assert flaws(np.concatenate([backend.numpy(x) for x in parts]), gumbel_above) == set()


@pytest.mark.parametrize("number", [9, 100_001])
@pytest.mark.parametrize("rows", [True, False])
def test_a_seed_gives_the_same_noise_again(
    backend: Backend, rows: bool, number: int, seed: int
) -> None:
    """And another seed other noise, whatever makes the bits."""
    one, again, other = (
        backend.numpy(backend.noise(rows, s, (number,), "float32")) for s in (seed, seed, seed + 1)
    )
    np.testing.assert_array_equal(one, again)
    assert (one != other).mean() > 0.99


@pytest.mark.parametrize("number", [1, 64, 65, 1001])
def test_words_are_those_of_jaxs_own_rounds(number: int, seed: int) -> None:
    """Threefry-2x32 of the counters (0, 1), (1, 1), ...: all first words, then all second ones."""
    jax = pytest.importorskip("jax")
    noise = pytest.importorskip("relaxed_dists_jax.noise")
    from jax.extend.random import threefry_2x32

    key, half = jax.random.key_data(jax.random.key(seed)), (number + 1) // 2
    counters = np.concatenate([np.arange(half), np.ones(half)]).astype(np.uint32)
    expected = threefry_2x32(key, jax.numpy.asarray(counters))[:number]
    np.testing.assert_array_equal(noise._threefry(key, number), expected)


@pytest.mark.parametrize("name", ["LogitRelaxedBernoulli", "ExpRelaxedOneHotCategorical"])
def test_laws_have_exact_tails_on_both_sides(backend: Backend, name: str, seed: int) -> None:
    """At temperature 1 and equal weights the logit, and the log ratio, are standard logistic."""
    rows = name[0] == "E"
    logits = backend.array(np.zeros(2 if rows else ()), "float32")
    value = backend.draw(getattr(backend.names, name)(1.0, logits=logits), seed, (N,))
    draws = backend.numpy(value[:, 0] - value[:, 1] if rows else value)
    assert flaws(draws, logistic_above) == set()
    assert flaws(-draws, logistic_above) == set()


def test_noise_from_a_uniform_grid_is_rejected(backend: Backend, seed: int) -> None:
    """The framework's float32 uniform ties its largest values; a grid of 2^-11 cuts the tail."""
    if backend.framework == "pyro":
        import torch

        torch.manual_seed(seed)
        uniform = torch.rand(N).numpy()
    else:
        import jax

        uniform = np.asarray(jax.random.uniform(jax.random.key(seed), (N,), "float32"))
    fine = np.maximum(uniform, 2.0**-25).astype(np.float64)
    assert "ties" in flaws(-np.log(-np.log1p(-fine)), gumbel_above)
    assert "ties" in flaws(special.logit(fine), logistic_above) | flaws(
        -special.logit(fine), logistic_above
    )
    coarse = (np.floor(fine * 2**11) + 0.5) / 2**11
    found = flaws(-np.log(-np.log1p(-coarse)), gumbel_above)
    assert {"maximum", "counts", "shape"} <= found


@pytest.mark.share("backend")
@pytest.mark.parametrize(
    ("k", "n", "low", "high"), [(10, 500_000, -8, 0), (1000, 20_000, -1.5, 1.5)]
)
@pytest.mark.parametrize(("dtype", "bits"), [("bfloat16", 8), ("float16", 11)])
def test_categories_in_half_precision(
    backend: Backend, dtype: str, bits: int, k: int, n: int, low: float, high: float, seed: int
) -> None:
    """Each comes first as often as its probability says; not so with noise of that precision.

    Chi-square: with K = 10 the rarest, of one draw in 5,000, is lost where the noise ends at 7.6;
    with K = 1,000 frequencies that are off by a quarter throughout are rejected.
    Both K and both precisions in each framework, but not each with each, which --whole takes.
    """
    names, rng = backend.names, np.random.default_rng(seed)
    logits = backend.array(np.linspace(low, high, k), dtype)
    expected = n * special.softmax(backend.numpy(logits))
    for distribution in (
        names.RelaxedOneHotCategoricalStraightThrough(0.5, logits=logits),
        names.OneHotCategorical(logits=logits),
    ):
        value = backend.draw(distribution, seed, (n,))
        assert str(value.dtype).endswith(dtype)
        assert stats.chisquare(backend.numpy(value).sum(0), expected).pvalue > ALARM
    grid = -np.log(-np.log(np.arange(1, 2**bits) / 2**bits)).astype(np.float32)
    noise = backend.array(grid[rng.integers(0, len(grid), (n, k), np.uint16)], dtype)
    first = np.bincount(np.asarray((noise + logits).argmax(-1)), minlength=k)
    assert stats.chisquare(first, expected).pvalue < ALARM
