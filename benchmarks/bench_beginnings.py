"""Well-formed beginnings: of 200 samples, how many begin as an article of the training text does.

A model writes from a state. Four of them are compared, with the same weights: zero; the state behind one passage of the
training text that ends where an article begins, drawn for each sample; the mean of such states, which a model file
holds; and the same mean with weights in int8. Each model is trained for 75 seconds with `model=small`. The second table
shows how well the beginnings of held-out articles are predicted from each state. The state behind the article that
really stands before is what training provides.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from bench_quality import run_chargen
from measure import find_text, main, markdown_table

from chargen.config import CorpusConfig
from chargen.corpus.contexts import CONTEXT_LENGTH, find_beginnings, find_contexts
from chargen.corpus.encoded import Corpus, load_corpus
from chargen.evaluation.score import score_streaming
from chargen.nn.model import CharRNN
from chargen.sampling.generator import TextGenerator
from chargen.sampling.session import Network
from chargen.storage.model_file import ModelFile

SECONDS, NUM_SAMPLES, SAMPLE_LENGTH, SCORED_LENGTH = 75, 200, 120, 24
LINES_PER_POEM, LINES_PER_CHAPTER, CHAPTERS_PER_BOOK = 4, 80, 100

COUPLET = r"[^，。\n]{5}，[^，。\n]{5}。\n"
DIGITS = "零一二三四五六七八九"


# ------------------------------------------------------------------------------------- texts


@dataclass(frozen=True)
class Text:
    """A text to learn from.

    Attributes:
        name: what it is called in the table.
        pattern: what the beginning of an article matches.
        write: writes the text below a folder, and returns `corpus.path`; None for the Python language reference.
    """

    name: str
    pattern: str
    write: Callable[[Path], Path] | None


def couplets() -> list[str]:
    """Return the couplets whose halves have five characters each."""
    file = find_text("tang_couplets.txt")
    if file is None:
        raise SystemExit("this benchmark needs data/tang_couplets.txt")
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    return [line for line in lines if re.fullmatch(COUPLET, line)]


def write_articles(folder: Path, articles: list[str]) -> Path:
    """Write articles as files whose names sort in their order."""
    folder.mkdir()
    for number, article in enumerate(articles):
        (folder / f"{number:05}.txt").write_text(article, encoding="utf-8")
    return folder


def write_couplets(folder: Path) -> Path:
    """Write the couplets as one text."""
    file = folder / "couplets.txt"
    file.write_text("".join(couplets()), encoding="utf-8")
    return file


def write_speeches(folder: Path) -> Path:
    """Write each speech of tinyshakespeare as an article."""
    file = find_text("tinyshakespeare.txt")
    if file is None:
        raise SystemExit("this benchmark needs data/tinyshakespeare.txt")
    return write_articles(folder / "speeches", file.read_text(encoding="utf-8").strip().split("\n\n"))


def write_poems(folder: Path) -> Path:
    """Write each four couplets as a poem whose title is its first two characters."""
    lines = couplets()
    groups = [lines[begin : begin + LINES_PER_POEM] for begin in range(0, len(lines), LINES_PER_POEM)]
    return write_articles(folder / "poems", [f"《{group[0][:2]}》\n\n{''.join(group)}" for group in groups])


def write_chapters(folder: Path) -> Path:
    """Write chapters of about a thousand characters, with a number and a title of two characters each."""
    lines = couplets()
    groups = [lines[begin : begin + LINES_PER_CHAPTER] for begin in range(0, len(lines), LINES_PER_CHAPTER)]
    chapters = [
        f"第{chinese_number(number % CHAPTERS_PER_BOOK + 1)}章　{group[0][:2]}\n\n{''.join(group)}"
        for number, group in enumerate(groups)
    ]
    return write_articles(folder / "chapters", chapters)


def chinese_number(number: int) -> str:
    """Write a number from 1 to 100 in Chinese."""
    tens, ones = divmod(number, 10)
    if tens == 10:
        return "一百"
    before = ("", "十")[tens] if tens < 2 else f"{DIGITS[tens]}十"
    return before + (DIGITS[ones] if ones else "")


TEXTS = (
    Text("couplets, one text", COUPLET, write_couplets),
    Text("speeches", r"[A-Z][A-Za-z' .]*:\n[A-Z']", write_speeches),
    Text("poems with titles", r"《[^，。\n]{2}》\n\n" + COUPLET, write_poems),
    Text("chapters with headings", rf"第[百十{DIGITS}]+章　[^，。\n]{{2}}\n\n" + COUPLET, write_chapters),
    Text("Python reference", r"[^\n]+\n([*=])\1{3,}\n\n", None),
)


# ------------------------------------------------------------------------------------- states


def state_behind(network: Network, ids: np.ndarray) -> np.ndarray:
    """Return the state (P, H) behind ids (n,), read from zero."""
    return network.read(np.asarray(ids, np.int64)[None])[1][:, 0]


def writing_from(model: ModelFile, state: np.ndarray) -> TextGenerator:
    """Return a generator that begins in a state (P, H)."""
    return TextGenerator(model.with_initial_states({"beginning": state, "within": state}))


def num_matches(text: Text, generator: TextGenerator, numbers: range) -> int:
    """Count the samples that begin as an article of the text does."""
    samples = [""] * len(numbers)
    for place, piece in generator.stream_many([[1, number] for number in numbers], max_length=SAMPLE_LENGTH):
        samples[place] += piece
    return sum(re.match(text.pattern, sample) is not None for sample in samples)


def count_matches(text: Text, model: ModelFile, corpus: Corpus) -> dict[str, int]:
    """Count the well-formed beginnings of `NUM_SAMPLES` samples from each state."""
    plain = TextGenerator(replace(model, parts={}))
    contexts = find_contexts(corpus).beginning
    every = range(NUM_SAMPLES)
    drawn = sum(
        num_matches(text, writing_from(model, state_behind(plain.network, ids)), every[place :: len(contexts)])
        for place, ids in enumerate(contexts)
    )
    return {
        "zero": num_matches(text, plain, every),
        "one": drawn,
        "mean": num_matches(text, TextGenerator(model), every),
        "int8": num_matches(text, TextGenerator(model, "int8"), every),
    }


def score_beginnings(model: ModelFile, corpus: Corpus) -> dict[str, float]:
    """Score the first characters of held-out articles, nats per character, from each state."""
    plain, ids = TextGenerator(replace(model, parts={})), corpus.ids
    contexts = find_contexts(corpus).beginning
    places = corpus.num_train + find_beginnings(ids[corpus.num_train :], corpus)
    places = places[places + SCORED_LENGTH < len(ids)]
    rng = np.random.default_rng(0)
    places = rng.choice(places, min(NUM_SAMPLES, len(places)), replace=False)
    mean, zero = model.initial_state(), np.zeros(plain.network.state_shape, np.float32)
    states: dict[str, Callable[[int], Any]] = {
        "true": lambda place: state_behind(plain.network, ids[place - CONTEXT_LENGTH : place]),
        "zero": lambda place: zero,
        "one": lambda place: state_behind(plain.network, contexts[rng.integers(len(contexts))]),
        "mean": lambda place: mean,
    }
    return {
        name: float(np.mean([_score(plain, ids, place, of(place)) for place in places])) for name, of in states.items()
    }


def _score(generator: TextGenerator, ids: np.ndarray, place: int, state: np.ndarray) -> float:
    """Score the characters behind the `start_id` at a place, nats per character, from the state before it."""
    piece = np.asarray(ids[place : place + SCORED_LENGTH + 1], np.int64)
    logits, _ = generator.network.predict(piece[None, :-1], state[:, None])
    shifted = logits[0].astype(np.float64)
    normalizer = np.log(np.exp(shifted).sum(axis=1))
    return float((normalizer - shifted[np.arange(SCORED_LENGTH), piece[1:]]).mean())


# ------------------------------------------------------------------------------------- measurement


def train(folder: Path, path: Path | None, seconds: int) -> Path:
    """Train a small model on a text and return the folder of the run."""
    run_dir = Path(tempfile.mkdtemp(dir=folder))
    corpus = [] if path is None else [str(path)]
    run_chargen(
        "train", *corpus, "model=small", f"trainer.max_time={seconds}s", "sample_length=0", f"run_dir={run_dir}",
        f"data_dir={folder}",
    )  # fmt: skip
    return run_dir


def measure(quick: bool) -> dict[str, Any]:
    """Train and count. A quick run takes the first text and trains for fifteen seconds."""
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for text in TEXTS[: 1 if quick else None]:
            path = None if text.write is None else text.write(folder)
            config = CorpusConfig(name="text" if path else "python_reference", path=path and str(path))
            corpus = load_corpus(config, folder)
            model = ModelFile.load(train(folder, path, 15 if quick else SECONDS) / "model.safetensors")
            result[text.name] = {
                "updates": model.metadata["updates"],
                "validation": score_streaming(CharRNN.from_model_file(model), corpus.validation).nats_per_char,
                "matches": count_matches(text, model, corpus),
                "beginnings": score_beginnings(model, corpus),
            }
    return {"texts": result}


STATES = {"zero": "zero state", "one": "one passage for each sample", "mean": "mean state"}


def table(result: dict[str, Any]) -> str:
    """Format the counts and the scores, one row for each text."""
    texts = result["texts"].items()
    counts = [(name, *(row["matches"][state] for state in [*STATES, "int8"])) for name, row in texts]
    scores = [
        (name, *(f"{row['beginnings'][state]:.3f}" for state in ["true", *STATES]), f"{row['validation']:.4f}")
        for name, row in texts
    ]
    first = markdown_table(("text", *STATES.values(), "mean state, int8"), counts)
    headings = ("text", "the article before", *STATES.values(), "whole held-out text")
    return (
        f"Well-formed beginnings of {NUM_SAMPLES} samples:\n\n{first}\n\nNats per character of the first "
        f"{SCORED_LENGTH} characters of held-out articles, by the state before them:\n\n"
        f"{markdown_table(headings, scores)}"
    )


if __name__ == "__main__":
    main(measure, table)
