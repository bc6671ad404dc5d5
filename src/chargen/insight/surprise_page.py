"""The page of a text coloured by surprise, which shows what a model expected at each character."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Callable, Sequence

import numpy as np

from chargen.insight.coloured_text import shown, steps
from chargen.insight.page import heading, page, paragraph, table
from chargen.insight.surprise import CharacterScores, Passage
from chargen.insight.typos import Typo

DEEPEST = 2.0
"""A character has the deepest colour if it surprised this many times as much as a uniform guess would."""

_STYLE = """
#text i{font-style:normal;cursor:default}
#text i.on{outline:2px solid var(--c0)}
#panel{position:sticky;bottom:0;background:var(--paper);
border-top:1px solid color-mix(in srgb,var(--ink) 30%,transparent);
padding:.5rem 0;min-height:4.6rem;font-size:.9rem}
#panel b{font-family:ui-monospace,"DejaVu Sans Mono",monospace}
@media print{#panel{display:none}}
"""

_SCRIPT = """
const text=document.getElementById("text"),panel=document.getElementById("panel"),chars=text.children;
const name=c=>c===" "?"␣":c==="\\n"?"⏎":c==="\\t"?"→":c;
let last=null;
function show(event){
  const cell=event.target.closest("#text i");
  if(!cell)return;
  if(last)last.classList.remove("on");
  last=cell;cell.classList.add("on");
  const at=Array.prototype.indexOf.call(chars,cell),nats=DATA.nats[at];
  panel.textContent="";
  const head=document.createElement("div");
  head.textContent=`“${name(cell.dataset.c??cell.textContent)}”: ${nats.toFixed(2)} nats `
    +`(${(nats/Math.LN2).toFixed(2)} bits), probability ${(100*Math.exp(-nats)).toPrecision(2)} %; `
    +`expected surprise ${DATA.entropy[at].toFixed(2)} nats`;
  const list=document.createElement("div");
  DATA.likely[at].forEach((id,k)=>{const b=document.createElement("b");b.textContent=name(DATA.symbols[id]);
    list.append(b,` ${DATA.percent[at][k]} %   `)});
  panel.append(head,list);
}
text.addEventListener("mouseover",show);text.addEventListener("click",show);
"""


def surprise_page(
    title: str,
    characters: Sequence[str],
    scores: CharacterScores,
    *,
    symbol: Callable[[int], str],
    passages: Sequence[Passage],
    typos: Sequence[Typo],
    where: Callable[[int], str],
    uniform: float,
    note: str = "",
) -> str:
    """Return the page.

    Args:
        title: of the page.
        characters: of the text that is shown, one string each.
        scores: of at least these characters.
        symbol: returns the character of an id.
        passages: the most surprising passages of the whole text.
        typos: what looks like typing errors.
        where: returns the line and column of a position.
        uniform: the surprise of a uniform guess, ln V.
        note: more about the text.
    """
    count = len(characters)
    nats = scores.nats
    mean = float(nats.mean())
    likely = scores.ids[:count].tolist()
    data = {
        "nats": np.round(nats[:count], 3).tolist(),
        "entropy": np.round(scores.entropy[:count], 3).tolist(),
        "likely": likely,
        "percent": [[_percent(p) for p in row] for row in scores.probabilities[:count].tolist()],
        "symbols": {id: symbol(id) for id in sorted({id for row in likely for id in row})},
    }
    cells = []
    for character, step in zip(characters, steps(nats[:count] / (DEEPEST * uniform)), strict=True):
        name = f" class=p{step}" if step else ""
        own = f' data-c="{html.escape(character, quote=True)}"' if shown(character) != character else ""
        cells.append(f"<i{name}{own}>{html.escape(shown(character))}</i>")
    body = [
        paragraph(
            f"{mean:.4f} nats per character ({mean / math.log(2):.4f} bits) over {len(nats):,} characters; expected "
            f"surprise {float(scores.entropy.mean()):.4f} nats. The deeper the orange, the more a character surprised "
            "the model, which has read everything before it."
        ),
        *([paragraph(note, note=True)] if note else []),
        paragraph("Point at a character, or tap it, to see what the model expected there.", note=True),
        f'<div class="text" id="text">{"".join(cells)}</div>',
        '<div id="panel"></div>',
        heading("The most surprising passages"),
        table(
            ("nats per character", "line:column", "passage"),
            [
                (f"{one.nats_per_char:.2f}", where(one.begin), _inline(characters[one.begin : one.end]))
                for one in passages
                if one.end <= count
            ],
            numbers=(0,),
        ),
    ]  # fmt: skip
    if typos:
        body += [
            heading("What looks like a typing error"),
            table(
                ("gain, nats", "line:column", "there is", "more probable"),
                [typo_row(one, characters, symbol, where) for one in typos if one.position < count],
                numbers=(0,),
            ),
        ]
    script = f"const DATA={_as_script(data)};{_SCRIPT}"
    return page(title, body, style=_STYLE, script=script)


def typo_row(
    typo: Typo, characters: Sequence[str], symbol: Callable[[int], str], where: Callable[[int], str]
) -> tuple[str, str, str, str]:
    """Return gain, place, and the text around a typing error without and with its correction."""
    begin, end = max(0, typo.position - 12), typo.position + len(typo.removed)
    before, behind = characters[begin : typo.position], characters[end : end + 8]
    there = [*before, *characters[typo.position : end], *behind]
    instead = [*before, *map(symbol, typo.added), *behind]
    return f"{typo.gain:.1f}", where(typo.position), _inline(there), _inline(instead)


def _inline(characters: Sequence[str]) -> str:
    return "".join("⏎" if character == "\n" else shown(character) for character in characters)


def _percent(p: float) -> float:
    percent = 100 * p
    return round(percent) if percent >= 10 else float(f"{percent:.2g}")


def _as_script(data: object) -> str:
    """Return plain data as JavaScript that cannot end its element."""
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
