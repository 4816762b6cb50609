"""How much s1 computes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
BERT_DIM = 1024


def forward_flops(
    sizes: tuple[int, int, int], phonemes: Floats, semantic: Floats, bert: Floats
) -> dict[str, Floats]:
    """FLOPs of forward passes over clips, [clips], by parameters' prefix in the order of data.

    ``sizes`` are hidden_dim, n_layer and vocab_size; ``phonemes``, ``semantic`` and ``bert`` are
    the clips' lengths, [clips]. A layer's matrices are 4 D x D and two of D x 4 D.
    """
    dim, layers, vocabulary = sizes
    length = phonemes + semantic
    layer = 2 * length * 12 * dim**2 + 4 * length**2 * dim
    return {
        "ar_text_": np.zeros_like(length),
        "ar_audio_": np.zeros_like(length),
        "bert_proj.": 2 * bert * BERT_DIM * dim,
        **{f"h.layers.{number}.": layer for number in range(layers)},
        "ar_predict_layer.": 2 * (semantic + 1) * dim * vocabulary,
    }
