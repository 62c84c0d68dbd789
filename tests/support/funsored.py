"""Each distribution in funsor, in a process of its own: funsor has one backend a process."""

import sys

import numpy as np

from cases import DISCRETE
from harness import BACKENDS
from machinery import NAMES, made


def main(framework: str) -> None:
    """Compare the discrete distributions with the framework's own, and print what is refused."""
    backend = BACKENDS[framework]()
    distributions = {name: made(backend, name, dtype="float32") for name in NAMES}
    import funsor  # NumPyro has not loaded it before

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
