"""Texts that the recipes were not tuned on: `chargen train` as it is, beside a plain LSTM of the same three minutes.

Couplets of the Tang in Chinese, the Python language reference, and the source of Python's own library; one seed each,
by the protocols of bench_quality.py. Some of the recurrent weights are dropped where a text is read often, without
being asked for; the table says how many.
"""

from __future__ import annotations

import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from bench_quality import SHARED, chargen_train, train_lstm
from measure import main, markdown

from chargen.config import CorpusConfig
from chargen.corpus.encoded import load_corpus

SECONDS = 180


def library_source(folder: Path) -> Path:
    """A megabyte of the source of Python's own library, file after file in the order of their names."""
    files = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    file = folder / "library_source.txt"
    file.write_text(
        "".join(f.read_text(encoding="utf-8", errors="replace") for f in files)[:1_000_000], encoding="utf-8"
    )
    return file


def other_texts(folder: Path) -> dict[str, Path]:
    """Those that the recipes were not tuned on."""
    reference = load_corpus(CorpusConfig(name="python_reference"), folder)
    file = folder / "reference.txt"
    file.write_text(reference.tokenizer.decode(reference.ids.tolist()), encoding="utf-8")
    texts = {"Python reference": file, "source of Python's library": library_source(folder)}
    couplets = SHARED / "tang_couplets.txt"
    return {"Tang couplets": couplets, **texts} if couplets.exists() else texts


def measure(quick: bool) -> dict[str, Any]:
    """Each text by both; a quick run takes fifteen seconds of the first."""
    result: dict[str, Any] = {"texts": {}}
    seconds = 15 if quick else SECONDS
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for label, text in list(other_texts(folder).items())[: 1 if quick else None]:
            ours = chargen_train(text, folder, seconds, 1, None)
            corpus = load_corpus(CorpusConfig(name=label, path=str(text)), folder)
            result["texts"][label] = {
                "chargen": ours,
                "plain_lstm": train_lstm(corpus, seconds),
                "characters": len(corpus.train),
            }
    return result


def table(result: dict[str, Any]) -> str:
    """Side by side."""
    rows = []
    for label, row in result["texts"].items():
        ours, theirs = row["chargen"], row["plain_lstm"]
        rows.append(
            (label, f"{ours['B']:.4f}", f"{theirs['nats']:.4f}", f"{theirs['nats'] - ours['B']:+.4f}",
             f"{ours['C']:.4f}", f"{ours['parameters']:,}", f"{ours['characters_seen'] / row['characters']:.1f}",
             f"{ours['weight_dropout']:.0%}")
        )  # fmt: skip
    headings = ("text", "chargen, B", "plain `nn.LSTM`", "better by", "chargen, C", "parameters", "passes", "dropped")
    return markdown(headings, rows)


if __name__ == "__main__":
    main(measure, table)
