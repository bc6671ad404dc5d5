"""The experiments of `chargen explain`, each with a table and a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Optional

import typer

from chargen.cli.console import at_home, console, is_stdout
from chargen.cli.inspect.subject import progress
from chargen.cli.pictures import require_matplotlib, write_figure

OutputOption = Annotated[
    Optional[Path],
    typer.Option(
        callback=at_home,
        help="The picture to write; if not given, explain-COMMAND.png in this folder, which is replaced.",
    ),
]


RECURRENCE = (
    "Show that one weight over time makes gradients vanish below 1 and explode above 1, beside the closed form r^k."
)


def recurrence(output: OutputOption = None) -> None:
    """Show that one weight over time makes gradients vanish below 1 and explode above 1, beside the closed form r^k."""
    require_matplotlib()
    from chargen.insight.lessons.recurrence import matrix_recurrence, recurrence_figure, scalar_recurrence

    out = console(stderr=is_stdout(output))
    scalar, matrix = scalar_recurrence(), matrix_recurrence()
    lags = (1, 10, 50, 100)
    out.print("norm of the gradient so many ticks back")
    out.print(f"  {'':34}{''.join(f'{lag:>11}' for lag in lags)}")
    for name, gradients in (("one weight u", scalar), ("matrix r Q", matrix)):
        for radius in gradients.linear:
            for label, norms in (
                (f"= {radius:g}, linear", gradients.linear[radius]),
                (f"= {radius:g}, closed form r^k", gradients.closed_form[radius]),
                (f"= {radius:g}, with tanh", gradients.squashed[radius]),
            ):
                out.print(f"  {f'{name} {label}':34}{''.join(f'{norms[lag]:11.3g}' for lag in lags)}")
    write_figure(recurrence_figure(scalar, matrix), output or Path("explain-recurrence.png"))


UNROLLING = "Compare T updates of one tick with one update of T ticks: gradients, weights that move, and speed."


def unrolling(
    cell: Annotated[Literal["rnn", "lstm", "gru"], typer.Option(help="The recurrent cell.")] = "rnn",
    output: OutputOption = None,
) -> None:
    """Compare T updates of one tick with one update of T ticks: gradients, weights that move, and speed."""
    require_matplotlib()
    from chargen.insight.lessons.unrolling import compare_unrolling, unrolling_figure

    out = console(stderr=is_stdout(output))
    points = compare_unrolling(cell=cell)
    base = points[0].chars_per_second
    out.print("T updates of one tick, against one update of T ticks: relative differences of the gradient, and speed")
    out.print(f"  {'T':>4}{'no gradient through the state':>31}{'weights move':>15}{'speed, T = 1 is 1':>20}")
    for point in points:
        out.print(
            f"  {point.length:4}{point.without_past:31.0%}{point.moving:15.0%}{point.chars_per_second / base:20.1f}"
        )
    write_figure(unrolling_figure(points), output or Path("explain-unrolling.png"))


CLIPPING = "Clip exploding gradients by global norm and by value: what becomes of their length and their direction."


def clipping(output: OutputOption = None) -> None:
    """Clip exploding gradients by global norm and by value: what becomes of their length and their direction."""
    require_matplotlib()
    from chargen.insight.lessons.clipping import LIMIT, clipping_figure, compare_clipping

    out = console(stderr=is_stdout(output))
    clipped = compare_clipping()
    out.print("1. g = dL/dw   2. g <- g min(1, limit / |g|)   3. w <- w - rate g")
    out.print(f"the gradient of 100 ticks of an untrained rnn, limit {LIMIT:g}")
    out.print(f"  {'spectral radius':>15}{'norm':>12}{'clipped':>10}{'cosine':>9}{'cosine, clipped by value':>27}")
    for one in clipped:
        out.print(f"  {one.gain:15g}{one.norm:12.4g}{one.clipped_norm:10.4g}{one.cosine:9.4f}{one.value_cosine:27.4f}")
    write_figure(clipping_figure(clipped), output or Path("explain-clipping.png"))


COPYING = "Train rnn, gru and lstm to remember a symbol over growing distances, for a minute or two."


def copying(
    updates: Annotated[
        int, typer.Option(min=1, max=1_000_000, help="Updates with which each network learns; more reach further.")
    ] = 500,
    output: OutputOption = None,
) -> None:
    """Train rnn, gru and lstm to remember a symbol over growing distances, for a minute or two."""
    require_matplotlib()
    from chargen.insight.lessons.copying import CELLS, DISTANCES, compare_copying, copying_figure

    out = console(stderr=is_stdout(output))
    total = len(CELLS) * sum(DISTANCES) * updates
    with progress(out, "learning to copy", total) as advance:
        results = compare_copying(updates=updates, advance=advance)
    out.print(f"correct answers after {updates:,} updates, by the distance over which a symbol has to be remembered")
    out.print(f"  {'':6}{''.join(f'{distance:>8}' for distance in DISTANCES)}")
    for cell in CELLS:
        values = "".join(f"{one.accuracy:8.0%}" for one in results if one.cell == cell)
        out.print(f"  {cell:6}{values}")
    write_figure(copying_figure(results), output or Path("explain-copying.png"))
