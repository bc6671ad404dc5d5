"""`chargen info`: versions, threads, and which code computes on this machine."""

from __future__ import annotations

import os

PACKAGES = (
    *("torch", "lightning", "hydra-core", "omegaconf", "tokenizers", "safetensors", "numpy", "typer", "rich"),
    "matplotlib",
)


def info() -> None:
    """Print versions, threads and the kernels in use: for a report, or to see that this machine is fast."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    import chargen
    from chargen import native
    from chargen.native.installation import build_command

    def row(what: str, value: str) -> None:
        print(f"{what:12} {value}")

    row("chargen", chargen.__version__)
    for package in PACKAGES:
        try:
            row(package, version(package))
        except PackageNotFoundError:
            row(package, "not installed")
    row("python", f"{platform.python_version()}, {platform.system()} {platform.machine()}")
    try:
        import torch

        from chargen.nn.threads import num_threads
    except (ImportError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        row("threads", f"unknown: torch cannot be imported ({reason})")
    else:
        row("threads", f"{num_threads()} of {os.cpu_count()} processors")
        row("gpu", torch.cuda.get_device_name() if torch.cuda.is_available() else "none")
    if native.library() is None:
        is_off = os.environ.get(native.VARIABLE) == native.OFF
        reason = f"{native.VARIABLE}={native.OFF}" if is_off else "not built"
        row("kernels", f"none ({reason}): training uses torch's operations, sampling numpy's, on one thread")
        if not is_off:
            row("", f"with g++ or clang++ installed: {build_command()}")
        return
    others = [name for name in native.instruction_sets(native.kernels()) if name != native.in_use()]
    also = f" (also here: {', '.join(others)}; {native.VARIABLE} chooses)" if others else ""
    row("kernels", f"{native.in_use()}{also}")
    row("", "training: float32 on the CPU; otherwise torch's operations")
    row("", "sampling: float32, int8")
