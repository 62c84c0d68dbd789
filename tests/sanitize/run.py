"""Run every kernel under the sanitizers of addresses and undefined behaviour: `make sanitize`.

It needs gcc or clang with their sanitizers; $CC names another compiler than cc.
"""

import os
import runpy
import shlex
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
COMPILED = HERE.parents[1] / "backends/relaxed_dists_torch/compiled"
OPTIONS = shlex.split(
    "-O1 -g -fno-omit-frame-pointer -fno-sanitize-recover=all "
    "-fsanitize=address,undefined,float-cast-overflow -Wall -Werror"
)


def main() -> None:
    """Compile the kernels and the driver with the sanitizers, and run it."""
    compiler = shlex.split(os.environ.get("CC", "cc"))
    commands = runpy.run_path(str(COMPILED / "build.py"))["commands"]
    with tempfile.TemporaryDirectory() as folder:
        *compiling, linking = commands(compiler, "", Path(folder), OPTIONS)
        driver = str(Path(folder, "driver"))
        objects = [each for each in linking if each.endswith(".o")]
        sources = [f"-I{COMPILED}", str(HERE / "driver.c"), *objects]
        for command in [*compiling, [*compiler, *OPTIONS, *sources, "-lm", "-o", driver]]:
            subprocess.run(command, check=True)
        subprocess.run([driver], check=True)


if __name__ == "__main__":
    main()
