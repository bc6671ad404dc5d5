"""A text that is given on the command line, as the ids of a model: a file, a folder, a pattern, a pipe, `-`."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from chargen.cli.console import warn
from chargen.errors import TextError

if TYPE_CHECKING:
    import numpy as np

    from chargen.storage.model_file import ModelFile


def encode_given(text: str, model: ModelFile, encoding: str = "auto", errors: str = "strict") -> np.ndarray:
    """Read a text as the training text of a model was read.

    Args:
        text: a file, a folder, a glob, a pipe, or `-` for standard input.
        model: the model that knows its characters.
        encoding: of the text.
        errors: what to do with bytes that do not fit the encoding.

    Returns:
        Its ids, (N,).

    Raises:
        TextError: it cannot be read.
    """
    from chargen.corpus.encoded import encode_file
    from chargen.corpus.reader import Cleaning
    from chargen.corpus.tokenizer import Tokenizer

    tokenizer = Tokenizer.from_json(model.tokenizer)
    how = {key: model.cleaning[key] for key in ("normalize_newlines", "normalize_unicode")}
    cleaning = Cleaning(encoding, tokenizer.unit, **how, errors=errors)
    is_pipe = Path(text).exists() and not Path(text).is_file() and not Path(text).is_dir()
    if text != "-" and not is_pipe:
        return encode_file(text, tokenizer, cleaning, warn)
    with tempfile.TemporaryDirectory() as folder:  # a pipe can be read only once
        copy, name = Path(folder, "text.txt"), "standard input" if text == "-" else text

        def named(message: str) -> str:
            return message.replace(str(copy), name).replace(copy.name, name)

        copy.write_bytes(sys.stdin.buffer.read() if text == "-" else Path(text).read_bytes())
        try:
            return encode_file(str(copy), tokenizer, cleaning, lambda note: warn(named(note)))
        except TextError as error:
            raise TextError(named(str(error))) from None
