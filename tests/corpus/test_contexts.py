"""Contexts end where an article begins, or anywhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.corpora import load_text

from chargen.corpus.contexts import CONTEXT_LENGTH, NUM_CONTEXTS, find_contexts
from chargen.corpus.encoded import Corpus
from chargen.corpus.tokenizer import END_ID


def followers_of(contexts: np.ndarray, corpus: Corpus) -> list[set[str]]:
    """Return, for each context, what stands behind it in the training text: two symbols, "$" for an end of article."""
    text = "".join("$" if id == END_ID else corpus.tokenizer.decode([id]) for id in corpus.train.tolist())
    ring, found = text + text, []
    for context in contexts:
        piece = "".join("$" if id == END_ID else corpus.tokenizer.decode([id]) for id in context.tolist())
        begins = [place for place in range(len(text)) if ring.startswith(piece, place)]
        found.append({ring[begin + len(piece) :][:2] for begin in begins})
    return found


def poems(number: int, between: str) -> str:
    """Return poems of two lines with different words, each beginning with a capital letter."""
    rng = np.random.default_rng(number)
    lines = ["".join(rng.choice(list("abcdefgh"), 12)) for _ in range(2 * number)]
    return between.join(f"{a.capitalize()}\n{b}" for a, b in zip(lines[::2], lines[1::2], strict=True)) + between


@pytest.mark.parametrize("number", [9, 200])
@pytest.mark.parametrize("between", ["\n\n", "\n\n\n", "\r\n\r\n"])
def test_a_text_with_blank_lines_begins_behind_them(number: int, between: str, tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_bytes(poems(number, between).encode())
    corpus = load_text(tmp_path / "t.txt", tmp_path, validation_fraction=0.01)
    contexts = find_contexts(corpus)
    assert contexts.beginning.shape == (min(NUM_CONTEXTS, len(contexts.beginning)), CONTEXT_LENGTH)
    assert len(contexts.beginning) >= min(number - 1, NUM_CONTEXTS)
    for followers in followers_of(contexts.beginning, corpus):
        assert any(a == "\n" and (b.isupper() or b == "\n") for a, b in followers), followers


def test_articles_begin_behind_the_end_of_the_one_before(tmp_path: Path) -> None:
    for number in range(60):
        (tmp_path / f"{number:02}.txt").write_text(poems(number % 7 + 1, "\n\n"), encoding="utf-8")
    corpus = load_text([str(tmp_path / "*.txt")], tmp_path)
    contexts = find_contexts(corpus)
    assert len(contexts.beginning) == NUM_CONTEXTS
    assert all(any(a == "$" for a, _ in found) for found in followers_of(contexts.beginning, corpus))
    assert any(all(a != "$" for a, _ in found) for found in followers_of(contexts.within, corpus))


def test_a_text_of_lines_begins_behind_a_line(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text(poems(100, "\n"), encoding="utf-8")
    corpus = load_text(tmp_path / "t.txt", tmp_path)
    assert all(any(a == "\n" for a, _ in found) for found in followers_of(find_contexts(corpus).beginning, corpus))


@pytest.mark.parametrize("text", ["ab" * 30, "a" * 20 + "\n", "\n" * 40, "0123456789" * 40])
def test_any_text_has_contexts(text: str, tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text(text, encoding="utf-8")
    corpus = load_text(tmp_path / "t.txt", tmp_path)
    contexts = find_contexts(corpus)
    for ids in contexts:
        assert ids.shape[1] == CONTEXT_LENGTH
        assert 1 <= len(ids) <= NUM_CONTEXTS
        assert set(ids.ravel().tolist()) <= set(corpus.train.tolist())


def test_contexts_are_the_same_each_time(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text(poems(300, "\n\n"), encoding="utf-8")
    corpus = load_text(tmp_path / "t.txt", tmp_path)
    for first, second in zip(find_contexts(corpus), find_contexts(corpus), strict=True):
        np.testing.assert_array_equal(first, second)
