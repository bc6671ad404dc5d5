"""Quality on texts not used for tuning: `chargen train` with its defaults and a plain LSTM, three minutes each.

The texts are couplets of the Tang dynasty in Chinese, the Python language reference, and source code of Python's
standard library. Each is trained on with one seed and scored with the protocols of bench_quality.py. By default,
`chargen train` drops a fraction of the recurrent weights if it reads a text often; the table shows that fraction.
"""

from __future__ import annotations

import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from bench_quality import chargen_train, train_lstm
from measure import find_text, main, markdown_table

from chargen.config import CorpusConfig
from chargen.corpus.encoded import load_corpus

SECONDS = 180


def library_source(folder: Path) -> Path:
    """Write the first million characters of the modules of Python's standard library, sorted by name, to a file."""
    modules = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    source = "".join(module.read_text(encoding="utf-8", errors="replace") for module in modules)
    file = folder / "library_source.txt"
    file.write_text(source[:1_000_000], encoding="utf-8")
    return file


def other_texts(folder: Path) -> dict[str, Path]:
    """Return the texts by name. Those that chargen or Python contains are written to `folder`."""
    reference = load_corpus(CorpusConfig(name="python_reference"), folder)
    file = folder / "reference.txt"
    file.write_text(reference.tokenizer.decode(reference.ids.tolist()), encoding="utf-8")
    texts = {"Python reference": file, "source of Python's standard library": library_source(folder)}
    couplets = find_text("tang_couplets.txt")
    return texts if couplets is None else {"Tang couplets": couplets, **texts}


def measure(quick: bool) -> dict[str, Any]:
    """Train and score both models on each text. A quick run takes the first text and trains for fifteen seconds."""
    result: dict[str, Any] = {"texts": {}}
    seconds = 15 if quick else SECONDS
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for label, text in list(other_texts(folder).items())[: 1 if quick else None]:
            ours = chargen_train(text, folder, seconds, seed=1)
            corpus = load_corpus(CorpusConfig(name=label, path=str(text)), folder)
            result["texts"][label] = {
                "chargen": ours,
                "plain_lstm": train_lstm(corpus, seconds),
                "characters": len(corpus.train),
            }
    return result


def table(result: dict[str, Any]) -> str:
    """Format one row for each text."""
    rows = []
    for label, row in result["texts"].items():
        ours, theirs = row["chargen"], row["plain_lstm"]
        rows.append(
            (label, f"{ours['B']:.4f}", f"{theirs['nats']:.4f}", f"{theirs['nats'] - ours['B']:+.4f}",
             f"{ours['C']:.4f}", f"{ours['parameters']:,}", f"{ours['characters_seen'] / row['characters']:.1f}",
             f"{ours['weight_dropout']:.0%}")
        )  # fmt: skip
    headings = (
        "text", "chargen, B", "plain `nn.LSTM`, B", "difference", "chargen, C", "parameters", "passes over the text",
        "recurrent weights dropped",
    )  # fmt: skip
    return f"Nats per character, protocols B and C:\n\n{markdown_table(headings, rows)}"


if __name__ == "__main__":
    main(measure, table)
