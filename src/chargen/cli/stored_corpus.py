"""The corpus that the files of a run name.

Anyone may have written these files, so the URLs and folders in them are not trusted.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from chargen.cli.conf_folder import choices, values
from chargen.cli.console import warn
from chargen.errors import FileError, TextError, UserError

if TYPE_CHECKING:
    from chargen.config import TrainConfig
    from chargen.corpus.encoded import Corpus
    from chargen.storage.model_file import ModelFile


def corpus_of(model: ModelFile, instead: str = "score a text with --text FILE") -> Corpus:
    """Load the corpus that a model has learned from.

    Args:
        model: the model.
        instead: what the user can do without the corpus, for the message.

    Raises:
        UserError: the corpus is not known, not there, or has changed. The message says how to do without it.
    """
    from chargen.config import parse_stored_config
    from chargen.corpus.encoded import load_corpus, load_stored_corpus
    from chargen.corpus.encodings import from_run_lengths
    from chargen.corpus.tokenizer import Tokenizer

    if model.metadata.get("config") is None:
        raise UserError(f"the model does not say what it learned from: {instead}")
    try:
        config = with_known_data_dir(parse_stored_config(model.metadata["config"]))
        require_known_download(config)
        data_dir, digest = Path(config.data_dir), str(model.corpus_sha256)
        encodings = from_run_lengths(model.metadata["corpus"].get("encodings"))
        tokenizer = Tokenizer.from_json(model.tokenizer)
        corpus = load_stored_corpus(config.corpus, data_dir, digest, encodings, tokenizer)
        corpus = corpus or load_corpus(
            config.corpus, data_dir, expected_sha256=digest, encodings=encodings, tokenizer=tokenizer
        )
        if corpus.tokenizer.vocab_size != model.config.vocab_size:
            raise FileError(f"the model does not know the symbols of corpus {corpus.name}")
        for note in corpus.note.splitlines():
            warn(note)
        return corpus
    except UserError as error:
        moved = "if the text lies elsewhere now, link it there (ln -s); " if isinstance(error, TextError) else ""
        raise UserError(f"{error}; {moved}or {instead}") from None


def with_known_data_dir(config: TrainConfig) -> TrainConfig:
    """Return settings whose data folder is the stored one if it holds data, and the default one otherwise.

    Settings from a file never create a folder of their choice.
    """
    from chargen.config import TrainConfig

    folder, file = Path(config.data_dir), config.corpus.file
    if (folder / "encoded").is_dir() or (file and (folder / file).is_file()):
        return config
    return replace(config, data_dir=TrainConfig(run_dir=config.run_dir).with_absolute_paths().data_dir)


def require_known_download(config: TrainConfig) -> None:
    """Refuse to fetch an address that a file names, unless conf/corpus names it too.

    A download that is there already is used; its digest is compared.

    Raises:
        UserError: the address is not known.
    """
    from chargen.corpus.sources import is_downloaded

    wanted, folder = asdict(config.corpus), Path(config.data_dir)
    if wanted["url"] is None:
        return
    if wanted["file"] and is_downloaded(folder / wanted["file"]):
        return
    known = [values("corpus", name) for name in choices("corpus")]
    if not any(all(wanted[key] == one.get(key) for key in ("url", "file", "size", "sha256")) for one in known):
        raise UserError(
            f"the run learned from {wanted['url']}, which chargen does not fetch because a file names it: if you trust "
            f"it, download it and put it at {folder / str(wanted['file'])}"
        )
