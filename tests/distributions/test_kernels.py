"""A kernel, a framework's faster code for a formula, has the formula's numbers and gradients."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from harness import Backend
from relaxed_dists._distributions import (
    bernoulli,
    discrete,
    divergences,
    formulas,
    hard_concrete,
    log_moments,
    one_hot,
    permutation,
    quadrature,
    subset,
)

K, N = 4, 6
STRETCH = hard_concrete.stretch("HardConcrete", -0.1, 1.1)
Arrays = dict[str, Any]


def arrays(masked: bool, seed: int) -> dict[str, np.ndarray]:
    """The arguments of the formulas, in N rows, perhaps with a masked category or number."""
    rng = np.random.default_rng(seed)
    found = {
        "logits": rng.normal(size=(N, K)),
        "other": rng.normal(size=(N, K)),
        "numbers": rng.normal(size=N),
        "others": rng.normal(size=N),
        "t": rng.uniform(0.3, 2, N),
        "s": rng.uniform(0.3, 2, N),
        "gumbel": rng.gumbel(size=(N, K)),
        "logistic": rng.logistic(size=N),
        "y": np.log(rng.dirichlet(np.ones(K), N)),
        "z": rng.uniform(0.1, 0.9, N),
        "two": np.eye(K)[np.arange(N) % K] + np.eye(K)[(np.arange(N) + 1) % K],
        "scores": rng.normal(size=(N, K, K)),
        "noises": rng.gumbel(size=(N, K, K)),
        "masses": rng.uniform(0, 0.4, (N, 2)),
    }
    if masked:
        found["logits"][0, 0] = found["other"][0, 0] = found["y"][0, 0] = -np.inf
        found["numbers"][0] = found["others"][0] = -np.inf
    return found


# The arguments of each formula: names of arrays, or Python values.
LOGITS, NUMBERS = ("logits", "t"), ("numbers", "t")
CASES: dict[Any, tuple[Any, ...]] = {
    formulas.hard_argmax: ("logits", "gumbel"),
    formulas.softmaxes: ("gumbel", "t[]"),
    discrete.bernoulli_log_prob: ("numbers", "z"),
    discrete.bernoulli_kl: ("numbers", "others"),
    discrete.categorical_kl: ("logits", "other"),
    one_hot.concrete: (*LOGITS, "gumbel"),
    one_hot.straight_through_concrete: (*LOGITS, "gumbel"),
    one_hot.concrete_value: (*LOGITS, "gumbel", False),
    one_hot.exp_concrete_log_prob: (*LOGITS, "y"),
    one_hot.concrete_log_prob: (*LOGITS, "y"),
    one_hot.own_concrete_log_prob: (*LOGITS, "y"),
    bernoulli.logit_concrete: (*NUMBERS, "logistic"),
    bernoulli.binary_concrete: (*NUMBERS, "logistic"),
    bernoulli.straight_through_binary_concrete: (*NUMBERS, "logistic"),
    bernoulli.binary_concrete_value: (*NUMBERS, "logistic", False),
    discrete.hard_sign: ("numbers", "logistic"),
    discrete.categorical_log_prob: ("logits", "two"),
    bernoulli.logit_concrete_log_prob: (*NUMBERS, "logistic"),
    bernoulli.binary_concrete_log_prob: (*NUMBERS, "logistic"),
    quadrature.concrete_moments: LOGITS,
    quadrature.binary_concrete_moments: NUMBERS,
    log_moments.exp_concrete_moments: LOGITS,
    divergences.concrete_entropy: LOGITS,
    divergences.binary_concrete_entropy: NUMBERS,
    divergences.concrete_kl: (*LOGITS, "other", "s"),
    divergences.logit_concrete_kl: (*NUMBERS, "others", "s"),
    subset.largest: ("logits", "gumbel", 2),
    subset.relaxed: (2, False, *LOGITS, "gumbel"),
    subset.rounds: (2, "gumbel", "t[]"),
    subset.one_round: ("gumbel", "t[]"),
    subset.log_prob: (2, "logits", "two"),
    subset.inclusion: (2, "logits"),
    subset.entropy: (2, "logits", "every"),
    permutation.relaxed: (5, False, "scores", "t", "noises"),
    hard_concrete.masses: (*NUMBERS, STRETCH),
    hard_concrete.prob_nonzero: (*NUMBERS, STRETCH),
    hard_concrete.prob_one: (*NUMBERS, STRETCH),
    hard_concrete.log_prob: (*NUMBERS, "z", STRETCH),
    hard_concrete.crossing: (*NUMBERS, "masses", STRETCH),
    hard_concrete.cdf: (*NUMBERS, "z", STRETCH),
    hard_concrete.moments: (*NUMBERS, STRETCH),
    hard_concrete.entropy: (*NUMBERS, STRETCH),
    hard_concrete.kl: (*NUMBERS, "others", "s", STRETCH),
}
# Formulas without a gradient, or whose gradient only the kernel has.
NO_GRADIENT = {
    discrete.hard_sign,
    formulas.hard_argmax,
    one_hot.straight_through_concrete,
    subset.largest,
}
# The kernels of JAX that are more than the compiled formulas.
WRITTEN = ("bernoulli.", "one_hot.", "formulas.softmaxes", "subset.one_round")
BY_NAME = {formula.name: formula for formula in CASES}


def test_each_kernel_has_a_row(backend: Backend) -> None:
    """Each kernel is in the table, so that a new kernel is compared with its formula."""
    assert backend.names.Bernoulli  # importing it registers the kernels
    assert set(backend.private.ops.kernels) <= set(BY_NAME)
    assert len(backend.private.ops.kernels) >= 16


def both(backend: Backend, formula: Any, masked: bool, seed: int) -> tuple[list[Any], list[Any]]:
    """The numbers and the gradients of the kernel, and those of the formula."""
    given = arrays(masked, seed)
    every = subset.support("Subset", 2, K)
    names = [name for name in CASES[formula] if isinstance(name, str)]
    wanted = [n for n in ("logits", "numbers", "t", "scores") if n in names]
    wanted = wanted or ["gumbel"]
    if formula is one_hot.own_concrete_log_prob:
        wanted = ["t", "y"]  # an own sample's scores get no gradient
    kernel = backend.private.ops.kernels[formula.name]

    def outputs(way: Callable[..., Any], ops: Any, *leaves: Any) -> list[Any]:
        mine = dict(zip(wanted, leaves, strict=True))
        made = []
        for name in CASES[formula]:
            if not isinstance(name, str):
                made.append(name)
            elif name == "t[]":
                made.append(backend.array(given["t"])[..., None])
            elif name == "every":
                made.append(backend.array(every))
            else:
                made.append(mine[name] if name in mine else backend.array(given[name]))
        result = way(ops, *made)
        return list(result) if isinstance(result, tuple) else [result]

    def all_of(way: Callable[..., Any], ops: Any) -> list[Any]:
        leaves = [backend.array(given[name]) for name in wanted]
        values = backend.compiled(functools.partial(outputs, way, ops))
        found = [backend.numpy(x) for x in values(*leaves)]
        # JAX's kernels of integrals and loops are compiled formulas: their numbers are enough.
        compiled = backend.framework == "numpyro" and not formula.name.startswith(WRITTEN)
        if formula in NO_GRADIENT or compiled:
            return found

        def total(*leaves: Any) -> Any:
            parts = outputs(way, ops, *leaves)
            where = [np.isfinite(x) for x in found]
            weights = [np.cos(np.arange(x.size)).reshape(x.shape) for x in found]
            return sum(
                (backend.array(w) * ops.where(backend.array(fine, "bool"), part, 0.0)).sum()
                for w, fine, part in zip(weights, where, parts, strict=True)
            )

        gradients = backend.grad(backend.compiled(total), *leaves)
        if formula is one_hot.own_concrete_log_prob:
            # The way back of the draw that made y leaves out the masked categories.
            gradients[1] = np.where(np.isfinite(given["y"]), gradients[1], 0.0)
        return found + gradients

    plain = type(backend.private.ops)()  # without kernels
    return all_of(kernel, backend.private.ops), all_of(formula.formula, plain)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", sorted(BY_NAME))
def test_a_kernel_is_its_formula(
    backend: Backend, name: str, masked: bool, seed: int, whole: bool
) -> None:
    """Kernel and formula agree to 1e-9: rows may share the tables of integrals."""
    if name not in backend.private.ops.kernels:
        pytest.skip("computed by the formula itself")
    if backend.framework == "numpyro" and not (masked and (whole or name.startswith(WRITTEN))):
        pytest.skip("one program for both, and the formula compiled is held with --whole")
    with backend.double():
        mine, expected = both(backend, BY_NAME[name], masked, seed)
        for x, y in zip(mine, expected, strict=True):
            np.testing.assert_allclose(x, y, 1e-9, 1e-9)


@pytest.mark.parametrize("name", ["one_hot.concrete_log_prob", "bernoulli.logit_concrete"])
def test_a_kernel_off_by_a_millionth_fails(
    backend: Backend, name: str, seed: int, monkeypatch: Any
) -> None:
    """The test sees a relative error of 1e-6."""
    formula = BY_NAME[name]
    wrong = lambda ops, *given: formula.formula(ops, *given) * (1 + 1e-6)  # noqa: E731
    monkeypatch.setitem(backend.private.ops.kernels, name, wrong)
    with backend.double(), pytest.raises(AssertionError, match="Not equal to tolerance"):
        test_a_kernel_is_its_formula(backend, name, True, seed, True)
