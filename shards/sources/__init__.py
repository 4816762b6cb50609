"""Corpora that can be packed: one small file each."""

from __future__ import annotations

from pathlib import Path

from shards.errors import UserError
from shards.sources.annotation_list import AnnotationList
from shards.sources.experiment_folder import ExperimentFolder
from shards.sources.source import Source


def open_source(path: Path, *, symbols: str) -> Source:
    """The corpus at ``path``; UserError where it is missing or of no kind known here.

    ``symbols``: the phoneme table (v1 or v2) of a prepared GPT-SoVITS experiment.
    """
    if not path.exists():
        raise UserError(f"SOURCE: {path} does not exist; name a corpus folder or a .list file")
    if ExperimentFolder.recognises(path):
        return ExperimentFolder(path, symbols)
    if AnnotationList.recognises(path):
        return AnnotationList.at(path)
    raise UserError(
        f"SOURCE: {path} is no corpus known here; give a .list file (path|speaker|language|text), "
        "a folder with exactly one, or a prepared GPT-SoVITS experiment folder "
        "(2-name2text.txt and 6-name2semantic.tsv)"
    )
