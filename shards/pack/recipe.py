"""How recordings become clips."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from shards.errors import UserError
from shards.features.feature import Feature
from shards.features.registry import features_named
from shards.pack.config import PackConfig
from shards.quality.clean import require
from shards.sources.source import Source

WORK_FOLDER = ".pack"


@dataclass(frozen=True)
class Recipe:
    """Everything that a worker process needs to know.

    ``store`` is config.audio.store, decided; ``fingerprint`` is that of all settings, by which
    what was made with others is told apart.
    """

    source: Source
    names: tuple[str, ...]
    features: tuple[Feature, ...]
    config: PackConfig
    store: Literal["flac", "original", "none"]
    out: Path
    fingerprint: str = ""

    @classmethod
    def of(cls, source: Source, config: PackConfig, out: Path) -> Recipe:
        """What ``config`` means for ``source``; UserError for what is missing for it."""
        names = source.default_features if config.features is None else config.features
        features = features_named(names, config, out)
        require(config.clean)
        store = config.audio.store or source.default_audio
        if store != "flac" and config.audio.sample_rate:
            raise UserError(
                f"audio.sample_rate={config.audio.sample_rate}: the audio of this corpus is stored "
                f"as {store}; add audio.store=flac, or leave audio.sample_rate out"
            )
        if "bert" in names and not source.tells_word2ph:
            raise UserError(
                f"features: bert needs word2ph, which a corpus of the kind {source.kind} does not "
                "tell; pack a prepared GPT-SoVITS experiment, or leave bert out"
            )
        return cls(source, tuple(names), features, config, store, out)

    @property
    def work(self) -> Path:
        """The folder of everything unfinished."""
        return self.out / WORK_FOLDER

    @property
    def corpus(self) -> str:
        """What the corpus is called, wherever it lies."""
        return self.source.path.resolve().name

    @property
    def needs_text(self) -> bool:
        """Whether a clip without text cannot get in."""
        return any(feature.needs_text for feature in self.features)

    @property
    def needs_audio(self) -> bool:
        """Whether a clip without audio cannot get in."""
        return any(feature.needs_audio for feature in self.features)

    def seed(self, block: int) -> str:
        """What shuffles a block."""
        return f"{self.config.seed}/{block}"
