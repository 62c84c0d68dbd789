"""The relaxed sample that a value keeps (in its carrier), in the frameworks' ELBOs.

An ELBO of distributions whose values carry the sample equals that of a program that needs no
carrier: a site of the log-space or logit-space distribution with ``straight_through`` after it,
with the same noise. The Jacobians of model and guide cancel.
"""

import importlib.util
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm

from carrying import (
    LOGITS,
    LOST,
    MASK,
    RIGHT,
    SITES,
    SPACE,
    TEMPERATURE,
    VIEWS,
    cells,
    density,
    enter,
    hard,
    letter,
    outcome,
)
from cases import STRAIGHT_THROUGH
from harness import BACKENDS, Backend, Jax, Torch, jax

PRIOR = np.random.default_rng(2).normal(0, 1, (3, 4))
WARM = 0.8  # the prior's temperature
WEIGHTS = np.array([-1.0, 0.5, 1.0, 2.0])
DATA = np.array([1.0, 0.0, -0.5])


class Program:
    """A model and a guide of a site z and an observation x, with or without the carrier."""

    def __init__(self, backend: Backend, name: str, prior: str, site: str, carried: bool) -> None:
        self.backend, self.name, self.prior, self.site = backend, name, prior, site
        self.carried = carried
        self.ppl, self.handlers = backend.ppl, backend.handlers

    def latent(self, name: str, temperature: float, logits: Any) -> Any:
        """The value of the site z: a draw, or computed from a log-space or logit-space site."""
        names, one_hot = self.backend.names, letter(self.name) == "O"
        cls = getattr(names, name if self.carried else SPACE[letter(name)])
        d = cls(self.backend.array(temperature), logits=logits).to_event(0 if one_hot else 1)
        mask = self.backend.array(MASK, "bool")
        value = SITES[self.site](self.ppl, self.handlers, d, mask)
        if self.carried:
            return value
        ops = self.backend.private.ops
        soft = ops.exp(value) if one_hot else 1 / (1 + ops.exp(-value))
        if self.name in VIEWS:
            return soft
        hard = ops.one_hot_argmax(value) if one_hot else (value > 0) * 1.0
        return names.straight_through(hard, soft)

    def model(self) -> None:
        """The prior and a Normal likelihood."""
        z = self.latent(self.prior, WARM, self.backend.array(PRIOR))
        mean = (z * self.backend.array(WEIGHTS)).sum(-1)
        with self.ppl.plate("data", 3):
            d = self.backend.dist.Normal(mean, self.backend.array(1.0))
            self.ppl.sample("x", d, obs=self.backend.array(DATA))

    def guide(self) -> None:
        """The distribution whose logits are fitted."""
        logits = self.ppl.param("logits", self.backend.array(LOGITS))
        self.latent(self.name, TEMPERATURE, logits)

    def loss(self, elbo: Any, seed: int) -> np.ndarray:
        """The loss, and its gradient with respect to the guide's logits."""
        # Like NumPyro's SVI, don't compile for a single particle or a loop over particles.
        whole = elbo.num_particles > 1 and elbo.vectorize_particles
        slopes = self.backend.language.slopes(elbo, self.model, self.guide, seed, whole)
        loss, grads = slopes({"logits": self.backend.array(LOGITS)})
        return np.append(loss, grads["logits"])


ONE, LOOP = {"num_particles": 1}, {"num_particles": 3, "vectorize_particles": False}
TOGETHER = {"num_particles": 3, "vectorize_particles": True}
SIMPLE = ["Trace_ELBO", "TraceMeanField_ELBO", "TraceGraph_ELBO"]
JIT = ["JitTrace_ELBO", "JitTraceMeanField_ELBO", "JitTraceGraph_ELBO"]
ELBOS: dict[str, dict[str, tuple[str, dict[str, Any], str]]] = {
    "pyro": {
        **{
            f"{elbo}-{how}": (elbo, options, RIGHT)
            for elbo in [*SIMPLE, *JIT, "RenyiELBO", "TraceEnum_ELBO"]
            for how, options in {"one": ONE, "loop": LOOP, "together": TOGETHER}.items()
        },
        "ReweightedWakeSleep": ("ReweightedWakeSleep", TOGETHER, LOST),  # it detaches the value
    },
    "numpyro": {
        **{f"{elbo}-together": (elbo, TOGETHER, RIGHT) for elbo in SIMPLE},
        "Trace_ELBO-loop": ("Trace_ELBO", LOOP, RIGHT),
        "RenyiELBO": ("RenyiELBO", {"num_particles": 3}, RIGHT),
        "multi_sample_guide": ("Trace_ELBO", {**LOOP, "multi_sample_guide": True}, LOST),
    },
}


