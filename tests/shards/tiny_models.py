"""Small random models of the classes that features load, saved as their publishers save them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertModel,
    HubertConfig,
    HubertModel,
    Wav2Vec2Config,
    Wav2Vec2Model,
    WhisperConfig,
    WhisperModel,
)
from transformers.utils import logging

from shards.audio import Audio
from shards.clip import Clip

HANZI = "你好世界我们今天去学校"
WIDTH, LAYERS = 24, 4

logging.disable_progress_bar()


def noise(seconds: float = 1.0, sample_rate: int = 16_000, seed: int = 0) -> Audio:
    samples = np.random.default_rng(seed).standard_normal(round(seconds * sample_rate)) * 0.1
    return Audio(samples.astype(np.float32), sample_rate)


def clip_of(audio: Audio | None = None, text: str = "", language: str = "", **facts: Any) -> Clip:
    return Clip("clip", text, "speaker", language, audio, facts)


def save_hubert(folder: Path, *, seed: int = 0, is_large: bool = False) -> HubertModel:
    """A model of 4 layers and 24 dimensions, laid out as base models are, or as large ones."""
    torch.manual_seed(seed)
    config = HubertConfig(
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=2,
        intermediate_size=32,
        conv_dim=(16,) * 7,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=2,
        do_stable_layer_norm=is_large,
        feat_extract_norm="layer" if is_large else "group",
    )
    model = HubertModel(config).eval()
    model.save_pretrained(folder)
    return model


def save_xlsr(folder: Path, *, is_large: bool = True) -> Wav2Vec2Model:
    """A wav2vec 2.0 of 4 layers and 24 dimensions, laid out as XLS-R is, or as base models are."""
    torch.manual_seed(0)
    config = Wav2Vec2Config(
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=2,
        intermediate_size=32,
        conv_dim=(16,) * 7,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=2,
        do_stable_layer_norm=is_large,
        feat_extract_norm="layer" if is_large else "group",
    )
    model = Wav2Vec2Model(config).eval()
    model.save_pretrained(folder)
    return model


def save_whisper(folder: Path, *, seconds: int) -> WhisperModel:
    """A Whisper of 24 dimensions whose window is ``seconds``; 30 in the published ones."""
    torch.manual_seed(0)
    config = WhisperConfig(
        d_model=WIDTH,
        encoder_layers=2,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        vocab_size=20,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
        max_source_positions=seconds * 50,
        max_target_positions=8,
    )
    model = WhisperModel(config).eval()
    model.save_pretrained(folder)
    return model


def save_bert(folder: Path, *, layers: int = LAYERS) -> BertModel:
    """A masked language model of single hanzi with its vocabulary; its encoder."""
    torch.manual_seed(1)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *HANZI, ",", ".", "ok"]
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=WIDTH,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
    )
    model = BertForMaskedLM(config).eval()
    model.save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    return model.bert


def quantizer_weights(kernel: int = 2, width: int = WIDTH) -> dict[str, torch.Tensor]:
    """What units.sovits reads of an s2G file, among other weights, in half precision."""
    torch.manual_seed(2)
    return {
        "enc_p.proj.weight": torch.randn(4, 4).half(),
        "ssl_proj.weight": torch.randn(width, width, kernel).half(),
        "ssl_proj.bias": torch.randn(width).half(),
        "quantizer.vq.layers.0._codebook.embed": torch.randn(50, width).half(),
    }


@contextmanager
def foreign_module(name: str, source: str) -> Iterator[ModuleType]:
    """A module that is there while a file is written and gone when it is read."""
    module = ModuleType(name)
    sys.modules[name] = module
    exec(source, module.__dict__)
    try:
        yield module
    finally:
        del sys.modules[name]


def rewrite_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    config = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps(config))
