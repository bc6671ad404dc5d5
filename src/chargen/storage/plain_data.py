"""Read tensors and plain data from a checkpoint that anyone may have written, and refuse everything else."""

from __future__ import annotations

import io
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

MAX_PARTS = 1_000_000
"""The most numbers, texts and tensors in a checkpoint. A part that is referenced twice counts twice."""


def load_plain(file: Path) -> dict[str, Any]:
    """Read a file of `torch.save` that holds tensors and plain data.

    Python's zipfile copies the members into a new archive, which torch reads, so that the two zip readers cannot see
    different members.

    Raises:
        Exception: any error that torch or zipfile raise for a file that is something else.
    """
    import torch

    copy = io.BytesIO()
    with zipfile.ZipFile(file) as archive, zipfile.ZipFile(copy, "w") as copied:
        members = archive.infolist()
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise zipfile.BadZipFile("compressed members, which could be a thousand times as large in memory")
        if sum(member.file_size for member in members) > file.stat().st_size:
            raise zipfile.BadZipFile("members that overlap")
        for member in members:
            copied.writestr(member.filename, archive.read(member))
    copy.seek(0)
    content = torch.load(copy, map_location="cpu", weights_only=True)
    if not isinstance(content, dict):
        raise TypeError
    require_plain(content, torch.Tensor)
    return dict(content)


def require_plain(value: Any, tensor: type | None, budget: int = MAX_PARTS) -> int:
    """Check that data consists of dictionaries, lists, numbers, texts and, if allowed, ordinary tensors.

    Args:
        value: the data.
        tensor: `torch.Tensor` if tensors are allowed, else None. Without tensors, keys must be text.
        budget: how many parts are allowed.

    Returns:
        How many parts of the budget remain.

    Raises:
        ValueError: there is anything else, or there are too many parts.
    """
    kind = type(value)
    if kind is tensor:
        is_dense = str(value.layout) == "torch.strided" and not (value.is_quantized or value.is_nested)
        if not is_dense or value.device.type != "cpu" or value.requires_grad:
            raise ValueError("a tensor that chargen does not write")
        if value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise ValueError(f"a tensor of shape {tuple(value.shape)}, larger than its stored data")
    elif kind in (dict, OrderedDict):
        if kind is OrderedDict and vars(value).keys() - {"_metadata"}:  # attributes could hide objects
            raise ValueError("a dictionary with attributes")
        for key, part in dict.items(value):
            if type(key) is not str and (tensor is None or type(key) is not int):
                raise ValueError(f"a key of type {type(key).__name__}")
            budget = require_plain(part, tensor, budget)
    elif kind in (list, tuple):
        for part in value:
            budget = require_plain(part, tensor, budget)
    elif kind not in (str, int, float, bool, type(None)):
        raise ValueError(f"a {kind.__name__}")
    if budget <= 0:
        raise ValueError("more parts than any run has")
    return budget - 1