def make_elbo(backend: Backend, name: str, options: dict[str, Any]) -> Any:
    """The framework's ELBO of this name, with the options that its tests need."""
    if isinstance(backend, Torch):
        options = {**options, "strict_enumeration_warning": False}
    if name.startswith("Jit"):
        options["ignore_jit_warnings"] = True
    return backend.language.make_elbo(name, **options)


def check_elbo(cell: str, elbo: Any, seed: int, *case: Any) -> None:
    """Check a cell of a table: loss and gradient equal those of the program without a carrier."""
    got = outcome(lambda: Program(*case, carried=True).loss(elbo, seed))
    assert (got is LOST) == (cell == LOST)
    if cell == RIGHT:
        expected = Program(*case, carried=False).loss(elbo, seed)
        np.testing.assert_allclose(got, expected, 1e-9, 1e-9)
        assert abs(expected).min() > 1e-9


# torch deprecates torch.jit.trace, which Pyro's Jit ELBOs are made of.
@pytest.mark.filterwarnings("ignore:.*torch.jit.trace:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*registered as constants in the trace")
@pytest.mark.share
@cells(ELBOS)
@pytest.mark.parametrize("name", STRAIGHT_THROUGH)
def test_each_elbo(framework: str, way: str, name: str, seed: int) -> None:
    """Loss and gradient of a straight-through guide with a relaxed prior, to 1e-9, or the error.

    A share of the cases runs each ELBO with one of the two distributions in turn.
    """
    elbo, options, cell = ELBOS[framework][way]
    backend, context = enter(framework)
    # Where the sample is lost, only a straight-through prior raises: a relaxed one would score
    # the numbers of the copy.
    prior = name if cell == LOST else VIEWS[STRAIGHT_THROUGH.index(name)]
    with context:
        made = make_elbo(backend, elbo, options)
        check_elbo(cell, made, seed, backend, name, prior, "plate")


@pytest.mark.share
@cells({framework: dict.fromkeys([*SITES, "soft"]) for framework in BACKENDS})
@pytest.mark.parametrize("name", STRAIGHT_THROUGH)
def test_each_site_of_an_elbo(framework: str, way: str, name: str, seed: int) -> None:
    """Masks, scales and soft values in model and guide, with three particles, to 1e-9.

    A share of the cases runs each kind of site with one of the two distributions in turn.
    """
    backend, context = enter(framework)
    if way == "soft":
        name, way = VIEWS[STRAIGHT_THROUGH.index(name)], "plate"
    with context:
        elbo = make_elbo(backend, "Trace_ELBO", TOGETHER)
        check_elbo(RIGHT, elbo, seed, backend, name, name, way)


@pytest.mark.parametrize("name", STRAIGHT_THROUGH)
def test_the_elbo_is_the_other_frameworks_and_the_papers(
    backend: Backend, name: str, seed: int
) -> None:
    """The loss at one draw equals that in NumPy, and that of each framework's log-space densities.

    They agree to 1e-9. The program has one site and one particle, since the order of draws differs
    between the frameworks.
    """
    prior = VIEWS[STRAIGHT_THROUGH.index(name)]
    program = Program(backend, name, prior, "plate", carried=True)
    y = backend.numpy(drawn(backend, program, seed))
    loss = program.loss(make_elbo(backend, "Trace_ELBO", ONE), seed)[0]
    mean = (hard(name, y) * WEIGHTS).sum(-1)
    likelihood = norm.logpdf(DATA, mean).sum()
    ratio = density(prior, y, WARM, PRIOR) - density(name, y, TEMPERATURE)
    np.testing.assert_allclose(loss, -(ratio.sum() + likelihood), 1e-9)
    for framework in BACKENDS:
        if importlib.util.find_spec(framework) is not None:
            there, context = enter(framework)
            with context:
                cls = getattr(there.names, SPACE[letter(name)])
                p = cls(there.array(WARM), logits=there.array(PRIOR))
                q = cls(there.array(TEMPERATURE), logits=there.array(LOGITS))
                at = there.array(y.copy())  # a JAX array's buffer is read-only
                ratio = there.numpy(p.log_prob(at) - q.log_prob(at))
            np.testing.assert_allclose(loss, -(ratio.sum() + likelihood), 1e-9)


def drawn(backend: Backend, program: Program, seed: int) -> Any:
    """The log value that an ELBO's guide draws from a seed."""
    log_space = Program(backend, program.name, program.prior, program.site, carried=False)
    # In JAX this is the key that Trace_ELBO splits off for the guide.
    key = jax.random.split(jax.random.key(seed))[1] if isinstance(backend, Jax) else seed
    return backend.language.trace(log_space.guide, key)["z"]["value"]
