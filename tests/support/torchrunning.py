"""What the processes do that tests/devices/test_torchrun.py starts.

    python torchrunning.py FOLDER

runs the checks of two ranks, what four ranks and one make of their checkpoints, a training that is
killed, and its restart. It calls torchrun's launcher from Python, to fork ranks that need not
import torch. Each rank writes what it found to FOLDER/CHECKS.RANK.of.NUMBER.json. Some checks run
the trainings of docs/examples.
"""

import copy
import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pyro
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from pyro.distributions import Normal
from pyro.infer import Trace_ELBO
from torch import Tensor, nn
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.fsdp import fully_shard
from torch.distributed.launcher.api import LaunchConfig, elastic_launch
from torch.nn.parallel import DistributedDataParallel

import distributed_pyro
import distributed_torch
from relaxed_dists.pyro import AnnealedSVI, GumbelSoftmax, OneHotCategorical
from relaxed_dists.schedules import linear
from relaxed_dists.torch import StraightThrough, gumbel_softmax, sample_one_hot, straight_through

# Without a GPU, fully_shard of torch 2.6 ends in torch's error: 'Stream' has no 'record_event'.
SHARDED = torch.__version__ >= "2.8"
WRAPS = {"ddp": DistributedDataParallel} | ({"fsdp": fully_shard} if SHARDED else {})
ROWS, STEPS, PAUSE, END = 32, 4, 7, 10
SCHEDULE = linear(1.0, 0.3, 10)
X = torch.linspace(-1.0, 1.0, ROWS * 6).reshape(6, ROWS).T


def whole(tensor: Tensor) -> Tensor:
    """The tensor without its gradient, and with the parts of all ranks."""
    tensor = tensor.detach()
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def everyone(tensor: Tensor) -> Tensor:
    """The tensors of all ranks, one in each row."""
    found = [torch.empty_like(tensor) for _ in range(dist.get_world_size())]
    dist.all_gather(found, tensor.contiguous())
    return torch.stack(found)


def parameters() -> Tensor:
    """All numbers in Pyro's param store, in the order of their names."""
    named = sorted(pyro.get_param_store().named_parameters())
    return torch.cat([whole(tensor).flatten() for _, tensor in named])


def message(call: Callable[[], object]) -> str:
    """The text of the error that a call raises."""
    try:
        call()
    except ValueError as error:
        return str(error)
    return "no error"


def coder(
    wrap: Callable[[nn.Module], nn.Module], flat: int = -1
) -> tuple[AnnealedSVI, list[float]]:
    """An SVI with an encoder and a decoder in wrappers, and the temperatures that it uses.

    On the rank `flat` the data do not depend on the codes, so that all derivatives are 0 there.
    """
    pyro.clear_param_store()
    pyro.set_rng_seed(5)
    encoder = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 12))
    decoder = nn.Sequential(nn.Linear(12, 8), nn.Tanh(), nn.Linear(8, 6))
    encode, decode, temperatures = wrap(encoder), wrap(decoder), []

    def model(x: Tensor) -> None:
        # With the names of the bare module, checkpoints fit a program without a wrapper.
        pyro.module("decoder", decoder)
        with pyro.plate("rows", ROWS, subsample=x):
            z = pyro.sample("z", OneHotCategorical(logits=torch.zeros(3, 4)).to_event(1))
            loc = decode(z.flatten(-2)) * (dist.get_rank() != flat)
            pyro.sample("x", Normal(loc, 1.0).to_event(1), obs=x)

    def guide(x: Tensor, temperature: float) -> None:
        temperatures.append(temperature)
        pyro.module("encoder", encoder)
        with pyro.plate("rows", ROWS, subsample=x):
            estimator = GumbelSoftmax(temperature, hard=False)
            logits = encode(x).unflatten(-1, (3, 4))
            pyro.sample("z", OneHotCategorical(logits=logits, estimator=estimator).to_event(1))

    optim, loss = pyro.optim.Adam({"lr": 0.01}), Trace_ELBO()
    return AnnealedSVI(model, guide, optim, loss, SCHEDULE), temperatures


def own_rows() -> Tensor:
    """The rows of this rank."""
    return X[dist.get_rank() :: dist.get_world_size()]


def trained(wrap: Callable[[nn.Module], nn.Module], flat: int = -1) -> tuple[AnnealedSVI, Any]:
    """An SVI after some steps, and what the ranks have then."""
    svi, temperatures = coder(wrap, flat)
    torch.manual_seed(100 + dist.get_rank())
    for _ in range(STEPS):
        svi.step(own_rows())
    found = {"temperatures": sorted(set(temperatures), reverse=True), "steps": svi.steps}
    found |= {"parameters": parameters().tolist(), "noise": torch.get_rng_state().sum().item()}
    return svi, found


