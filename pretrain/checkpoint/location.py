"""Where checkpoints lie: the store of a folder or a URL that a user names."""

from __future__ import annotations

import tempfile
from pathlib import Path

from omegaconf import OmegaConf

from pretrain.checkpoint.manifest import DamageError, Manifest, is_checkpoint
from pretrain.checkpoint.remote import RemoteStore
from pretrain.checkpoint.store import LocalStore, Store, newest, read_manifest
from shards.errors import UserError
from shards.stores.remote import require_protocol

SCRATCH = Path(tempfile.gettempdir()) / "segue"


def store_at(place: str, scratch: Path = SCRATCH) -> Store:
    """The checkpoints in a folder, or below a URL that fsspec knows.

    Files on their way to a server lie in ``scratch``. UserError for an unknown protocol.
    """
    if "://" not in place:
        return LocalStore(Path(place))
    try:
        require_protocol(place)
    except UserError as error:
        raise UserError(str(error).replace("data.path=", "")) from error
    return RemoteStore(place, scratch)


def run_store(folder: Path, name: str, chosen: str | None) -> Store:
    """Where the run ``name`` saves: in its folder, or where ``checkpoint.dir`` says."""
    place = f"{chosen.rstrip('/')}/{name}" if chosen else str(folder / "checkpoints")
    return store_at(place, folder / "upload")


def store_of(run: str) -> Store:
    """The checkpoints of a run's folder, wherever its config says that they are; or below ``run``.

    ``run`` may be a URL.
    """
    if "://" in run:
        return store_at(run)
    folder = Path(run)
    chosen = _chosen_place(folder / "config.yaml")
    if chosen or (folder / "checkpoints").is_dir():
        return run_store(folder, folder.absolute().name, chosen)
    return store_at(run)


def _chosen_place(config: Path) -> str | None:
    if not config.is_file():
        return None
    chosen = OmegaConf.select(OmegaConf.load(config), "checkpoint.dir")
    return None if chosen is None else str(chosen)


def opened(place: str) -> tuple[Store, str, Manifest]:
    """A checkpoint, or the newest committed one of a run; UserError where there is none."""
    full = place.rstrip("/") if "://" in place else str(Path(place).absolute())
    above, _, name = full.rpartition("/")
    if is_checkpoint(name):
        store = store_at(above)
        try:
            return store, name, read_manifest(store, name)
        except DamageError as damage:
            raise UserError(
                f"PATH: {place} is not a committed checkpoint ({damage}); 'segue checkpoint ls' "
                "lists those that are"
            ) from damage
    store = store_of(place)
    for name, found in newest(store):
        if isinstance(found, Manifest):
            return store, name, found
    raise UserError(f"PATH: {place} is no checkpoint and holds none; 'segue checkpoint ls RUN'")
