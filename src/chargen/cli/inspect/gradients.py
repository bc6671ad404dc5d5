"""`chargen inspect gradients`: how gradients shrink or grow on their way back through time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from chargen.cli.console import ForceOption, at_home, console, escaped, is_stdout, require_new
from chargen.cli.inspect.subject import JsonOption, Subject, progress, write_json
from chargen.cli.pictures import drawable, require_matplotlib, write_figure
from chargen.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from rich.console import Console

    from chargen.insight.charts import Panel
    from chargen.insight.gradient_flow import GradientFlow
    from chargen.insight.truncation import TruncationBias
    from chargen.nn.model import CharRNN

LANES, POSITIONS = 8, 32
"""Losses whose gradients are followed: so many in each of so many lanes of the held-out text."""

LEAST_LAGS = 200
"""Lags that are looked at if they are more than twice the window."""

NUMBERS_PER_UNIT, MOST_NUMBERS = 14, 1 << 27
"""Numbers that are kept for each unit and tick, and how many there may be: a gigabyte of float64."""

BIAS_GROUPS, BIAS_LANES, REFERENCE = 16, 8, 8
"""The text on which biases are measured: groups of lanes, each as long as so many windows of the run."""


HELP = (
    "Draw how much of the gradient of a loss reaches the states before it: where it vanishes, or explodes.\n\n"
    "For the loss behind a character, the norm of its gradient with respect to h (and c) is followed back "
    "through time, without truncation. The picture shows its median over many characters of the held-out text "
    "and the band from 10 to 90 %, relative to lag 0, after training and before it, with the window of the run "
    "as T."
)


def gradients(
    runs: Annotated[
        Optional[list[Path]],
        typer.Argument(
            metavar="RUN...", help="The folders of runs, or a file of each; the newest run if none is given."
        ),
    ] = None,
    cells: Annotated[
        Optional[str],
        typer.Option(
            metavar="NAMES",
            help="Also draw untrained models with these cells and the sizes of the first run, such as rnn,gru,lstm.",
        ),
    ] = None,
    bias: Annotated[
        Optional[bool],
        typer.Option(
            "--bias/--no-bias",
            help="Measure how far the gradient of short windows is from that of long ones; if not given, for one run.",
        ),
    ] = None,
    lags: Annotated[
        Optional[int],
        typer.Option(min=8, max=10_000, help="How many characters to look back; twice the window or more."),
    ] = None,
    output: Annotated[
        Optional[Path],
        typer.Option(
            callback=at_home,
            help="The picture to write, which must be new; gradients.png in the first run's folder, which is replaced, "
            "if not given.",
        ),
    ] = None,
    json_file: JsonOption = None,
    force: ForceOption = False,
) -> None:
    """Draw how much of the gradient of a loss reaches the states before it: where it vanishes, or explodes."""
    from chargen.cell_types import CELL_TYPES

    names = [name.strip() for name in cells.split(",")] if cells else []
    if unknown := [name for name in names if name not in CELL_TYPES]:
        raise UserError(f"--cells {unknown[0]}: must be one of {', '.join(CELL_TYPES)}, separated by commas")
    require_new(json_file, force=force)
    require_matplotlib()
    subjects = [Subject.open(at_home(run)) for run in runs] if runs else [Subject.open(None)]
    picture = subjects[0].result(output, "gradients.png", force=force)
    out = console(stderr=is_stdout(output) or is_stdout(json_file))
    panels, report, biases = [], [], []
    for subject in subjects:
        panel = panel_of(subject, lags)
        panels.append(panel)
        report.append({"run": str(subject.folder), "cell": subject.model.config.cell, **_numbers(panel)})
        _print_flow(out, panel)
        if bias if bias is not None else len(subjects) == 1:
            measured = _bias(subject, out)
            report[-1]["bias"] = None if measured is None else {**measured._asdict(), "smallest": measured.smallest()}
            if measured is not None:
                biases.append(measured)
                _print_bias(out, measured, subject.length)
    for name in names:
        panel = _panel_of_cell(subjects[0], name, lags)
        panels.append(panel)
        _print_flow(out, panel)
        report.append({"run": None, "cell": name, **_numbers(panel)})
    write_json(json_file, {"models": report})
    from chargen.insight.charts import gradient_chart

    write_figure(gradient_chart(panels, biases[0] if len(subjects) == 1 and biases else None), picture)


def _ids(subject: Subject, lags: int | None) -> tuple[np.ndarray, int]:
    """Return lanes (B, N+1) of the held-out text, and how many lags fit into them."""
    ids = subject.corpus().validation
    wanted = lags or max(LEAST_LAGS, 2 * subject.length)
    whole = wanted + max(wanted, POSITIONS) + 1
    states = whole * subject.model.config.hidden_size * subject.model.config.num_layers * NUMBERS_PER_UNIT
    lanes = max(1, min(LANES, len(ids) // whole, MOST_NUMBERS // states))
    size = min(len(ids) // lanes, whole)
    fitting = min(wanted, (size - 1) - POSITIONS)
    if fitting < 8 or (lags is not None and fitting < lags):
        raise UserError(
            f"the held-out text has {len(ids):,} characters, too few to look back {wanted:,}: write a smaller --lags"
            if fitting >= 8
            else f"the held-out text has {len(ids):,} characters, too few to look back from"
        )
    return ids[: lanes * size].reshape(lanes, size), fitting


def _flow(network: CharRNN, ids: np.ndarray, lags: int, positions: int = POSITIONS) -> GradientFlow:
    import torch

    from chargen.insight.gradient_flow import gradient_flow

    tensor = torch.from_numpy(ids.astype("int64"))
    return gradient_flow(network.double(), tensor, lags=lags, positions=positions)


def panel_of(subject: Subject, lags: int | None = None, *, positions: int = POSITIONS) -> Panel:
    """Follow the gradients of a run, after training and before it.

    Raises:
        UserError: its text is not there, or too short.
    """
    from chargen.insight.charts import Panel
    from chargen.nn.model import CharRNN

    ids, fitting = _ids(subject, lags)
    trained = _flow(CharRNN.from_model_file(subject.model), ids, fitting, positions)
    is_own = "init" not in subject.model.metadata and subject.seed is not None
    initial = _flow(_untrained(subject, subject.model.config.cell), ids, fitting, positions) if is_own else None
    return Panel(drawable(subject.name), trained, initial, subject.length)


def _panel_of_cell(subject: Subject, cell: str, lags: int | None) -> Panel:
    from chargen.insight.charts import Panel

    ids, fitting = _ids(subject, lags)
    config = subject.model.config
    title = f"{cell} {config.num_layers} x {config.hidden_size}, untrained"
    return Panel(title, _flow(_untrained(subject, cell), ids, fitting), None, subject.length)


def _untrained(subject: Subject, cell: str) -> CharRNN:
    """Return a model of the run's shape with random weights; with the run's own cell, those it began with."""
    from dataclasses import replace

    import torch

    from chargen.nn.model import CharRNN

    torch.manual_seed(1 if subject.seed is None else subject.seed)
    return CharRNN(replace(subject.model.config, cell=cell))


def _numbers(panel: Panel) -> dict[str, Any]:
    """Return what a drawing shows, as plain data."""
    from chargen.insight.charts import quantiles
    from chargen.insight.gradient_flow import fit_decay

    def of(flow: GradientFlow) -> dict[str, Any]:
        layers: dict[str, Any] = {}
        for part, norms in flow.parts.items():
            layers[part] = []
            for layer in norms:
                low, middle, high = (line.tolist() for line in quantiles(layer))
                entry = {"p10": low, "median": middle, "p90": high}
                if sum(norm > 0 for norm in middle) > 1:
                    entry |= fit_decay(quantiles(layer)[1])._asdict()
                layers[part].append(entry)
        return layers

    initial = {} if panel.initial is None else {"before_training": of(panel.initial)}
    return {"sequence_length": panel.length, "flow": of(panel.flow), **initial}


def _print_flow(out: Console, panel: Panel) -> None:
    """Print the median relative norm at some lags."""
    from chargen.insight.charts import quantiles
    from chargen.insight.gradient_flow import fit_decay

    last = panel.flow.h.shape[1] - 1
    shown = sorted({lag for lag in (1, 4, 16, panel.length // 2, panel.length, last) if 0 < lag <= last})
    out.print(f"{escaped(panel.title)}, windows of T = {panel.length}")
    out.print("  median norm of dL/dh, relative to lag 0, at so many characters back:")
    heads = [f"{lag} = T" if lag == panel.length else str(lag) for lag in shown]
    out.print(f"  {'':22}{''.join(f'{head:>11}' for head in heads)}{'e-fold in':>13}")
    labels = ("", "") if panel.initial is None else ("after training", "before training")
    for label, flow in zip(labels, (panel.flow, panel.initial), strict=True):
        for part, norms in ({} if flow is None else flow.parts).items():
            for layer, lines in enumerate(norms):
                middle = quantiles(lines)[1]
                decay = fit_decay(middle) if (middle > 0).sum() > 1 else None
                sign = "" if decay is None else "-" if decay.rate < 0 else "+"
                fold = "at once" if decay is None else f"{sign}{decay.horizon:.3g}"
                name = f"{part}{f' of layer {layer}' if len(norms) > 1 else ''} {label}"
                out.print(f"  {name:22}{''.join(f'{middle[lag]:11.2g}' for lag in shown)}{fold:>13}")


def _bias(subject: Subject, out: Console) -> TruncationBias | None:
    """Measure the bias of short windows on the training text; None if it is too short."""
    from chargen.insight.truncation import truncation_bias
    from chargen.nn.model import CharRNN
    from chargen.nn.threads import compute_threads

    T, ids = subject.length, subject.corpus().train
    lanes = min(BIAS_LANES, len(ids) // BIAS_GROUPS // (REFERENCE * T + 1))
    if not lanes:
        out.print(f"  the training text is too short to measure windows of {REFERENCE * T:,} characters")
        return None
    size = REFERENCE * T + 1
    begins = [len(ids) // BIAS_GROUPS * number for number in range(BIAS_GROUPS)]
    groups = [ids[begin : begin + lanes * size].reshape(lanes, size) for begin in begins]
    lengths = [T // part for part in (8, 4, 2, 1) if T % part == 0] + [2 * T, 4 * T]
    total = len(groups) * lanes * (size - 1) * (len(lengths) + 1)
    with compute_threads(), progress(out, "gradients of windows of several lengths", total) as advance:
        return truncation_bias(CharRNN.from_model_file(subject.model), groups, lengths, REFERENCE * T, advance)


def _print_bias(out: Console, bias: TruncationBias, length: int) -> None:
    """Print the bias by length, and which length to write."""
    import math

    from chargen.insight.truncation import ACCEPTED_BIAS

    def shown(value: float) -> str:
        return f"{value:.1%}" if math.isfinite(value) else "?"

    lengths = sorted(bias.biases)
    out.print(f"  relative bias of the gradient of shorter windows, against windows of {bias.reference:,}")
    out.print(f"  {'sequence_length':22}{''.join(f'{length:11,}' for length in lengths)}")
    out.print(f"  {'bias':22}{''.join(f'{shown(bias.biases[length]):>11}' for length in lengths)}")
    out.print(f"  {'with two std. errors':22}{''.join(f'{shown(bias.limits[length]):>11}' for length in lengths)}")
    smallest = bias.smallest()
    if smallest is None:
        out.print(f"  no measured length brings it under {ACCEPTED_BIAS:.0%}")
    elif smallest > length:
        out.print(f"  under {ACCEPTED_BIAS:.0%} with sequence_length={smallest}")
    else:
        out.print(f"  under {ACCEPTED_BIAS:.0%} with sequence_length={smallest}: windows of {length} are long enough")
