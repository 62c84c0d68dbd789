"""Several processes that train together by jax.distributed."""

import contextlib
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm

from harness import SUPPORT, Lazy, enable_x64

pytest.importorskip("numpyro")

example = Lazy("distributed_numpyro")
SECONDS = 300  # a process that hangs fails after this time


def environment() -> dict[str, str]:
    """The environment of a process that imports what this one does; warnings are errors in it."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONWARNINGS": "error"}


def killed(command: list[str]) -> tuple[str, str]:
    """Start both processes, kill process 1 when it waits, and return what process 0 printed."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        command = [*command, "--coordinator", f"localhost:{free.getsockname()[1]}", "--process"]
    how = {"env": environment(), "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    first, second = (subprocess.Popen([*command, str(i)], **how) for i in range(2))
    with first, second:
        waiting = next((line for line in second.stdout if line.strip().isdigit()), None)
        if waiting:
            os.kill(int(waiting), signal.SIGKILL)
        failure = []
        for line in first.stderr:
            failure.append(line)
            if re.match(r"\S*(Error|Exception)\b", line):
                break  # then it waits for process 1, and ends with signal 6 after a minute
        first.kill()
        second.kill()
        return first.stdout.read(), "".join(failure) + ("" if waiting else second.stderr.read())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What all processes have written: process 1 got SIGKILL from here, and both start again."""
    place = tmp_path_factory.mktemp("processes")
    command = [sys.executable, str(SUPPORT / "jaxrunning.py"), str(place)]
    rows, failure = killed([*command, "pause"])
    (place / "rows").write_text(rows)
    (place / "failure").write_text(failure)
    resume = [*command, "resume"]
    run = subprocess.run(resume, env=environment(), capture_output=True, text=True, timeout=SECONDS)
    assert run.returncode == 0, failure + run.stderr
    return place


@pytest.fixture(scope="module")
def alone() -> tuple[dict[str, Any], str]:
    """The parameters of a training on one device, and its row of the table."""
    with enable_x64(), contextlib.redirect_stdout(io.StringIO()) as out:
        return example.train(10), out.getvalue()


def results(folder: Path, check: str) -> list[dict[str, Any]]:
    """What each process found in its check."""
    return [json.loads((folder / f"{check}.{i}.json").read_text()) for i in range(2)]


def test_processes_end_where_one_device_does(folder: Path, alone: tuple[Any, str]) -> None:
    """Two processes with a device each have the same parameters, which are those of one device."""
    first, second = (found["whole"] for found in results(folder, "pause"))
    assert first == second
    assert set(first) == set(alone[0])
    for name, value in alone[0].items():
        np.testing.assert_allclose(first[name], value.ravel(), rtol=1e-9, atol=1e-12)


def test_a_killed_process_ends_the_other(folder: Path) -> None:
    """The other process raises the error of the message that it waits for."""
    text = (folder / "failure").read_text()
    assert re.search(r"Error: .*(Gloo|[Cc]onnection).*(closed|reset)", text), text
    saved = sorted(int(path.stem) for path in (folder / "saved").iterdir())
    assert saved == [2, 4, 6, 8, 10]  # the last two after the restart


def test_a_restart_goes_on(folder: Path) -> None:
    """After the kill at step 6, the training goes on at its temperature, to the same parameters."""
    whole = [found["whole"] for found in results(folder, "pause")]
    assert [found["end"] for found in results(folder, "resume")] == whole
    for found in results(folder, "resume"):
        np.testing.assert_allclose(found["temperatures"], [np.exp(-2e-3 * 6)])


def test_one_process_goes_on(folder: Path) -> None:
    """One process loads what two saved, and ends where they do."""
    only, whole = folder / "one", results(folder, "pause")[0]["whole"]
    only.mkdir()
    shutil.copy(folder / "saved" / "6.npz", only)
    with enable_x64():
        end = example.train(10, only)
    for name, value in end.items():
        np.testing.assert_allclose(value.ravel(), whole[name], rtol=1e-9, atol=1e-12)


def test_a_state_in_parts_is_refused(folder: Path) -> None:
    """AnnealedSVI.save refuses an array of which each process holds a part."""
    for found in results(folder, "pause"):
        assert found["parts"] == (
            "AnnealedSVI.save got \".mutable_state['x']\", of which each process holds a part; "
            "expected all of it in each. Gather it by jax.jit(lambda x: x, "
            "out_shardings=NamedSharding(mesh, P())). No file was written. See docs/devices.md."
        )
        assert not found["written"]


def test_the_exact_evidence_of_shared_rows(folder: Path) -> None:
    """Each process has the evidence of all rows."""
    pytest.importorskip("funsor")
    x = np.arange(4.0)
    expected = np.logaddexp(norm.logpdf(x), norm.logpdf(x - 1)).sum() - 4 * np.log(2)
    for found in results(folder, "pause"):
        np.testing.assert_allclose(found["exact"], expected, rtol=1e-12)


def test_the_example_has_the_same_numbers(folder: Path, alone: tuple[Any, str]) -> None:
    """The rows of two processes and of one have the same loss; only two send something."""
    row = r"\| distributed_numpyro \| (\d) \| \d \| ([\d.]+) \| 0.0e\+00 \| (\d)"
    found = re.findall(row, (folder / "rows").read_text() + alone[1])
    # With JAX 0.4.35, each parameter has a message of its own.
    assert [(processes, sent != "0") for processes, _, sent in found] == [("2", True), ("1", False)]
    assert len({loss for _, loss, _ in found}) == 1


def test_the_launcher_tells_who_failed() -> None:
    """Once a process fails, the launcher ends the other one, which would run for minutes."""
    code = "import sys, time; time.sleep(600 if sys.argv[-1] == '0' else 0); sys.exit(7)"
    text = "^Process 1 ended with exit code 7, so all were ended.$"
    with pytest.raises(SystemExit, match=text):
        example.start(["-c", code], 2)
