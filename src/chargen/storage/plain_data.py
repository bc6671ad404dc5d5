"""Reads a checkpoint as tensors and plain data, whoever wrote it: no more than that, and no larger than its file."""

from __future__ import annotations

import io
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

MOST_PARTS = 1_000_000
"""Numbers, texts and tensors in a checkpoint, each counted where it stands: a part may stand in many places."""


def load_plain(file: Path) -> dict[str, Any]:
    """What stands in a checkpoint.

    torch is given an archive made anew of what Python reads in it, so that there are no two ways to read it.

    Raises:
        Exception: whatever torch or zipfile make of a file that is something else.
    """
    import torch

    whole = io.BytesIO()
    with zipfile.ZipFile(file) as archive, zipfile.ZipFile(whole, "w") as anew:
        members = archive.infolist()
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise zipfile.BadZipFile("packed members, which could be a thousand times as large in memory")
        if sum(member.file_size for member in members) > file.stat().st_size:
            raise zipfile.BadZipFile("members that overlap")
        for member in members:
            anew.writestr(member.filename, archive.read(member))
    whole.seek(0)
    content = torch.load(whole, map_location="cpu", weights_only=True)
    if not isinstance(content, dict):
        raise TypeError
    require_plain(content, torch.Tensor)
    return dict(content)


def require_plain(value: Any, tensor: type | None, left: int = MOST_PARTS) -> int:
    """Goes through data, and says how many parts are left of those there may be.

    Args:
        value: the data.
        tensor: torch's type of them, or None where there are to be none; keys are texts then.
        left: so many parts.

    Raises:
        ValueError: something is not plain, or there is too much of it.
    """
    kind = type(value)
    if kind is tensor:
        is_array = str(value.layout) == "torch.strided" and not (value.is_quantized or value.is_nested)
        if not is_array or value.device.type != "cpu" or value.requires_grad:
            raise ValueError("a tensor that chargen does not write")
        if value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise ValueError(f"a tensor of shape {tuple(value.shape)}, larger than what is stored of it")
    elif kind in (dict, OrderedDict):
        if kind is OrderedDict and vars(value).keys() - {"_metadata"}:  # which could hide what is in it
            raise ValueError("a dictionary with attributes")
        for key, part in dict.items(value):
            if type(key) is not str and (tensor is None or type(key) is not int):
                raise ValueError(f"a key of type {type(key).__name__}")
            left = require_plain(part, tensor, left)
    elif kind in (list, tuple):
        for part in value:
            left = require_plain(part, tensor, left)
    elif kind not in (str, int, float, bool, type(None)):
        raise ValueError(f"a {kind.__name__}")
    if left <= 0:
        raise ValueError("more parts than any run has")
    return left - 1
