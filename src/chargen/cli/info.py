"""`chargen info`: versions, threads, and which code computes on this machine."""

from __future__ import annotations

import os

PACKAGES = ("chargen", "torch", "lightning", "hydra-core", "tokenizers", "safetensors", "numpy")


def info() -> None:
    """Print versions, threads and the kernels in use: for a report, or to see that this machine is fast."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    import chargen
    from chargen import native

    for package in PACKAGES:
        try:
            print(f"{package:12} {chargen.__version__ if package == 'chargen' else version(package)}")
        except PackageNotFoundError:
            print(f"{package:12} not installed")
    print(f"{'python':12} {platform.python_version()}, {platform.system()} {platform.machine()}")
    import torch

    print(f"{'threads':12} {torch.get_num_threads()} of {os.cpu_count()} processors")
    print(f"{'gpu':12} {torch.cuda.get_device_name() if torch.cuda.is_available() else 'none'}")
    if native.library() is None:
        is_off = os.environ.get(native.VARIABLE) == native.OFF
        reason = f"{native.VARIABLE}={native.OFF}" if is_off else "not built"
        print(f"{'kernels':12} none ({reason}): training uses torch's operations, sampling numpy's")
        if not is_off:
            print(f"{'':12} with a C++ compiler installed: pip install --force-reinstall --no-deps chargen")
        return
    others = [name for name in native.instruction_sets(native.kernels()) if name != native.in_use()]
    also = f" (also here: {', '.join(others)}; {native.VARIABLE} chooses)" if others else ""
    print(f"{'kernels':12} {native.in_use()}{also}")
    print(f"{'':12} training: float32 on the CPU; otherwise torch's operations")
    print(f"{'':12} sampling: float32, int8")
