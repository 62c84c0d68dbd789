"""A script that converts the distributions to funsor, which allows one backend in a process."""

import sys

import numpy as np

from cases import DISCRETE
from harness import BACKENDS
from machinery import NAMES, made


def main(framework: str) -> None:
    """Print the name of each distribution that funsor accepts, and the errors for all others.

    An accepted distribution must give the same funsor as the framework's own.
    """
    backend = BACKENDS[framework]()
    distributions = {name: made(backend, name, dtype="float32") for name in NAMES}
    import funsor  # funsor isn't loaded before, so its backend can still be set

    funsor.set_backend({"pyro": "torch", "numpyro": "jax"}[framework])
    distributions["Bernoulli"] = made(backend, "Bernoulli", dtype="float32")
    taken = DISCRETE if framework == "pyro" else ["Bernoulli"]
    for name, d in distributions.items():
        if name in taken:
            theirs = getattr(backend.dist, name)
            own = theirs(logits=d.logits)
            mine, theirs = (funsor.to_funsor(x, funsor.Real, {-1: "row"}) for x in (d, own))
            assert type(mine) is type(theirs)
            for row in (0, 1):
                found, expected = (f(value=d.mode[0], row=row).data for f in (mine, theirs))
                np.testing.assert_allclose(found, expected, rtol=1e-5)
            print(name, "taken")
            continue
        try:
            funsor.to_funsor(d)
        except ValueError as error:
            print(error)


if __name__ == "__main__":
    main(sys.argv[1])
