"""Draw the figures of docs/rnn-explained.md: train small runs, and write docs/figures/*.svg. `make figures` calls this.

It takes about five minutes on two cores. The runs stay in runs/figures/; delete them to train them again.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from matplotlib.figure import Figure

from chargen.cli.console import console
from chargen.cli.inspect.carry import MAX_READ
from chargen.cli.inspect.gradients import panel_of
from chargen.cli.inspect.memory import curve_of
from chargen.cli.inspect.subject import Subject
from chargen.cli.plot import comparison_of
from chargen.insight.carry import carry_effect, carry_figure
from chargen.insight.charts import gradient_chart, memory_chart
from chargen.insight.drawing import as_themed_svg
from chargen.insight.lessons.clipping import clipping_figure, compare_clipping
from chargen.insight.lessons.copying import compare_copying, copying_figure
from chargen.insight.lessons.recurrence import matrix_recurrence, recurrence_figure, scalar_recurrence
from chargen.insight.lessons.unrolling import compare_unrolling, unrolling_figure

ROOT = Path(__file__).resolve().parents[1]
FIGURES = ROOT / "docs" / "figures"
RUNS = Path("runs") / "figures"

TRAINED = {
    **{
        f"{cell}_{how}": [f"+experiment=paper_{cell}_{how}"]
        for cell in ("rnn", "lstm")
        for how in ("clipped", "unclipped")
    },
    **{cell: ["+experiment=fifteen_seconds", f"model.cell={cell}"] for cell in ("rnn", "gru", "lstm")},
}
"""The settings of each run."""


def train_runs() -> None:
    """Train the runs that are not there yet."""
    for name, settings in TRAINED.items():
        folder = RUNS / name
        if not (folder / "summary.json").is_file():
            print(f"training {folder}", flush=True)
            words = [*settings, f"run_dir={folder}", "sample_length=0"]
            subprocess.run([sys.executable, "-m", "chargen", "train", *words], check=True, stdout=subprocess.DEVNULL)


def gradients() -> Figure:
    """Gradients over lags of the three cells, after training and before it."""
    panels = [panel_of(Subject.open(RUNS / cell)) for cell in ("rnn", "gru", "lstm")]
    return gradient_chart(
        [panel._replace(title=title) for panel, title in zip(panels, ("rnn", "gru", "lstm"), strict=True)]
    )


def carry() -> Figure:
    """The loss with the carry kept and with it reset."""
    subject = Subject.open(RUNS / "lstm")
    return carry_figure(carry_effect(subject.network, subject.corpus().validation[: MAX_READ + 1], subject.length))


def memory() -> Figure:
    """The loss over the length of context."""
    subject = Subject.open(RUNS / "lstm")
    return memory_chart(curve_of(subject, console(), positions=256), subject.length, "")


def explosion(cell: str) -> Figure:
    """A run whose gradients explode, beside its clipped twin."""
    folders = [RUNS / f"{cell}_clipped", RUNS / f"{cell}_unclipped"]
    return comparison_of(folders, [f"{cell}, clipped", f"{cell}, not clipped"])


DRAWINGS: dict[str, Callable[[], Figure]] = {
    "carry": carry,
    "memory": memory,
    "unrolling": lambda: unrolling_figure(compare_unrolling()),
    "recurrence": lambda: recurrence_figure(scalar_recurrence(), matrix_recurrence()),
    "clipping": lambda: clipping_figure(compare_clipping()),
    "explosion-rnn": lambda: explosion("rnn"),
    "explosion-lstm": lambda: explosion("lstm"),
    "gradients": gradients,
    "copying": lambda: copying_figure(compare_copying()),
}


def main() -> None:
    """Train what is missing, and draw."""
    begin = time.monotonic()
    train_runs()
    FIGURES.mkdir(exist_ok=True)
    for name, draw in DRAWINGS.items():
        file = FIGURES / f"{name}.svg"
        file.write_text(as_themed_svg(draw()), encoding="utf-8")
        print(file.relative_to(ROOT), flush=True)
    print(f"{time.monotonic() - begin:.0f} seconds")


if __name__ == "__main__":
    main()
