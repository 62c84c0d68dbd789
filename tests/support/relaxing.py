"""What the tests of the relaxation of a model share: a program's sites and density, by name."""

import importlib
from typing import Any

from harness import Backend, Torch


def ppl(backend: Backend) -> Any:
    """The framework: its sample statement, its plates."""
    return importlib.import_module(backend.framework)


def laws(backend: Backend) -> Any:
    """The framework's own distributions."""
    return importlib.import_module(f"{backend.framework}.distributions")


def handlers(backend: Backend) -> Any:
    """The framework's handlers; most have the same names in both."""
    return importlib.import_module(
        "pyro.poutine" if isinstance(backend, Torch) else "numpyro.handlers"
    )


def sites(backend: Backend, program: Any, seed: int = 0) -> dict[str, Any]:
    """The sites of one run of a program, by name."""
    h = handlers(backend)
    if isinstance(backend, Torch):
        ppl(backend).set_rng_seed(seed)
        return dict(h.trace(program).get_trace().nodes)
    return dict(h.trace(h.seed(program, rng_seed=seed)).get_trace())


def values(backend: Backend, program: Any, seed: int = 0) -> dict[str, Any]:
    """The values of the sites of one run of a program, by name."""

    def run() -> dict[str, Any]:
        found = sites(backend, program, seed).items()
        return {n: site["value"] for n, site in found if site["type"] not in ("args", "return")}

    return backend.compiled(run)()


def kind(site: dict[str, Any]) -> str:
    """Whether a site is latent, observed or deterministic."""
    if site["type"] == "deterministic" or site["infer"].get("_deterministic"):
        return "deterministic"
    return "observed" if site["is_observed"] else "latent"


def log_density(backend: Backend, program: Any, given: dict[str, Any]) -> float:
    """The joint log density of a program with values given to its latent sites, scales counted."""
    h = handlers(backend)
    if isinstance(backend, Torch):
        return float(h.trace(h.condition(program, data=given)).get_trace().log_prob_sum())
    from numpyro.infer.util import log_density as density

    seeded = h.seed(program, rng_seed=0)
    return float(backend.compiled(lambda given: density(seeded, (), {}, given)[0])(given))


def optimiser(backend: Backend, rate: float) -> Any:
    """Adam."""
    adam = ppl(backend).optim.Adam
    return adam({"lr": rate}) if isinstance(backend, Torch) else adam(rate)
