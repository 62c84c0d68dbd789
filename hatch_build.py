"""Compiles the kernels for wheels and editable installs, by ``compiled/build.py``."""

import os
import runpy
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLDER = "relaxed_dists_torch/compiled"
TARGET = "RELAXED_DISTS_TARGET"  # `make build` sets it: to a target of build.py, or "any" for none


class KernelsHook(BuildHookInterface):
    """Adds the kernels to a wheel, or puts them beside their sources for an editable install."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile the kernels. A wheel without them works, and any machine takes it."""
        target = os.environ.get(TARGET, "")
        if self.target_name != "wheel" or target == "any":
            return
        sources = Path(self.root, "backends", FOLDER)
        build = runpy.run_path(str(sources / "build.py"))
        self.made = tempfile.TemporaryDirectory()  # until the wheel is written
        into = sources if version == "editable" else Path(self.made.name)
        try:
            kernels = build["compile_kernels"](into, target)
        except build["CannotCompile"] as error:
            if target:
                raise
            print(f"relaxed-dists is built without compiled kernels: {error}", file=sys.stderr)
            return
        if version != "editable":
            build_data["force_include"][str(kernels)] = f"{FOLDER}/{kernels.name}"
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{build['platform_tag'](kernels, target)}"
