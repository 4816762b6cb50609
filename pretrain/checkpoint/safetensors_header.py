"""The header of a safetensors file, for files that are written piece by piece."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

_LENGTH_BYTES = 8


def header(entries: Mapping[str, Any], alignment: int) -> bytes:
    """The header for ``entries``, as the format has them; its size is a multiple of ``alignment``.

    Source: https://huggingface.co/docs/safetensors, "Format".
    """
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-(_LENGTH_BYTES + len(text)) % alignment)
    return len(text).to_bytes(_LENGTH_BYTES, "little") + text
