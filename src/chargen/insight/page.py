"""Pages of HTML that stand alone: no network, light and dark, readable on a phone and on paper."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from chargen.insight.coloured_text import style_rules
from chargen.insight.drawing import theme

_STYLE = """
body{margin:0 auto;max-width:58rem;padding:1rem 1.2rem 4rem;background:var(--paper);color:var(--ink);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans","Noto Sans CJK TC",sans-serif}
h1{font-size:1.5rem;line-height:1.25;margin:1rem 0 .3rem;overflow-wrap:anywhere}
h2{font-size:1.15rem;margin:2.2rem 0 .5rem;padding-top:.6rem;
border-top:1px solid color-mix(in srgb,var(--ink) 20%,transparent)}
h3{font-size:1rem;margin:1.4rem 0 .3rem}
p{margin:.4rem 0}
.note{color:color-mix(in srgb,var(--ink) 72%,transparent);font-size:.92rem}
.scroll{overflow-x:auto}
table{border-collapse:collapse;margin:.5rem 0;font-size:.92rem;font-variant-numeric:tabular-nums}
th,td{padding:.2rem .9rem .2rem 0;text-align:left;vertical-align:top}
td.number,th.number{text-align:right}
th{font-weight:600;border-bottom:1px solid color-mix(in srgb,var(--ink) 30%,transparent)}
svg{max-width:100%;height:auto;display:block;margin:.5rem 0}
pre,code,.text{font-family:ui-monospace,"DejaVu Sans Mono",Menlo,Consolas,"Noto Sans Mono CJK TC",monospace}
pre,.text{font-size:.84rem;line-height:1.45;white-space:pre-wrap;overflow-wrap:anywhere;margin:.4rem 0}
pre{background:color-mix(in srgb,var(--ink) 6%,transparent);padding:.6rem .8rem;border-radius:4px}
nav a{margin-right:.9rem}
a{color:var(--c0)}
@media print{body{max-width:none;padding:0}h2{break-after:avoid}svg,table,pre{break-inside:avoid}nav{display:none}}
"""


def page(title: str, body: Iterable[str], *, style: str = "", script: str = "") -> str:
    """Return a whole page.

    Args:
        title: plain text.
        body: HTML, piece by piece.
        style: more CSS.
        script: JavaScript that runs when the page is there.
    """
    code = f"<script>{script}</script>" if script else ""
    name = html.escape(title)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{name}</title>\n<style>{theme()}{_STYLE}{style_rules()}{style}</style>\n</head>\n"
        f"<body>\n<h1>{name}</h1>\n" + "\n".join(body) + f"\n{code}</body>\n</html>\n"
    )


def paragraph(text: str, *, note: bool = False) -> str:
    """Return a paragraph of plain text."""
    return f"<p{' class=note' if note else ''}>{html.escape(text)}</p>"


def heading(text: str, *, level: int = 2, anchor: str = "") -> str:
    """Return a heading of plain text."""
    place = f' id="{html.escape(anchor, quote=True)}"' if anchor else ""
    return f"<h{level}{place}>{html.escape(text)}</h{level}>"


def preformatted(text: str) -> str:
    """Return plain text whose lines and blanks are kept."""
    return f"<pre>{html.escape(text)}</pre>"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: Iterable[int] = ()) -> str:
    """Return a table of plain text.

    Args:
        columns: the heads.
        rows: the cells of each row.
        numbers: the columns, from 0 on, that are set to the right.
    """
    right = set(numbers)

    def cells(tag: str, texts: Sequence[str]) -> str:
        return "".join(
            f"<{tag}{' class=number' if place in right else ''}>{html.escape(text)}</{tag}>"
            for place, text in enumerate(texts)
        )

    lines = "".join(f"<tr>{cells('td', row)}</tr>\n" for row in rows)
    head = f"<tr>{cells('th', columns)}</tr>\n" if any(columns) else ""
    return f'<div class="scroll"><table>\n{head}{lines}</table></div>'
