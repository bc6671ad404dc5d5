"""Build the package: find its folders and compile the kernels.

Everything else about the package is in pyproject.toml.

- No C++ compiler: the package is installed without kernels, and computes in Python.
- A compiler that fails: the installation fails and shows the compiler's output.
- `CHARGEN_KERNELS=off` in the environment: the package is installed without kernels.
- `CHARGEN_KERNELS=require` in the environment: the installation fails if the kernels cannot be compiled.
"""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from setuptools import Extension, find_namespace_packages, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import BaseError, CCompilerError

VARIABLE, OFF, REQUIRE = "CHARGEN_KERNELS", "off", "require"
NATIVE = Path("src/chargen/native")


class BuildKernels(build_ext):
    """Compile the kernels, or remove them where they cannot be compiled."""

    def run(self) -> None:
        """Compile the kernels. Remember whether they go into the source folder."""
        self._in_source = bool(self.inplace)
        super().run()

    def build_extensions(self) -> None:
        """Compile the kernels with the compiler that setuptools has chosen."""
        wanted = os.environ.get(VARIABLE, "")
        if wanted not in ("", OFF, REQUIRE):
            raise BaseError(f"{VARIABLE}={wanted}: write {REQUIRE} or {OFF}, or leave it out")
        reason = self._reason_to_skip()
        if reason and wanted == REQUIRE:
            raise BaseError(f"{VARIABLE}={REQUIRE}: the kernels cannot be compiled: {reason}")
        if reason:
            for extension in self.extensions:
                self._remove(extension)
            self.extensions = []
            print(f"warning: chargen is installed without compiled kernels: {reason}", file=sys.stderr)
            return
        try:
            self._compile_side_by_side()
            super().build_extensions()
        except (BaseError, CCompilerError) as error:
            raise BaseError(
                f"the kernels could not be compiled ({error}); the compiler's output is above. "
                f"To install without kernels: {VARIABLE}={OFF} pip install ..."
            ) from None

    def _compile_side_by_side(self) -> None:
        """Let the compiler take as many files at once as there are processors, instead of one after the other."""
        compile_in_turn = self.compiler.compile

        def compile_at_once(sources: list[str], **options: Any) -> list[str]:
            with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
                parts = list(pool.map(lambda source: compile_in_turn([source], **options), sources))
            return [target for part in parts for target in part]

        self.compiler.compile = compile_at_once

    def _reason_to_skip(self) -> str | None:
        """Return why the kernels cannot be compiled; None if there is a compiler."""
        if os.environ.get(VARIABLE) == OFF:
            return f"{VARIABLE}={OFF}"
        if self.compiler.compiler_type == "msvc":
            return "they need g++ or clang++"
        program = self.compiler.compiler_so_cxx[0]
        try:
            subprocess.run([program, "--version"], capture_output=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            return f"there is no C++ compiler here ({program} does not run); install g++ or clang++, or set CXX"
        return None

    def _remove(self, extension: Extension) -> None:
        """Remove a library that an earlier build left, because it does not belong to this source."""
        name = self.get_ext_fullname(extension.name)
        places = [Path(self.build_lib, self.get_ext_filename(name))]
        if self._in_source:
            places.append(Path("src", self.get_ext_filename(name)))
        for place in places:
            place.unlink(missing_ok=True)


setup(
    packages=[
        *find_namespace_packages("src", include=["chargen", "chargen.*"], exclude=["*.__pycache__"]),
        "chargen.conf",
    ],
    package_dir={"": "src", "chargen.conf": "conf"},
    ext_modules=[
        Extension(
            "chargen.native._kernels",
            language="c++",
            sources=sorted(map(str, NATIVE.glob("*.cpp"))),
            depends=["setup.py", *sorted(map(str, NATIVE.glob("*.h")))],
            extra_compile_args=[
                *("-O3", "-g0", "-std=c++17", "-ffp-contract=fast", "-fno-math-errno"),
                *("-fvisibility=hidden", "-Wno-psabi"),
            ],
            extra_link_args=["-pthread"],
        )
    ],
    cmdclass={"build_ext": BuildKernels},
)
