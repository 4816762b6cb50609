"""A made-up corpus that needs neither audio nor espeak."""

from __future__ import annotations

import random
from pathlib import Path

from shards.sources.experiment_folder import SEMANTIC, TEXT, symbol_ids


def write_experiment(folder: Path, clips: int, seed: int = 0) -> Path:
    """A prepared GPT-SoVITS experiment: each token repeats, so that it can be learnt."""
    chance = random.Random(seed)
    symbols = list(symbol_ids("v2"))
    texts, tokens = [], ["item_name\tsemantic_audio"]
    for number in range(clips):
        name = f"clip_{number:04d}.wav"
        length = round(25 * min(8.0, max(1.0, chance.lognormvariate(1.0, 0.5))))
        phonemes = [chance.choice(symbols) for _ in range(max(2, length // 3))]
        texts.append(f"{name}\t{' '.join(phonemes)}\tNone\ttext {number}")
        units = [chance.randrange(20) for _ in range(length // 5 + 1) for _ in range(5)]
        tokens.append(f"{name}\t{' '.join(map(str, units[:length]))}")
    folder.mkdir(parents=True)
    (folder / TEXT).write_text("\n".join(texts) + "\n", encoding="utf-8")
    (folder / SEMANTIC).write_text("\n".join(tokens) + "\n", encoding="utf-8")
    return folder
