"""The model families, by the name a run config gives as ``model.name``."""

from pretrain.models.gpt_sovits_s1.config import S1Config

ModelConfig = S1Config

__all__ = ["ModelConfig", "S1Config"]
