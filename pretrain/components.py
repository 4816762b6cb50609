"""Which parameters train at a step, at which rate and decay: pure functions of the step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import Field, model_validator

from pretrain.groups import Group, OptimizerConfig, Part, parameter_groups
from pretrain.models.outline import Outline
from pretrain.models.parts import covered, nearest
from shards.errors import UserError
from shards.section import Section


class Freeze(Section):
    """``freeze``: for good or until a step or epoch; ``true`` stands for ``{always: true}``."""

    always: bool = False
    until_step: int | None = Field(default=None, ge=1)
    until_epoch: float | None = Field(default=None, gt=0)

    @model_validator(mode="before")
    @classmethod
    def _short(cls, written: Any) -> Any:
        if isinstance(written, bool):
            return {"always": written}
        if isinstance(written, (dict, Freeze)):
            return written
        raise ValueError("write true, false, {until_step: N} or {until_epoch: E}")

    @model_validator(mode="after")
    def _one(self) -> Freeze:
        if self.always + (self.until_step is not None) + (self.until_epoch is not None) > 1:
            raise ValueError("always, until_step and until_epoch contradict each other; keep one")
        return self

    def ends(self, step_at: Callable[[float], int]) -> int | None:
        """The first step that trains, None if none does; ``step_at`` turns epochs into steps."""
        if self.always:
            return None
        if self.until_epoch is not None:
            return step_at(self.until_epoch)
        return self.until_step or 0


class ComponentConfig(Section):
    """``components.NAME``: how one component, or the parameters of one pattern, train."""

    freeze: Freeze = Freeze()
    lr_scale: float = Field(default=1.0, gt=0, description="factor of the learning rate")
    layer_decay: float = Field(
        default=1.0, gt=0, le=1, description="further factor per block below the last one"
    )
    weight_decay: float | None = Field(
        default=None, ge=0, description="instead of optimizer.weight_decay"
    )

    @model_validator(mode="before")
    @classmethod
    def _refuse_dots(cls, written: Any) -> Any:
        for key, value in written.items() if isinstance(written, dict) else ():
            if isinstance(value, dict) and key not in cls.model_fields:
                raise ValueError(
                    f"a pattern with dots goes in brackets; write components[NAME.{key}...].KEY="
                )
        return written


@dataclass(frozen=True)
class Treatment:
    """What a run does with one parameter.

    ``entry`` is the key of the section that decides ("" if none does), ``begins`` the first step
    that trains it, None if none does.
    """

    entry: str
    part: Part
    begins: int | None

    def trains_at(self, step: int) -> bool:
        """Whether ``step`` trains it."""
        return self.begins is not None and step >= self.begins


@dataclass(frozen=True)
class Training:
    """What trains when, and how: ``treatments`` of all parameters, in the model's order."""

    outline: Outline
    optimizer: OptimizerConfig
    treatments: Mapping[str, Treatment]

    def groups(self, step: int) -> tuple[Group, ...]:
        """The optimizer's groups at ``step``; a parameter in none of them is frozen."""
        parts: dict[Part, list[tuple[str, int]]] = {}
        for name, treatment in self.treatments.items():
            if treatment.trains_at(step):
                dimensions = len(self.outline.shapes[name])
                parts.setdefault(treatment.part, []).append((name, dimensions))
        return tuple(
            group
            for part, known in parts.items()
            for group in parameter_groups(known, self.optimizer, part)
        )

    def changes(self, start: int, target: int) -> tuple[int, ...]:
        """The steps after ``start`` and before ``target`` from which on more trains, ascending."""
        begins = {treatment.begins for treatment in self.treatments.values()}
        return tuple(sorted(step for step in begins if step and start < step < target))


def training(
    outline: Outline,
    components: Mapping[str, ComponentConfig],
    optimizer: OptimizerConfig,
    step_at: Callable[[float], int],
) -> Training:
    """What ``components`` say of each parameter: of the entries that fit it, the last one decides;
    an unused one never trains.

    UserError for an entry that fits nothing or whose layers cannot be told, and where step 0
    would train nothing.
    """
    treatments = dict.fromkeys(outline.shapes, Treatment("", Part(), 0))
    for key, config in components.items():
        names = _fitting(outline, key)
        begins = config.freeze.ends(step_at)
        treatments |= {
            name: Treatment(key, part, begins) for name, part in _parts(key, config, names).items()
        }
    treatments |= dict.fromkeys(outline.unused, Treatment("", Part(), None))
    if not any(treatment.trains_at(0) for treatment in treatments.values()):
        raise UserError(
            "components: every parameter is frozen at step 0; leave freeze out for at least one of "
            + ", ".join(outline.components)
        )
    return Training(outline, optimizer, treatments)


def layer_exponents(names: list[str]) -> dict[str, int] | None:
    """How many blocks below the last one each of ``names`` lies; None if no block is numbered.

    A block's number is the first part of a name that is all digits, and n is one more than the
    highest. Block i gets n - 1 - i; what comes before the first block in the model's order gets n,
    what comes after it 0. The layer-wise rates of ELECTRA (Clark et al. 2020, appendix A) and BEiT
    (Bao et al. 2022, appendix) are powers of these.
    """
    blocks = [_block(name) for name in names]
    numbered = [block for block in blocks if block is not None]
    if not numbered:
        return None
    count, first = max(numbered) + 1, blocks.index(numbered[0])
    return {
        name: count - 1 - block if block is not None else (count if place < first else 0)
        for place, (name, block) in enumerate(zip(names, blocks, strict=True))
    }


def _block(name: str) -> int | None:
    return next((int(part) for part in name.split(".") if part.isdecimal()), None)


def _parts(key: str, config: ComponentConfig, names: list[str]) -> dict[str, Part]:
    if config.layer_decay == 1:
        return dict.fromkeys(names, Part(key, config.lr_scale, config.weight_decay))
    exponents = layer_exponents(names)
    if exponents is None:
        raise UserError(
            f"components.{key}.layer_decay={config.layer_decay:g}: it has no numbered blocks; "
            f"leave it out or set components.{key}.lr_scale"
        )
    return {
        name: Part(
            f"{key}-{exponent}",
            config.lr_scale * config.layer_decay**exponent,
            config.weight_decay,
        )
        for name, exponent in exponents.items()
    }


def _fitting(outline: Outline, key: str) -> list[str]:
    """The parameters of the component ``key``, or those whose name fits the pattern ``key``."""
    names = covered(key, outline.shapes, outline.components)
    if names:
        return names
    close = nearest(key, outline.shapes, outline.components)
    raise UserError(
        f"components.{key}: no component has this name and no parameter fits this pattern; write "
        f"{', '.join(close[:-1])}{' or ' if close[1:] else ''}{close[-1]}"
    )
