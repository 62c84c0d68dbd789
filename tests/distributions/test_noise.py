"""The noise: its tails in float32, and the categories' frequencies in the half precisions.

Each check has a false-alarm rate of 1e-4 (seeds are fixed by default).
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

    It almost surely sees counts off by half, a tail that ends below 13, and a fifth of ties.
    """
    assert np.isfinite(values).all()
    tail, found = values[values > 10], set()
    # The maximum of N values is about log N plus a Gumbel; its cdf is (1 - above(x)) to the N.
    cdf = math.exp(N * math.log1p(-above(values.max())))
    if min(cdf, 1 - cdf) < ALARM / 2:
        found.add("maximum")
    for c in (10, 11, 12, 13, 14):
        count, mean = (tail > c).sum(), N * above(c)
        if min(stats.poisson.cdf(count, mean), stats.poisson.sf(count - 1, mean)) < ALARM / 2:
            found.add("counts")
    if len(tail) == 0 or stats.kstest(tail - 10, stats.expon.cdf).pvalue < ALARM:
        found.add("shape")
    # About 61 values are this large. 32 random bits would give 0.07 equal pairs among them.
    top = tail[tail > 12]
    if len(np.unique(top)) < len(top) - 2:
        found.add("ties")
    return found


def test_gumbel_noise_has_an_exact_upper_tail(backend: Backend, seed: int) -> None:
    """The upper tail of 10 million float32 values has the right maximum, counts and spacing."""
    draws = backend.numpy(backend.noise(True, seed, (N,), "float32"))
    assert flaws(draws, gumbel_above) == set()


def test_noise_of_small_draws_is_as_good(backend: Backend, seed: int) -> None:
    """500 small draws have the same tail: torch's generator makes them, not NumPy's."""
    parts = [backend.noise(True, 500 * seed + i, (N // 500,), "float32") for i in range(500)]
    assert flaws(np.concatenate([backend.numpy(x) for x in parts]), gumbel_above) == set()


@pytest.mark.parametrize("number", [9, 100_001])
@pytest.mark.parametrize("rows", [True, False])
def test_a_seed_gives_the_same_noise_again(
    backend: Backend, rows: bool, number: int, seed: int
) -> None:
    """A seed gives equal noise twice, and another seed other noise, for small and large draws."""
    one, again, other = (
        backend.numpy(backend.noise(rows, s, (number,), "float32")) for s in (seed, seed, seed + 1)
    )
    np.testing.assert_array_equal(one, again)
    assert (one != other).mean() > 0.99


@pytest.mark.parametrize("number", [1, 64, 65, 1001])
def test_words_are_those_of_jaxs_own_rounds(number: int, seed: int) -> None:
    """The random words are Threefry-2x32 of counters (0, 1), (1, 1), ...: all first, all second."""
    jax = pytest.importorskip("jax")
    noise = pytest.importorskip("relaxed_dists_jax.noise")
    from jax.extend.random import threefry_2x32

    key, half = jax.random.key_data(jax.random.key(seed)), (number + 1) // 2
    counters = np.concatenate([np.arange(half), np.ones(half)]).astype(np.uint32)
    expected = threefry_2x32(key, jax.numpy.asarray(counters))[:number]
    np.testing.assert_array_equal(noise._threefry(key, number), expected)


@pytest.mark.parametrize("shape", [(), (1,), (7,), (2, 3, 4), (5, 1, 13)])
def test_each_place_has_its_word(shape: tuple[int, ...], seed: int) -> None:
    """The words that devices make of a sharded array are those that one device makes."""
    jax = pytest.importorskip("jax")
    noise = pytest.importorskip("relaxed_dists_jax.noise")
    key = jax.random.key_data(jax.random.key(seed))
    expected = noise._threefry(key, math.prod(shape)).reshape(shape)
    np.testing.assert_array_equal(noise._threefry_by_place(key, shape), expected)


@pytest.mark.parametrize("shape", [(5, 3, 4), (5, 3, 16), (3, 5, 7), (7, 3)])
def test_no_counter_is_used_twice(
    shape: tuple[int, ...], seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More words than one word can count have counters (place, row), here at a limit of 16."""
    jax = pytest.importorskip("jax")
    noise = pytest.importorskip("relaxed_dists_jax.noise")
    monkeypatch.setattr(noise, "MOST", 16)
    words = noise._threefry_by_place.__wrapped__(jax.random.key_data(jax.random.key(seed)), shape)
    assert len(np.unique(words)) == math.prod(shape)  # equal by chance: once in 10^5 runs


@pytest.mark.parametrize("name", ["LogitRelaxedBernoulli", "ExpRelaxedOneHotCategorical"])
def test_laws_have_exact_tails_on_both_sides(backend: Backend, name: str, seed: int) -> None:
    """With temperature 1 and equal logits, the logit or log ratio is standard logistic."""
    rows = name[0] == "E"
    logits = backend.array(np.zeros(2 if rows else ()), "float32")
    value = backend.draw(getattr(backend.names, name)(1.0, logits=logits), seed, (N,))
    draws = backend.numpy(value[:, 0] - value[:, 1] if rows else value)
    assert flaws(draws, logistic_above) == set()
    assert flaws(-draws, logistic_above) == set()


def test_noise_from_a_uniform_grid_is_rejected(backend: Backend, seed: int) -> None:
    """Noise from the framework's float32 uniform has ties; from a grid of 2^-11 its tail ends."""
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
    """Categories have their probabilities, which half-precision noise would not give.

    This is a chi-square test. With K = 10 half-precision noise ends at 7.6 and never draws the
    rarest category, 1 in 5,000. With K = 1,000 frequencies would be off by a quarter. Each
    framework runs both K and both precisions, and with --whole every pair of them.
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
