"""BERT features of Chinese text, one column per phoneme, as GPT-SoVITS uses them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from shards.clip import Clip
from shards.errors import UserError
from shards.features.model_folder import ModelFolder, Wanted, best_device, load_model, unloadable
from shards.section import Section

if TYPE_CHECKING:
    from transformers import BertModel, PreTrainedTokenizerBase

    from shards.pack.config import PackConfig

_TOKENIZERS = ("tokenizer.json", "vocab.txt")
_WANTED = Wanted(
    what="chinese-roberta-wwm-ext-large",
    model_type="bert",
    files=" or ".join(_TOKENIZERS),
    others=(_TOKENIZERS,),
)
# The program reads hidden_states[-3]: what the last two layers are given.
_UNREAD_LAYERS = 2
_CANTONESE = {"zh-hk", "zh-yue"}


class BertConfig(Section):
    """``bert``: the model of the feature bert."""

    model: str | None = Field(default=None, description="folder of chinese-roberta-wwm-ext-large")


@dataclass(frozen=True)
class BertFeatures:
    """``bert``: float16 [hidden, phonemes], each character's state once for all its phonemes.

    Only Mandarin has it; a clip of another language goes without, as the program has it.
    """

    model: ModelFolder

    member: ClassVar[str] = "bert.npy"
    # Clips of other languages are to get in without it, with or without text.
    needs_text: ClassVar[bool] = False
    needs_audio: ClassVar[bool] = False

    @classmethod
    def configured(cls, config: PackConfig, out: Path) -> BertFeatures:
        """UserError without a model."""
        model = ModelFolder.opened("bert.model", config.bert.model, _WANTED)
        if model.number("num_hidden_layers") < _UNREAD_LAYERS:
            raise UserError(
                f"bert.model: {model.path} has fewer than {_UNREAD_LAYERS} layers; "
                f"give the folder of {_WANTED.what}"
            )
        return cls(model)

    def compute(self, clip: Clip) -> NDArray[Any] | None:
        """ValueError for a Mandarin clip without ``word2ph``, or whose text it does not fit."""
        if not _is_wanted(clip):
            return None
        repeats = _phonemes_per_character(clip)
        states = _characters(self.model, clip.text)
        if len(states) != len(repeats):
            raise ValueError("BERT reads the text as other tokens than its characters")
        spread = np.repeat(states, repeats, axis=0).T
        return np.ascontiguousarray(spread, dtype=np.float16)

    def about(self) -> dict[str, Any]:
        """The size of a column and the model."""
        return {
            "feature": "bert",
            "dimensions": self.model.number("hidden_size"),
            "model": self.model.about(),
        }


def _is_wanted(clip: Clip) -> bool:
    if not clip.language:  # a prepared experiment names none, and has word2ph for Mandarin alone
        return clip.facts.get("word2ph") is not None
    code = clip.language.strip().lower().replace("_", "-")
    return code.partition("-")[0] in {"zh", "cmn"} and code not in _CANTONESE


def _phonemes_per_character(clip: Clip) -> NDArray[np.int64]:
    word2ph = clip.facts.get("word2ph")
    if word2ph is None:
        raise ValueError("no word2ph for the BERT features")
    counts = np.asarray(word2ph)
    if counts.ndim != 1 or counts.dtype.kind != "i" or counts.min() < 0 or not counts.any():
        raise ValueError("word2ph is no list of numbers of phonemes")
    if len(counts) != len(clip.text):
        raise ValueError("word2ph does not fit the characters of the text")
    return counts


def _characters(folder: ModelFolder, text: str) -> NDArray[np.float32]:
    """[tokens, hidden] of `text`, without the marks that BERT puts at its ends."""
    import torch

    tokens = _tokenizer(folder)(text, return_tensors="pt")["input_ids"]
    if tokens.shape[1] > folder.number("max_position_embeddings"):
        raise ValueError("text too long for the BERT model")
    model = _model(folder)
    with torch.inference_mode():
        states: Any = model(tokens.to(model.device)).last_hidden_state[0, 1:-1]
    found: NDArray[np.float32] = states.cpu().numpy()
    return found


@cache
def _model(folder: ModelFolder) -> BertModel:
    from transformers import BertModel

    layers = folder.number("num_hidden_layers") - _UNREAD_LAYERS
    loaded: BertModel = load_model(
        BertModel, folder, best_device(), num_hidden_layers=layers, add_pooling_layer=False
    )
    return loaded


@cache
def _tokenizer(folder: ModelFolder) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    try:
        loaded: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            folder.path, local_files_only=True
        )
    except Exception as error:  # torn and foreign files fail in many ways
        raise unloadable(folder, error) from error
    return loaded
