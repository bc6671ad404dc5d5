"""Load corpora in tests, and get their text back."""

from __future__ import annotations

from pathlib import Path

from chargen.config import CorpusConfig
from chargen.corpus.encoded import Corpus, load_corpus
from chargen.corpus.tokenizer import END_ID


def load_text(path: object, folder: Path, **settings) -> Corpus:
    """Load a text as a corpus. Encoded folders go to `folder / "cache"`; 30 % of the text are held out."""
    path = path if isinstance(path, list) else str(path)
    config = CorpusConfig(name="text", path=path, **{"validation_fraction": 0.3, **settings})
    return load_corpus(config, folder / "cache")


def articles_of(corpus: Corpus) -> list[str]:
    """Decode the articles of a corpus."""
    articles, article = [], []
    for id in [*corpus.ids.tolist(), END_ID]:
        if id == END_ID:
            articles.append(corpus.tokenizer.decode(article))
            article = []
        else:
            article.append(id)
    return articles
