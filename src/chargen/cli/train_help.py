"""The text of `chargen train --help`: every setting with its default and meaning, from the schema."""

from __future__ import annotations

import textwrap
from typing import Any

from chargen.cli.conf_folder import choices


def train_help() -> str:
    """Return the help text."""
    from chargen.config import help_rows

    rows: list[str] = []
    for title, settings in help_rows():
        rows += ["", title] if title else []
        rows += [f"  {f'{key}={_shown(default)}':34} {meaning}" for key, default, meaning in settings]
    groups = [
        textwrap.fill(
            ", ".join(choices(group.lstrip("+"))),
            width=96,
            initial_indent=f"  {group}=",
            subsequent_indent=" " * (len(group) + 3),
        )
        for group in ("corpus", "model", "+experiment")
    ]
    return f"""Usage: chargen train [TEXT ...] [SETTING=VALUE ...]

Learn to write from a text. TEXT is a file, several, a folder or a 'glob' of .txt, .md, .jsonl
(also .gz); without one, the articles of the Python language reference.

  chargen train                                    three minutes on the Python language reference
  chargen train my.txt trainer.max_time=00:00:10:00
  chargen train articles/ model=small model.cell=lstm
  chargen train corpus=tinyshakespeare trainer.max_epochs=3
  chargen train resume=runs/x                      continue a run that was stopped
  chargen train -m model.cell=rnn,gru,lstm         one run of each
  chargen train --cfg job                          show the composed settings and exit

Choices
{chr(10).join(groups)}

Settings
{chr(10).join(rows)}

trainer: Lightning's Trainer, under its own names
  trainer.max_time=DD:HH:MM:SS       the length of the run: a time (three minutes if none is given),
  trainer.max_steps=1000             updates,
  trainer.max_epochs=3               or passes over the text
  trainer.gradient_clip_val=1.0      the largest global norm of the gradient; null for no clipping
  trainer.val_check_interval=500     updates between validations; ten validations in a run if not given"""


def _shown(default: Any) -> str:
    return {"None": "null", "???": "", "True": "true", "False": "false"}.get(str(default), str(default))
