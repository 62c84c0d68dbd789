"""What the processes do that tests/devices/test_jax_processes.py starts.

    python jaxrunning.py FOLDER CHECK --coordinator ADDRESS --process NUMBER

Two processes run the training of docs/examples/distributed_numpyro.py over both their devices. The
check `pause` runs it whole, and then once more, until process 1 prints its number and waits to be
killed. The check `resume` goes on from what is saved; without an address, it starts both processes.
Each process writes what it found to FOLDER/CHECK.PROCESS.json.
"""

import importlib.util
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import numpyro
from jax.sharding import NamedSharding, PartitionSpec
from numpyro.distributions import Normal

import distributed_numpyro
from relaxed_dists.numpyro import Bernoulli, exact_evidence

END, PAUSE = 10, 6


def listed(parameters: Any) -> dict[str, list[float]]:
    """Parameters as lists."""
    return {name: np.asarray(value).ravel().tolist() for name, value in parameters.items()}


def parts() -> str:
    """What save says about a state of which each process holds a part."""
    svi, mesh = distributed_numpyro.make(), jax.make_mesh((2,), ("i",))
    state = jax.jit(svi.init)(jax.random.key(0), np.zeros(4))
    split = NamedSharding(mesh, PartitionSpec("i"))
    means = jax.make_array_from_callback((4,), split, lambda index: np.zeros(4)[index])
    try:
        svi.save("unwritten", state._replace(mutable_state={"x": means}))
    except ValueError as error:
        return str(error)
    return "no error"


def exact() -> float | None:
    """The evidence of four rows of which each process holds two; None without funsor."""
    if importlib.util.find_spec("funsor") is None:
        return None
    split = NamedSharding(jax.make_mesh((2,), ("i",)), PartitionSpec("i"))
    rows = jax.make_array_from_callback((4,), split, lambda index: np.arange(4.0)[index])

    def model(x: jax.Array) -> None:
        with numpyro.plate("rows", 4):
            z = numpyro.sample("z", Bernoulli(probs=0.5))
            numpyro.sample("x", Normal(z, 1.0), obs=x)

    return exact_evidence({}, model, rows)


def pause(folder: Path) -> None:
    """The whole training, then one that is saved after every second step until it pauses."""
    found = {"whole": listed(distributed_numpyro.train(END)), "parts": parts()}
    found["exact"] = exact()
    found["written"] = Path("unwritten").exists()
    write(folder, "pause", found)
    save = distributed_numpyro.save

    def wait(svi: Any, state: Any, place: Path) -> None:
        save(svi, state, place)
        if int(state.optim_state[0]) == PAUSE and jax.process_index() == 1:
            print(os.getpid(), flush=True)
            time.sleep(600)

    distributed_numpyro.save = wait
    distributed_numpyro.train(END, folder / "saved", every=2)


def resume(folder: Path) -> None:
    """The training from its last checkpoint, and the temperature of its first step."""
    temperatures, load = [], distributed_numpyro.load

    def loaded(svi: Any, state: Any, place: Path) -> Any:
        state = load(svi, state, place)
        temperatures.append(float(svi.current_temperature(state)))
        return state

    distributed_numpyro.load = loaded
    end = distributed_numpyro.train(END, folder / "saved", every=2)
    write(folder, "resume", {"end": listed(end), "temperatures": temperatures})


def write(folder: Path, check: str, found: dict[str, Any]) -> None:
    """Write what this process found."""
    (folder / f"{check}.{jax.process_index()}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    if len(sys.argv) == 3:
        distributed_numpyro.start(sys.argv, 2)
    else:
        place, check, _, address, _, process = sys.argv[1:]
        jax.config.update("jax_enable_x64", True)
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(address, 2, int(process))
        {"pause": pause, "resume": resume}[check](Path(place))