def averaged() -> dict[str, Any]:
    """The step that Averaged takes, and the step by the mean of the gradients of all ranks."""
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    svi, x = distributed_pyro.make(), torch.linspace(-3.0, 3.0, 60)[dist.get_rank() :: 2]
    svi.optim.pt_optim_constructor, svi.optim.pt_optim_args = torch.optim.SGD, {"lr": 1.0}
    torch.manual_seed(dist.get_rank())  # so that ranks start with different parameters
    distributed_pyro.start_equal(svi, x)
    start, state = parameters(), torch.get_rng_state()
    svi.loss_and_grads(svi.model, svi.guide, x, temperature=1.0)
    named = sorted(pyro.get_param_store().named_parameters())
    gradient = torch.cat([p.grad.flatten() for _, p in named])
    for _, p in named:
        p.grad = None
    torch.set_rng_state(state)
    svi.step(x)
    step = everyone(gradient).mean(0)
    return {
        "moved": (parameters() - start).tolist(),
        "expected": (-step).tolist(),
        "starts": everyone(start).tolist(),
        "apart": (everyone(gradient)[0] - everyone(gradient)[1]).abs().max().item(),
    }


class Estimators(nn.Module):
    """A network around the functions of relaxed_dists.torch."""

    def __init__(self) -> None:
        super().__init__()
        self.encode, self.decode = nn.Linear(6, 12), nn.Linear(12, 6)

    def forward(self, x: Tensor, key: torch.Generator) -> Tensor:
        """The squared error of codes by four estimators."""
        logits = self.encode(x).unflatten(-1, (3, 4))
        soft = logits.softmax(-1)
        codes = [
            gumbel_softmax(logits, 0.5, key=key),
            gumbel_softmax(logits, 0.5, hard=True, key=key),
            straight_through(nn.functional.one_hot(soft.argmax(-1), 4).to(soft.dtype), soft),
            sample_one_hot(logits, StraightThrough(), key=key),
        ]
        return sum(((self.decode(z.flatten(-2)) - x) ** 2).mean() for z in codes)


def plain(wrap: Callable[[nn.Module], nn.Module]) -> list[float]:
    """Differences between a wrapper's gradient and the mean of all ranks' gradients without it."""
    torch.manual_seed(0)
    net = Estimators()
    alone, wrapped = copy.deepcopy(net), wrap(net)
    for each in (alone, wrapped):
        each(own_rows(), torch.Generator().manual_seed(dist.get_rank())).backward()
    return [
        (whole(p.grad) - everyone(q.grad).mean(0)).abs().max().item()
        for p, q in zip(wrapped.parameters(), alone.parameters(), strict=True)
    ]


def two(folder: Path) -> dict[str, Any]:
    """The checks of two ranks."""
    rank, found = dist.get_rank(), {"averaged": averaged()}
    for name, wrap in WRAPS.items():
        found[f"plain {name}"] = plain(wrap)
        # With this argument, each forward pass communicates.
        always = partial(fully_shard, reshard_after_forward=True) if name == "fsdp" else wrap
        found[f"flat {name}"] = trained(always, flat=1)[1]
        svi, found[name] = trained(wrap)
        own = svi.state_dict()
        noise = {f"rng{rank}": own.pop("rng")}
        dcp.save({"svi": own, **noise}, checkpoint_id=folder / name)
        if name == "ddp":
            svi.save(folder / f"file{rank}")
            dist.barrier()
            other = f"{folder}/file{1 - rank}"
            found["other rank"] = message(lambda: svi.load(other))  # noqa: B023
            svi.load(folder / f"file{rank}")
            state = torch.load(other, weights_only=True)
            del state["rng"]
            svi.load_state_dict(state)
            found["loss"] = svi.step(own_rows())
        else:
            found["sharded"] = message(lambda: svi.save(folder / "sharded"))  # noqa: B023
            found["written"] = os.path.exists(folder / "sharded")
            weight = pyro.get_param_store()._params["encoder$$$0.weight"]
            calls = OneHotCategorical, partial(gumbel_softmax, tau=weight), gumbel_softmax
            given = [{"logits": x} for x in (weight, whole(weight), weight)]
            pairs = zip(calls, given, strict=True)
            found["outside"] = [message(partial(f, **g)) for f, g in pairs]
    distributed_torch.train(3)
    distributed_pyro.train(END, folder / "whole", every=END)
    found["uninterrupted"] = parameters().tolist()
    found["cut"] = cut_short(folder)
    return found


