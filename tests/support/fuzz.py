"""Feeds damaged files to one of chargen's readers, guided by what they make it do.

    python tests/fuzz.py READER [OPTION of libFuzzer, such as -max_total_time=60]

A reader may refuse a file with a ValueError. Any other exception, a crash, a hang or gigabytes of memory are a find,
and the file is left in the working folder. Checksums are not compared here: whoever forges a file forges them too.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from pathlib import Path

import atheris
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser  # noqa: F401  # before others are watched
from lightning.pytorch import LightningModule  # noqa: F401

with atheris.instrument_imports(include=["chargen", "readers", "torch._weights_only_unpickler", "json", "zipfile"]):
    from chargen import portable, runs
    from support.readers import READERS


class Anything(str):
    """Equal to every checksum."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False


def main() -> None:
    """One reader."""
    name, *options = sys.argv[1:]
    reader, sound = READERS[name]
    portable._digest = lambda *_: Anything()
    runs.checksum_matches = lambda *_: True
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        (seeds := Path(folder, "seeds")).mkdir()
        (work := Path(folder, "work")).mkdir()
        for number, content in enumerate(sound()):
            (seeds / str(number)).write_bytes(content)
        (work / "file").write_bytes((seeds / "0").read_bytes())
        reader(work / "file")  # which takes it: what is behind every check is reached

        def once(content: bytes) -> None:
            (work / "file").write_bytes(content)
            with contextlib.suppress(ValueError):
                reader(work / "file")

        # libFuzzer leaves without a look back, so it gets a process of its own
        atheris.Setup([sys.argv[0], "-max_len=20000", "-rss_limit_mb=3000", "-timeout=20", *options, str(seeds)], once)
        child = os.fork()
        if not child:
            atheris.Fuzz()
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    sys.exit(status)


if __name__ == "__main__":
    main()
