"""Several processes that train together by torch.distributed, started by torchrun's launcher."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness import Lazy

torch = pytest.importorskip("torch")
pytest.importorskip("pyro")
if not (torch.distributed.is_available() and torch.distributed.is_gloo_available()):
    pytest.skip("this build of torch has no torch.distributed with gloo", allow_module_level=True)

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "tests/support/torchrunning.py"
EXAMPLES = ROOT / "docs/examples"
# torchrunning.py says why.
sharded = pytest.mark.skipif(torch.__version__ < "2.8", reason="fully_shard here needs torch 2.8")
NAMES = ["ddp", pytest.param("fsdp", marks=sharded)]
SECONDS = 300  # a process that hangs fails after this time


def environment(warnings: str) -> dict[str, str]:
    """The environment of a process that finds the examples and what supports the tests."""
    path = os.pathsep.join([str(SCRIPT.parent), str(EXAMPLES), *sys.path])
    return {**os.environ, "PYTHONPATH": path, "PYTHONWARNINGS": warnings}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What all processes have written: one process of a training got SIGKILL from here."""
    # torch 2.6 calls what it has deprecated, and doubts that ranks may have their own keys.
    own = "ignore:TypedStorage is deprecated,ignore:Detected mismatched keys"
    place, env = tmp_path_factory.mktemp("ranks"), environment(f"error,{own}")
    rows, command = [], [sys.executable, str(SCRIPT), str(place)]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as all_ranks:
        limit = threading.Timer(SECONDS, all_ranks.kill)
        limit.start()
        for line in all_ranks.stdout:
            rows.append(line)
            if line.strip().isdigit():  # the number of the process that waits
                os.kill(int(line), signal.SIGKILL)
        limit.cancel()
    assert all_ranks.returncode == 0
    (place / "rows").write_text("".join(rows))
    return place


def results(folder: Path, checks: str, ranks: int) -> list[dict[str, Any]]:
    """What each rank found in its checks."""
    names = [f"{checks}.{rank}.of.{ranks}.json" for rank in range(ranks)]
    return [json.loads((folder / name).read_text()) for name in names]


def test_a_step_of_two_processes_is_that_of_their_mean_gradient(folder: Path) -> None:
    """A step of SGD moves the parameters by the mean of both gradients, whose noise differs."""
    first, second = (found["averaged"] for found in results(folder, "two", 2))
    assert first["moved"] == second["moved"]
    assert first["starts"][0] == first["starts"][1]
    assert first["apart"] > 1
    largest = np.abs(first["expected"]).max()
    np.testing.assert_allclose(first["moved"], first["expected"], rtol=1e-4, atol=1e-6 * largest)


