"""Errors come back whole from another process."""

from __future__ import annotations

import copy
import pickle

from chargen.errors import ArgumentError


def test_an_argument_error_survives_copies() -> None:
    error = ArgumentError("top_p", 1.5, "at most 1")
    for copied in (copy.copy(error), copy.deepcopy(error), pickle.loads(pickle.dumps(error))):
        assert type(copied) is ArgumentError
        assert (str(copied), vars(copied)) == (str(error), vars(error)) == ("top_p=1.5: must be at most 1", vars(error))
