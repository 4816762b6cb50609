"""Small files with the real layouts of the programs that weights come from."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path, PosixPath
from typing import Any

import torch
from seed_vc_presets import variant_keys
from torch import Tensor

from pretrain.models.gpt_sovits_s1.config import S1Config
from pretrain.models.gpt_sovits_s1.model import S1

TINY = S1Config(vocab_size=33, phoneme_vocab_size=20, hidden_dim=8, head=2, n_layer=2)


def upstream_yaml(model: S1Config = TINY) -> dict[str, Any]:
    """An s1 configuration, with the keys of upstream's YAML files."""
    return {
        "train": {
            "seed": 1234,
            "epochs": 20,
            "batch_size": 8,
            "save_every_n_epoch": 2,
            "precision": "16-mixed",
            "gradient_clip": 1.0,
        },
        "optimizer": {
            "lr": 0.01,
            "lr_init": 0.00001,
            "lr_end": 0.0001,
            "warmup_steps": 2000,
            "decay_steps": 40000,
        },
        "data": {"max_eval_sample": 8, "max_sec": 54, "num_workers": 4, "pad_val": model.eos},
        "model": {
            "vocab_size": model.vocab_size,
            "phoneme_vocab_size": model.phoneme_vocab_size,
            "embedding_dim": model.hidden_dim,
            "hidden_dim": model.hidden_dim,
            "head": model.head,
            "linear_units": 2048,
            "n_layer": model.n_layer,
            "dropout": 0,
            "EOS": model.eos,
            "random_bert": 0,
        },
        "inference": {"top_k": 15},
    }


def s1_state(model: S1Config = TINY, seed: int = 0) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return {name: tensor.detach().clone() for name, tensor in S1(model).state_dict().items()}


def save_s1_release(path: Path, state: Mapping[str, Tensor], model: S1Config = TINY) -> Path:
    weight = OrderedDict((f"model.{name}", tensor.half()) for name, tensor in state.items())
    saved = {"weight": weight, "config": upstream_yaml(model), "info": "GPT-e15"}
    torch.save(saved, path)
    return path


def save_s1_lightning(path: Path, state: Mapping[str, Tensor]) -> Path:
    torch.save(
        {
            "epoch": 3,
            "global_step": 120,
            "pytorch-lightning_version": "2.6.6",
            "state_dict": OrderedDict((f"model.{name}", t) for name, t in state.items()),
            "loops": {"fit_loop": {"state_dict": {}}},
            "callbacks": {"ModelCheckpoint": {"best_model_score": torch.tensor(0.5)}},
            "optimizer_states": [{"state": {0: {"step": 3}}, "param_groups": [{"lr": 0.002}]}],
            "lr_schedulers": [{"lr": 0.002}],
            "hparams_name": "kwargs",
            "hyper_parameters": {
                "config": upstream_yaml(),
                "output_dir": PosixPath("/data/logs/s1"),
                "is_train": True,
            },
        },
        path,
    )
    return path


def s2_state() -> dict[str, Tensor]:
    return {
        "enc_p.text_embedding.weight": torch.randn(322, 4),
        "enc_p.ssl_proj.weight": torch.randn(4, 6, 1),
        "quantizer.vq.layers.0._codebook.inited": torch.ones(1),
    }


def seed_vc_net(prefix: str = "", variant: str = "wavenet") -> dict[str, dict[str, Tensor]]:
    """A tiny v1 model as upstream saves it."""
    return {
        component: {
            f"{prefix}{name}": torch.randn(shape) if dtype == "float32" else torch.arange(*shape)
            for name, (shape, dtype, _) in keys.items()
        }
        for component, keys in variant_keys(variant).items()
    }


def parameters_of(net: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """What of such a model is no buffer, under our names."""
    return {
        f"{component}.{name}": tensor
        for component, state in net.items()
        for name, tensor in state.items()
        if not name.endswith(("input_pos", "freqs"))
    }


def seed_vc_v2_net() -> dict[str, dict[str, Tensor]]:
    cfm = {"estimator.transformer.freqs_cis": torch.zeros(8, 4, 2).bfloat16()}
    return {"cfm": cfm, "length_regulator": {"embedding.weight": torch.randn(8, 4)}}
