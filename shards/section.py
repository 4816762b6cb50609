"""The base of every section of a run's configuration."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Immutable options; an unknown key, an infinity or a NaN is an error."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, coerce_numbers_to_str=True
    )