def loaded(folder: Path, name: str, wrap: Callable[[nn.Module], nn.Module]) -> dict[str, Any]:
    """What this rank has after it loaded a checkpoint of two ranks."""
    rank, (svi, temperatures) = dist.get_rank(), coder(wrap)
    torch.manual_seed(100 + rank)
    svi.step(own_rows())  # makes the tensors of parameters and optimiser
    state = svi.state_dict()
    noise = {f"rng{rank}": state.pop("rng")}
    dcp.load({"svi": state}, checkpoint_id=folder / name)
    partial = dcp.DefaultLoadPlanner(allow_partial_load=True)
    dcp.load(noise, checkpoint_id=folder / name, planner=partial)
    svi.load_state_dict({**state, "rng": noise[f"rng{rank}"]})
    found = {"parameters": parameters().tolist(), "steps": svi.steps}
    found["noise"] = torch.get_rng_state().sum().item()
    temperatures.clear()
    svi.step(own_rows())
    return {**found, "temperature": temperatures, "after": parameters().tolist()}


def reload(folder: Path) -> dict[str, Any]:
    """The checks of another number of ranks, which load what two saved."""
    found = {name: loaded(folder, name, wrap) for name, wrap in WRAPS.items()}
    distributed_torch.train(3)
    return found


def cut_short(folder: Path) -> dict[str, str]:
    """What loading says in each rank about checkpoints of which a part is missing."""
    found, x = {}, torch.zeros(3)
    source = next((folder / "whole").iterdir())
    for file in [*sorted(source.glob("*.distcp")), source / ".metadata"]:
        place = folder / f"cut {file.name}" / source.name
        if dist.get_rank() == 0:
            shutil.copytree(source, place)
            os.truncate(place / file.name, file.stat().st_size // 2)
        dist.barrier()
        pyro.clear_param_store()
        svi = distributed_pyro.make()
        try:
            distributed_pyro.load(svi, place.parent, x)
            found[file.name] = f"loaded step {svi.steps}"
        except dcp.CheckpointException as error:
            found[file.name] = str(error)
        dist.barrier()
        if dist.get_rank() == 0:  # what a process leaves that is killed while it saves
            (place / ".metadata").rename(place / ".metadata.tmp")
        dist.barrier()
        svi = distributed_pyro.make()
        distributed_pyro.load(svi, place.parent, x)
        found[f"{file.name} and no metadata"] = f"at step {svi.steps}"
    return found


def train(folder: Path) -> list[float]:
    """The parameters after the example in Pyro, with a checkpoint after every second step."""
    distributed_pyro.train(END, folder / "restarted", every=2)
    return parameters().tolist()


def pause(folder: Path) -> None:
    """The same training, until rank 1 prints its number as a process and waits to be killed."""

    def schedule(step: int) -> float:
        if step == PAUSE and dist.get_rank() == 1:
            print(os.getpid(), flush=True)
            time.sleep(600)
        return original(step)

    original = distributed_pyro.exponential(1.0, 2e-3, floor=0.3)
    distributed_pyro.exponential = lambda *args, **kwargs: schedule
    train(folder)


def run(checks: Callable[[Path], Any], folder: Path) -> None:
    """The checks in this rank."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    found = json.dumps(checks(folder))
    name = f"{checks.__name__}.{dist.get_rank()}.of.{dist.get_world_size()}.json"
    (folder / name).write_text(found)
    dist.destroy_process_group()


def launch(ranks: int, checks: Callable[[Path], Any], folder: Path) -> None:
    """Start ranks as torchrun --standalone does, but by a fork of this process."""
    how = {"start_method": "fork", "run_id": checks.__name__, "monitor_interval": 0.1}
    how |= {"rdzv_backend": "c10d", "rdzv_endpoint": "localhost:0", "max_restarts": 0}
    config = LaunchConfig(min_nodes=1, max_nodes=1, nproc_per_node=ranks, **how)
    elastic_launch(config, run)(checks, folder)


if __name__ == "__main__":
    place = Path(sys.argv[1])
    for number, checks in ((2, two), (1, reload), (4, reload)):
        launch(number, checks, place)
    try:
        launch(2, pause, place)
    except ChildFailedError as error:
        (place / "failure").write_text(str(error))
    launch(2, train, place)
