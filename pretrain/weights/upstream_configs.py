"""Configuration files of the programs that weights come from, told by their content."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from pretrain.config import Config
from pretrain.models.upstream import Translation, upstream_of
from pretrain.weights.families import refuse_absent
from pretrain.weights.found import S1, S2, SEED_VC, SEED_VC_V2, SEGUE
from shards import settings
from shards.atomic import replacing
from shards.errors import UserError

_TO_BE_GIVEN = {"run": {"name": "???"}, "data": {"path": "???"}}


def read_config(path: Path) -> tuple[str, dict[str, Any]]:
    """(kind, content) of a YAML or JSON file; UserError for one that is not understood."""
    try:
        file = OmegaConf.load(path)
        values: Any = OmegaConf.to_container(file, resolve=False)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); name a YAML file") from error
    except (OmegaConfBaseException, YAMLError, ValueError) as error:
        said = " ".join(str(error).split())
        raise UserError(f"{path}: {said}; mend the YAML there") from error
    kind = _kind(values) if isinstance(values, dict) else None
    if kind is None:
        raise UserError(
            f"{path} is no configuration that is understood; give one of GPT-SoVITS s1 "
            "(model.phoneme_vocab_size), of GPT-SoVITS s2, of Seed-VC (model_params), or a run's"
        )
    return kind, values


def _kind(values: Mapping[str, Any]) -> str | None:
    model = values.get("model")
    if {"cfm", "cfm_length_regulator"} <= {*values}:
        return SEED_VC_V2
    if "model_params" in values:
        return SEED_VC
    if not isinstance(model, Mapping):
        return SEGUE if "run" in values else None
    if "name" in model or "run" in values:
        return SEGUE
    if "phoneme_vocab_size" in model:
        return S1
    return S2 if "inter_channels" in model else None


def write_run_config(path: Path, out: Path) -> Translation:
    """Write a run's config with what the upstream config at ``path`` says.

    UserError for a model that is not there, and for values that no run could have.
    """
    kind, values = read_config(path)
    if kind == SEGUE:
        raise UserError(f"{path} is a run's config already; give it to segue launch")
    refuse_absent(kind, str(path))
    upstream = upstream_of(kind)
    assert upstream is not None
    translation = upstream.translated(values, str(path))
    sections = OmegaConf.to_container(OmegaConf.merge(_TO_BE_GIVEN, translation.sections))
    given = {"run": {"name": "name"}, "data": {"path": "path"}}
    settings.parsed(Config, OmegaConf.merge(sections, given), str(path))
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out) as aside:
        aside.write_text(
            _opening(path, out, translation) + OmegaConf.to_yaml(OmegaConf.create(sections))
        )
    return translation


def _opening(path: Path, out: Path, translation: Translation) -> str:
    return f"""\
# {translation.title} in the sizes of {path.name}.
#   segue launch {out.name} run.name=NAME data.path=SHARDS
{translation.notes}"""
