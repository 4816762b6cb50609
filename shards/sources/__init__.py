"""Corpora that can be packed: one small file each."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from itertools import islice
from pathlib import Path
from pkgutil import iter_modules
from typing import TYPE_CHECKING

from shards.errors import UserError
from shards.sources.source import Source

if TYPE_CHECKING:
    from shards.pack.config import PackConfig


LOOKED_AT = 200
"""Files of a folder that are looked at for a manifest."""


@cache
def kinds() -> dict[str, type[Source]]:
    """Every kind of corpus by its name: the subclasses of Source in this folder's modules."""
    for module in iter_modules(__path__):
        import_module(f"{__name__}.{module.name}")
    found = sorted(Source.__subclasses__(), key=lambda kind: (kind.catches, kind.kind))
    return {kind.kind: kind for kind in found}


def open_source(path: Path, kind: str | None, config: PackConfig) -> Source:
    """The corpus at ``path``, of the ``kind`` named or recognised.

    UserError where it is missing, of no kind known here, or could be of several.
    """
    if not _is_unicode(path):
        raise UserError(f"SOURCE: {str(path)!r} is not UTF-8; rename the folder")
    if not path.exists():
        raise UserError(f"SOURCE: {path} does not exist; name a corpus")
    if kind is None:
        return _recognised(path)(path, config)
    if kind not in kinds():
        raise UserError(f"--from {kind}: unknown; there are {', '.join(kinds())}")
    return kinds()[kind](path, config)


def _refuse_unnamed_manifest(folder: Path, kind: type[Source]) -> None:
    """UserError if a folder taken for plain audio holds a manifest that would be passed over."""
    if kind.catches == 1 or not folder.is_dir():
        return
    for file in islice((path for path in folder.iterdir() if path.is_file()), LOOKED_AT):
        for manifest in kinds().values():
            if manifest.catches == 1 and manifest.recognises(file):
                raise UserError(
                    f"SOURCE: {folder} holds {file.name}, of the kind {manifest.kind}; name that "
                    f"file, or say --from {kind.kind} to take the audio without it"
                )


def _is_unicode(path: Path) -> bool:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def _recognised(path: Path) -> type[Source]:
    found = [kind for kind in kinds().values() if kind.recognises(path)]
    if not found:
        listed = "; ".join(f"{kind.kind}: {kind.about}" for kind in kinds().values())
        raise UserError(f"SOURCE: {path} is no corpus known here ({listed}); name one of these")
    _refuse_unnamed_manifest(path, found[0])
    first = [kind for kind in found if kind.catches == found[0].catches]
    if len(first) > 1:
        names = " or ".join(f"--from {kind.kind}" for kind in first)
        raise UserError(f"SOURCE: {path} could be several kinds of corpus; say {names}")
    return first[0]
