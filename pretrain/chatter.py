"""What the libraries below us say: warnings and news are kept out unless a run is verbose."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO

VERBOSE = "SEGUE_VERBOSE"
"""The environment variable that lets everything through: what ``segue launch -v`` sets."""


def is_verbose() -> bool:
    """Whether the user wants to read all of it."""
    return os.environ.get(VERBOSE, "") not in {"", "0"}


NEWS = {"TRANSFORMERS_VERBOSITY": "info", "ACCELERATE_LOG_LEVEL": "INFO"}
"""What has libraries tell more than warnings."""


def keep_out() -> None:
    """Let only errors through, of this process and of those it starts; all where it is verbose.

    To be called before those libraries are imported.
    """
    if is_verbose():
        for name, level in NEWS.items():
            os.environ.setdefault(name, level)
        logging.basicConfig(level=logging.INFO)
        return
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    logging.disable(logging.WARNING)
    warnings.showwarning = _ignored  # libraries turn on filters of their own


def silence_stdout() -> None:
    """Discard what this process and its children print, unless it is verbose; errors go on."""
    if is_verbose():
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)


@contextmanager
def unheard() -> Iterator[None]:
    """Discard what is printed and warned of inside, unless it is verbose."""
    if is_verbose():
        yield
        return
    with warnings.catch_warnings(), redirect_stdout(StringIO()):
        warnings.simplefilter("ignore")
        yield


def _ignored(*_: object, **__: object) -> None:
    return None
