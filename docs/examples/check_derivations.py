"""Check the library's values of every formula on the page of derivations against references.

A row has the value that the library computes (in float64, by each installed framework), the value
of derivation_references.py, their difference and its bound. Exits with 1 if a bound is exceeded.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import sys
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from derivation_formulas import Framework, groups


def pyro() -> Framework:
    """The functions of torch and Pyro that the checks need."""
    import torch

    from relaxed_dists import pyro as names
    from relaxed_dists_torch.ops import ops

    def array(x: Any) -> Any:
        return torch.tensor(np.asarray(x), dtype=torch.float64)

    def gradient(f: Any, x: Any) -> Any:
        leaf = x.clone().requires_grad_()
        return torch.autograd.grad(f(leaf).sum(), leaf)[0]

    kl = torch.distributions.kl_divergence
    return Framework("Pyro", names, ops, array, kl, gradient, lambda f: f())


def numpyro() -> Framework:
    """The functions of JAX and NumPyro that the checks need."""
    import jax
    import jax.numpy as jnp
    from numpyro.distributions import kl_divergence

    from relaxed_dists import numpyro as names
    from relaxed_dists_jax.ops import ops

    jax.config.update("jax_enable_x64", True)

    def gradient(f: Any, x: Any) -> Any:
        return jax.grad(lambda leaf: f(leaf).sum())(x)

    def run(f: Any) -> Any:
        return jax.jit(f)()

    def array(x: Any) -> Any:
        return jnp.asarray(np.asarray(x, np.float64))

    return Framework("NumPyro", names, ops, array, kl_divergence, gradient, run)


FRAMEWORKS = {"pyro": pyro, "numpyro": numpyro}


def main() -> int:
    """Run the checks and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer formulas and draws")
    quick = parser.parse_args().quick
    found = [make() for name, make in FRAMEWORKS.items() if importlib.util.find_spec(name)]
    if not found:
        sys.exit("Neither Pyro nor NumPyro is installed: install an extra, relaxed-dists[pyro].")
    table = Table(
        caption="Differences are over max(1, |reference|), or |reference|. K = 10 is by draws."
    )
    for column in ("formula", "", "library", "reference", "difference", "bound"):
        table.add_column(column, justify="left" if column in ("formula", "") else "right")
    failed = 0
    for library, formulas in groups(quick):
        computed = [f.run(functools.partial(library, f)) for f in found]
        for formula, *values in zip(formulas, *computed, strict=True):
            for framework, value in zip(found, values, strict=True):
                ours, reference, difference, bound = formula.worst(value)
                fine = difference <= bound
                failed += not fine
                numbers = f"{ours:.7g}", f"{reference:.7g}", f"{difference:.1e}", f"{bound:.1e}"
                name = formula.name if framework is found[0] else ""
                table.add_row(name, framework.name, *numbers, style=None if fine else "bold red")
    Console(width=100).print(table)
    print(f"{failed} of {table.row_count} are off." if failed else "All are within their bounds.")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
