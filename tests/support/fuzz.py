"""Feed damaged files to one of chargen's readers, guided by the code that they reach.

    python tests/support/fuzz.py READER [OPTION of libFuzzer, such as -max_total_time=60]

A reader may refuse a file with a `UserError`. Any other exception, a crash, a hang or gigabytes of memory are a
finding, and the file is left in the working folder. Checksums are not compared: an attacker forges them, too.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from pathlib import Path

import atheris
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser  # noqa: F401  # imported without instruments
from lightning.pytorch import LightningModule  # noqa: F401

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `support`

with atheris.instrument_imports(include=["chargen", "support", "torch._weights_only_unpickler", "json", "zipfile"]):
    from chargen.errors import UserError
    from chargen.storage import checkpoint, model_file
    from support.readers import READERS


class AnyChecksum(str):
    """A string that equals every other one."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False


def main() -> None:
    """Fuzz the reader that the command line names."""
    name, *options = sys.argv[1:]
    reader, sound = READERS[name]
    seeds_of_reader = sound()
    model_file.digest_of = lambda *_: AnyChecksum()
    checkpoint.checksum_matches = lambda *_: True
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        (seeds := Path(folder, "seeds")).mkdir()
        (work := Path(folder, "work")).mkdir()
        for number, content in enumerate(seeds_of_reader):
            (seeds / str(number)).write_bytes(content)
        (work / "file").write_bytes(seeds_of_reader[0])
        reader(work / "file")  # it has to accept this file: otherwise the fuzzer sees its first check only

        def once(content: bytes) -> None:
            (work / "file").write_bytes(content)
            with contextlib.suppress(UserError):
                reader(work / "file")

        # libFuzzer ends its process itself, so it gets one of its own and the temporary folder is removed here.
        atheris.Setup([sys.argv[0], "-max_len=20000", "-rss_limit_mb=3000", "-timeout=20", *options, str(seeds)], once)
        child = os.fork()
        if not child:
            atheris.Fuzz()
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    sys.exit(status)


if __name__ == "__main__":
    main()