@pytest.mark.parametrize("name", NAMES)
def test_ranks_keep_in_step(folder: Path, name: str) -> None:
    """All ranks have the schedule's temperatures and the same parameters, and different noise."""
    first, second = (found[name] for found in results(folder, "two", 2))
    np.testing.assert_allclose(first["temperatures"], [1.0, 0.93, 0.86, 0.79])
    assert first["temperatures"] == second["temperatures"]
    assert first["parameters"] == second["parameters"]
    assert first["noise"] != second["noise"]
    whole = results(folder, "two", 2)[0]["ddp"]["parameters"]
    np.testing.assert_allclose(first["parameters"], whole, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_a_rank_without_a_derivative_does_not_stop_the_others(folder: Path, name: str) -> None:
    """The derivatives of rank 1 are all 0: the first step's check runs equally often in both."""
    first, second = (found[f"flat {name}"] for found in results(folder, "two", 2))
    assert first["steps"] == second["steps"] == 4
    assert first["parameters"] == second["parameters"]
    assert first["parameters"] != results(folder, "two", 2)[0][name]["parameters"]


@pytest.mark.parametrize("name", NAMES)
def test_the_functions_in_a_plain_loop(folder: Path, name: str) -> None:
    """The gradient of a network around them is the mean of the ranks' gradients alone."""
    for found in results(folder, "two", 2):
        assert len(found[f"plain {name}"]) == 4
        assert max(found[f"plain {name}"]) < 1e-6


def test_the_generators_of_another_rank_are_refused(folder: Path) -> None:
    """A file of the other rank raises; without its generators the state is loaded."""
    for rank, found in enumerate(results(folder, "two", 2)):
        text = (
            rf"file{1 - rank}' with the random generators of rank {1 - rank}, in rank {rank}; "
            rf"expected those of rank {rank}: ranks that draw the same noise do not average it "
            "out. Load what this rank saved, or leave 'rng' out of the state and seed each rank "
            "differently. Nothing was changed. See docs/devices.md."
        )
        assert re.search(text, found["other rank"])
        assert np.isfinite(found["loss"])


@sharded
def test_a_file_with_a_part_of_each_parameter_is_refused(folder: Path) -> None:
    """AnnealedSVI.save refuses sharded parameters and writes nothing."""
    for found in results(folder, "two", 2):
        assert found["sharded"] == (
            "AnnealedSVI.save got 'encoder$$$0.weight', of which each rank holds a part; expected "
            "all of it in each. Let all ranks write state_dict() by "
            "torch.distributed.checkpoint.save. No file was written. See docs/devices.md."
        )
        assert not found["written"]


@sharded
def test_parameters_outside_the_forward_of_fully_shard_are_refused(folder: Path) -> None:
    """Where they are no Tensor but a DTensor, which the error says, and what to do."""
    for found in results(folder, "two", 2):
        asked = (
            ("OneHotCategorical", "logits"),
            ("gumbel_softmax", "tau"),
            ("gumbel_softmax", "logits"),
        )
        for (name, what), text in zip(asked, found["outside"], strict=True):
            expected = f"{name} got {what} as a DTensor, .* {what}.full_tensor.*docs/devices.md.$"
            assert re.search(expected, text), text


@pytest.mark.parametrize("ranks", [1, 4])
@pytest.mark.parametrize("name", NAMES)
def test_other_numbers_of_ranks_load_a_checkpoint(folder: Path, name: str, ranks: int) -> None:
    """One and four ranks go on from a checkpoint of two at its parameters and temperature."""
    saved = [found[name] for found in results(folder, "two", 2)]
    loaded = [found[name] for found in results(folder, "reload", ranks)]
    for rank, found in enumerate(loaded):
        assert found["parameters"] == saved[0]["parameters"]
        assert found["steps"] == 4
        np.testing.assert_allclose(found["temperature"], [0.72])
        assert found["after"] == loaded[0]["after"] != found["parameters"]
        if rank < 2:
            assert found["noise"] == saved[rank]["noise"]
    assert len({found["noise"] for found in loaded}) == ranks


def test_a_killed_process_ends_the_training(folder: Path) -> None:
    """The launcher ends with the failure that it sees first: the kill, or the other's error."""
    text = (folder / "failure").read_text()
    killed = r"rank +: 1 .*\n *exitcode +: -9 (.*\n)+.*Signal 9 \(SIGKILL\) received by PID"
    assert re.search(rf"Root Cause(.*\n)+.*({killed}|Connection (reset|closed) by peer)", text), (
        text
    )
    assert sorted(int(path.name) for path in (folder / "restarted").iterdir()) == [2, 4, 6, 8, 10]


def test_a_restart_ends_where_the_whole_training_does(folder: Path) -> None:
    """After the kill at step 7, the training goes on from step 6, to the same parameters."""
    whole = [found["uninterrupted"] for found in results(folder, "two", 2)]
    assert results(folder, "train", 2) == whole
    assert whole[0] == whole[1]


def test_a_checkpoint_cut_short_is_refused(folder: Path) -> None:
    """A file of half its length raises in both ranks; without metadata it is not looked at."""
    for cut in (found["cut"] for found in results(folder, "two", 2)):
        assert len(cut) == 6
        for name, text in cut.items():
            if name.endswith("no metadata"):
                assert text == "at step 0"
            else:
                assert text.startswith("CheckpointException ranks:dict_keys([0, 1])"), name


def test_the_example_has_the_same_numbers_in_any_number_of_processes(folder: Path) -> None:
    """The example in torch ends at the same loss in one process, in two and in four."""
    row = r"\| distributed_torch \| (\d) \| \1 \| ([\d.]+) \| 0.0e"
    rows = re.findall(row, (folder / "rows").read_text())
    assert sorted(number for number, _ in rows) == ["1", "2", "4"]
    assert len({loss for _, loss in rows}) == 1


@pytest.mark.turns(lambda **_: False)
@pytest.mark.parametrize("ranks", [2])
def test_the_command_torchrun(ranks: int) -> None:
    """torchrun itself, whose launcher the other tests call from Python, runs an example."""
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    command = [sys.executable, *command, str(EXAMPLES / "distributed_torch.py"), "--steps", "3"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    assert run.returncode == 0, run.stderr
    assert re.search(r"\| distributed_torch \| 2 \| 2 \| [\d.]+ \| 0.0e\+00 \|", run.stdout)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, ""),
        ({"pyro": ("1.8", "0.0e+00")}, ""),
        ({"torch": ("0.1932", "0.0e+00")}, "torch in 2 .* the loss is 0.1932; expected 0.19308"),
        ({"torch": ("nan", "0.0e+00")}, "torch in 2 .* the loss is nan"),
        ({"pyro": ("nan", "0.0e+00")}, "pyro in 2 .* the loss is nan"),
        ({"pyro": ("1.83773", "1.0e-03")}, "pyro in 2 .* differ by 1.0e-03; expected the same"),
    ],
)
def test_the_table_fails_if_numbers_differ(
    change: dict[str, tuple[str, str]], expected: str
) -> None:
    """Losses and parameters, but for the loss of processes with noise of their own."""
    same = {"torch": ("0.19308", "0.0e+00"), "pyro": ("1.83773", "0.0e+00")}
    rows = [
        [f"distributed_{name}", number, number, *cells, "1 of 58.8 kB"]
        for number, found in (("1", same), ("2", same | change))
        for name, cells in found.items()
    ]
    found = Lazy("distributed_table").wrong(rows)
    assert re.search(expected, found) if expected else not found, found


def test_lightning() -> None:
    """The example in Lightning: two processes with the same parameters and different noise."""
    pytest.importorskip("lightning")
    command = [sys.executable, str(EXAMPLES / "distributed_lightning.py"), "--steps", "3"]
    env = environment("default")  # Lightning calls what torch has deprecated
    run = subprocess.run(command, env=env, capture_output=True, text=True, timeout=SECONDS)
    assert run.returncode == 0, run.stderr
    assert "parameters equal True\nnoise differs True" in run.stdout
