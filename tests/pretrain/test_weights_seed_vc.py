"""Seed-VC's files: into a model of their sizes, and back with what its optimizer keeps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file
from seed_vc_presets import PRESETS, Keys, preset_keys, preset_yaml, variant_keys
from test_checkpoint import save
from test_weights_export import command
from torch import Tensor
from upstream_files import parameters_of, s1_state, save_s1_release, seed_vc_net

from pretrain.config import load
from pretrain.fragment import Fragment
from pretrain.initial import place
from pretrain.models.seed_vc.config import SeedVCConfig
from pretrain.models.seed_vc.model import SeedVC
from pretrain.models.seed_vc.upstream import sizes_of
from pretrain.weights.bring import bring
from pretrain.weights.found import SEGUE, Weights
from pretrain.weights.importing import compared, filled, import_config, recorded_model
from pretrain.weights.read import read_weights
from pretrain.weights.seed_vc_release import net_of
from shards.errors import UserError

VARIANTS = ("wavenet", "mlp_f0", "tokens")
TINY = SeedVCConfig.model_validate(
    {
        "hidden_dim": 32,
        "head": 2,
        "n_layer": 3,
        "content_channels": 12,
        "content_dim": 16,
        "content_codebook": 8,
        "wavenet": {"layers": 2},
    }
)
COMPONENTS = ("cfm", "length_regulator")
OPTIMIZER = {"lr": 2e-4, "betas": [0.9, 0.98], "eps": 1e-6, "weight_decay": 0.02}


def save_net(path: Path, variant: str = "wavenet", **more: Any) -> tuple[Path, dict[str, Tensor]]:
    net = seed_vc_net(variant=variant)
    torch.save({"net": net, **more}, path)
    return path, parameters_of(net)


@pytest.fixture
def model() -> SeedVC:
    torch.manual_seed(4)
    return SeedVC(TINY)


@pytest.fixture
def run(model: SeedVC, tmp_path: Path) -> Path:
    """A run's folder; unused parameters have no moments."""
    values = {
        name: {
            key: parameter.detach().flatten() if key == "master" else torch.rand(parameter.numel())
            for key in ("master", "ema", "exp_avg", "exp_avg_sq")
            if key == "master" or name not in model.unused()
        }
        for name, parameter in model.named_parameters()
    }
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    recorded = {"model": TINY.model_dump(mode="json"), "optimizer": OPTIMIZER}
    save(tmp_path / "run" / "checkpoints", 120, 2, shapes=shapes, values=values, recorded=recorded)
    return tmp_path / "run"


def described(net: dict[str, Any]) -> Keys:
    return {
        part: {
            name: [list(tensor.shape), str(tensor.dtype).removeprefix("torch.")]
            for name, tensor in state.items()
        }
        for part, state in net.items()
    }


def in_order(keys: Keys) -> list[tuple[str, str, Any]]:
    return [(part, name, told[:2]) for part, own in keys.items() for name, told in own.items()]


def same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    assert {*found} == {*expected}
    return all(torch.equal(found[name], tensor) for name, tensor in expected.items())


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_file_fits_the_model_that_its_tensors_tell(variant: str, tmp_path: Path) -> None:
    path, parameters = save_net(tmp_path / "ft_model.pth", variant)
    out = tmp_path / "fitted.safetensors"
    told = command("import", path, out, "--to", "seed_vc")
    assert f"{path} does not tell model.head=1, model.mel=seed_vc_" in told
    assert same(load_file(out), parameters)
    assert recorded_model(read_weights(str(path))) == recorded_model(read_weights(str(out)))
    told = command("import", path, "--to", "seed_vc", "model.head=2", "model.uvit_skip=false")
    assert "model.head" not in told and "model.uvit_skip" not in told and "model.mel" in told


@pytest.mark.parametrize("preset", PRESETS)
def test_a_presets_sizes_are_told_by_its_tensors(preset: str) -> None:
    shapes = {
        f"{part}.{name}": tuple(told[0])
        for part, keys in preset_keys(preset).items()
        for name, told in keys.items()
    }
    expected = SeedVCConfig.model_validate(PRESETS[preset])
    assert SeedVCConfig.model_validate(sizes_of(shapes).model) == expected


def test_what_is_missing_is_one_sentence(tmp_path: Path) -> None:
    net = seed_vc_net()
    del net["cfm"]["estimator.cond_projection.bias"], net["length_regulator"]["mask_token"]
    torch.save({"net": net}, tmp_path / "ft_model.pth")
    missing = r"2 missing \(cfm\.estimator\.cond_projection\.bias, length_regulator\.mask_token\)"
    with pytest.raises(UserError, match=rf"does not fit seed_vc: {missing}: write allow"):
        command("import", tmp_path / "ft_model.pth", "--to", "seed_vc")
    with pytest.raises(UserError, match=r"cond_projection\.bias is absent in .*; write --to safe"):
        command("export", tmp_path / "ft_model.pth", tmp_path / "x.pth", "--to", "seed-vc")


def test_weights_of_another_model_are_one_sentence(tmp_path: Path) -> None:
    seed, _ = save_net(tmp_path / "ft_model.pth")
    s1 = save_s1_release(tmp_path / "s1.ckpt", s1_state())
    with pytest.raises(UserError, match=r"Seed-VC weights, of the model seed_vc .* --to seed_vc "):
        command("import", seed, "--to", "gpt_sovits_s1")
    with pytest.raises(UserError, match=r"of the model gpt_sovits_s1 and not seed_vc"):
        command("import", s1, "--to", "seed_vc")
    with pytest.raises(UserError, match=r"^--to seed-vc: .* model gpt_sovits_s1; write --to safe"):
        command("export", s1, tmp_path / "x.pth", "--to", "seed-vc")
    with pytest.raises(UserError, match=r"^--to: model\.name='seedvc': .*, seed_vc, or"):
        command("import", seed, "--to", "seedvc")
    config = load_run(tmp_path, init_level="weights")
    with pytest.raises(UserError, match=r"^init_from: .* write model\.name=gpt_sovits_s1 or"):
        bring(config, SeedVC(TINY), str(s1))


def load_run(folder: Path, **more: Any) -> Any:
    written = {"run": {"name": "a"}, "data": {"path": "b"}, "train": {"steps": 1}}
    batch = {"batch": {"seconds": 8, "micro_seconds": 8}}
    path = folder / "run.yaml"
    model = {"model": TINY.model_dump(mode="json")}
    path.write_text(OmegaConf.to_yaml(OmegaConf.create({**written, **batch, **model, **more})))
    return load(path)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_is_written_with_upstreams_keys_in_upstreams_order(preset: str) -> None:
    config = SeedVCConfig.model_validate(PRESETS[preset])
    with torch.device("meta"):
        state = SeedVC(config).state_dict()
    weights = Weights(SEGUE, "run", state, {"model": config.model_dump(mode="json")})
    assert in_order(described(net_of(weights, "fp32"))) == in_order(preset_keys(preset))


@pytest.mark.parametrize("variant", VARIANTS)
def test_upstreams_file_goes_through_ours_and_comes_back_as_it_was(
    variant: str, tmp_path: Path
) -> None:
    path, parameters = save_net(tmp_path / "ft_model.pth", variant)
    ours, again = tmp_path / "ours.safetensors", tmp_path / "out" / "again.pth"
    command("export", path, ours)
    told = command("export", ours, again, "--to", "seed-vc")
    assert told.startswith(f"{again}: ") and "seed-vc, fp32" in told
    saved = torch.load(again, weights_only=True)
    assert list(saved) == ["net"]
    assert in_order(described(saved["net"])) == in_order(variant_keys(variant))
    assert same(parameters_of(saved["net"]), parameters)
    cfm = saved["net"]["cfm"]
    assert torch.equal(cfm["estimator.input_pos"], torch.arange(16384))
    frequencies = 10000 ** (-torch.arange(128) / 128)
    torch.testing.assert_close(cfm["estimator.t_embedder.freqs"], frequencies)


def test_a_run_goes_out_and_comes_back_as_it_was(run: Path, model: SeedVC, tmp_path: Path) -> None:
    command("export", run, tmp_path / "ft_model.pth", "--to", "seed-vc")
    back = read_weights(str(tmp_path / "ft_model.pth"))
    assert back.kind == "seed_vc" and same(dict(back.tensors), dict(model.named_parameters()))
    fitted = compared(back, import_config(back, "seed_vc", None, ["model.head=2"]))
    assert {row.status for row in fitted.rows} == {"loaded"}
    again = filled(TINY, back)
    assert same(dict(again.named_parameters()), dict(model.named_parameters()))
    command("export", run, tmp_path / "averages.pth", "--to", "seed-vc", "--ema")
    averages = read_weights(str(tmp_path / "averages.pth")).tensors
    assert same(dict(averages), dict(read_weights(str(run), ema=True).tensors))


def test_a_training_file_is_one_that_torchs_optimizers_continue(
    run: Path, model: SeedVC, tmp_path: Path
) -> None:
    told = command("export", run, tmp_path, "--to", "seed-vc-training")
    path = tmp_path / "DiT_epoch_00012_step_00120.pth"
    assert told.startswith(f"{path}: ")
    saved = torch.load(path, weights_only=True)
    assert list(saved) == ["net", "optimizer", "scheduler", "iters", "epoch"]
    assert (saved["iters"], saved["epoch"]) == (120, 12)
    assert [part for part, _ in saved["optimizer"]] == [*COMPONENTS]
    for (part, state), (_, schedule) in zip(saved["optimizer"], saved["scheduler"], strict=True):
        component: Any = getattr(model, part)
        adam = torch.optim.AdamW(component.parameters())
        rates = torch.optim.lr_scheduler.ExponentialLR(adam, 0.5)
        adam.load_state_dict(state)
        rates.load_state_dict(schedule)
        assert adam.param_groups[0]["lr"] == pytest.approx(2e-4 * 0.999996**120)
        assert (adam.defaults["lr"], rates.last_epoch, rates.gamma) == (1e-3, 120, 0.999996)
        trained = {
            name for name, one in component.named_parameters() if "exp_avg" in adam.state[one]
        }
        unused = {name.removeprefix(f"{part}.") for name in model.unused()}
        assert trained == {name for name, _ in component.named_parameters()} - unused
        for parameter in component.parameters():
            parameter.grad = torch.ones_like(parameter) if adam.state[parameter] else None
        adam.step()
        rates.step()
        steps = {float(one["step"]) for one in adam.state.values() if one}
        assert steps == {121.0}


def test_moments_come_back_as_they_went(run: Path, tmp_path: Path) -> None:
    command("export", run, tmp_path / "a.pth", "--to", "seed-vc-training")
    ours, theirs = (read_weights(str(path)).optimizer for path in (run, tmp_path / "a.pth"))
    assert ours is not None and theirs is not None and ours.updates == theirs.updates == 120
    for key in ("exp_avg", "exp_avg_sq"):
        assert same(dict(theirs.states[key]), dict(ours.states[key]))
    command("export", tmp_path / "a.pth", tmp_path / "b.pth", "--to", "seed-vc-training")
    again = read_weights(str(tmp_path / "b.pth")).optimizer
    assert again is not None and same(dict(again.states["exp_avg"]), dict(ours.states["exp_avg"]))


def pieces(shapes: dict[str, Tensor], unused: tuple[str, ...]) -> Iterator[Fragment]:
    """Every parameter in two, as ranks hold them."""
    for name, whole in shapes.items():
        keys = ("master",) if name in unused else ("master", "exp_avg", "exp_avg_sq", "ema")
        half = whole.numel() // 2
        for start, size in ((0, half), (half, whole.numel() - half)):
            yield Fragment(name, start, {key: torch.full((size,), -1.0) for key in keys})


def test_a_new_run_takes_the_moments_of_a_training_file(
    run: Path, model: SeedVC, tmp_path: Path
) -> None:
    command("export", run, tmp_path / "a.pth", "--to", "seed-vc-training")
    config = load_run(tmp_path, init_level="weights+optimizer")
    initial = bring(config, SeedVC(TINY), str(tmp_path / "a.pth"))
    brought = initial.weights.optimizer
    assert brought is not None
    fragments = list(pieces(initial.fit.tensors, model.unused()))
    told = place(initial.fit, brought, fragments)
    assert not told.new_moments and len(told.new_averages) == len(brought.states["exp_avg"])
    for one in fragments:
        weights = initial.fit.tensors[one.name].flatten()[one.start : one.start + one.size]
        assert torch.equal(one.states["master"], weights)
        if one.name not in model.unused():
            assert torch.equal(one.states["ema"], weights)
            for key in ("exp_avg", "exp_avg_sq"):
                moments = brought.states[key][one.name].flatten()
                assert torch.equal(one.states[key], moments[one.start : one.start + one.size])
    told = place(initial.fit, None, fragments)
    assert not told.new_averages and not any(
        one.states["exp_avg"].any() for one in fragments if "exp_avg" in one.states
    )


@pytest.mark.parametrize(
    ("level", "message"),
    [
        ("weights+optimizer", "no state of it that can be taken over; write init_level=weights$"),
        ("all", "is of another program, .* write init_level=weights$"),
    ],
)
def test_a_file_without_an_optimizer_gives_weights_alone(
    level: str, message: str, tmp_path: Path
) -> None:
    path, _ = save_net(tmp_path / "ft_model.pth", optimizer=[("cfm", {"state": {0: {}}})])
    with pytest.raises(UserError, match=message):
        bring(load_run(tmp_path, init_level=level), SeedVC(TINY), str(path))
    with pytest.raises(UserError, match=r"no state of an optimizer; write --to seed-vc$"):
        command("export", path, tmp_path / "out.pth", "--to", "seed-vc-training")


@pytest.mark.parametrize("preset", PRESETS)
def test_a_presets_config_becomes_a_runs(preset: str, tmp_path: Path) -> None:
    path, out = tmp_path / "preset.yml", tmp_path / "run.yaml"
    path.write_text(OmegaConf.to_yaml(OmegaConf.create(preset_yaml(preset))))
    told = command("import", "--config", path, out)
    config = load(out, ["run.name=a", "data.path=b"])
    assert config.model == SeedVCConfig.model_validate(PRESETS[preset])
    assert (config.data.min_seconds, config.data.max_seconds) == (1, 30)
    assert (config.batch.seconds, config.batch.micro_seconds) == (30, 30)
    assert (config.optimizer.lr, config.optimizer.betas) == (1e-5, (0.9, 0.98))
    schedule = config.schedule
    assert (schedule.name, schedule.warmup_steps) == ("exponential", 0)
    assert schedule.decay_steps is not None
    assert schedule.floor ** (1 / schedule.decay_steps) == pytest.approx(0.999996, abs=1e-11)
    taken, ignored, left = told.splitlines()[1:]
    assert "model_params.DiT.num_heads as model.head" in taken and "log_dir as run.dir" in taken
    assert "batch_size as batch.seconds and batch.micro_seconds" in taken
    for key in ("loss_params.base_lr", "epochs", "model_params.DiT.block_size", "device"):
        assert key in ignored and key not in left
    assert left == (
        "no counterpart: pretrained_model, model_params.vocoder.type, model_params.vocoder.name, "
        "model_params.speech_tokenizer.type, model_params.speech_tokenizer.name, "
        "model_params.style_encoder.campplus_path, model_params.DiT.content_codebooks"
    )
    assert "# Seed-VC v1 in the sizes of preset.yml." in out.read_text()


def test_an_upstream_config_tells_what_tensors_do_not(tmp_path: Path) -> None:
    path, _ = save_net(tmp_path / "ft_model.pth")
    values = preset_yaml("small")
    changes = {"hidden_dim": 64, "num_heads": 4, "depth": 5, "content_dim": 48}
    values["model_params"]["DiT"].update(changes)
    values["model_params"]["wavenet"].update(hidden_dim=64, num_layers=3)
    values["model_params"]["length_regulator"].update(channels=48, in_channels=40)
    written = tmp_path / "preset.yml"
    written.write_text(OmegaConf.to_yaml(OmegaConf.create(values)))
    out = tmp_path / "fitted.safetensors"
    told = command("import", path, out, "--to", "seed_vc", "--config", written)
    assert "does not tell" not in told
    assert read_weights(str(out)).config["model"]["head"] == 4
    with pytest.raises(UserError, match=r"--config: .* is of seed_vc and not gpt_sovits_s1; write"):
        s1 = save_s1_release(tmp_path / "s1.ckpt", s1_state())
        command("import", s1, "--to", "gpt_sovits_s1", "--config", written)


@pytest.mark.parametrize(
    ("section", "key", "value", "message"),
    [
        ("DiT", "is_causal", True, r"DiT\.is_causal=True is not what .* has; write False"),
        ("DiT", "content_dim", 5, r"DiT\.content_dim=5 is not .*regulator\.channels; write 512"),
        ("wavenet", "hidden_dim", 5, r"hidden_dim=5 is not model_params\.DiT\.hidden_dim; write"),
        ("preprocess_params", "sr", 16000, "describes none of the spectrograms seed_vc_22k, "),
        ("", "batch_size", "two", "batch_size=two is no number of clips"),
    ],
)
def test_a_config_of_a_model_that_is_none_of_ours_is_one_sentence(
    section: str, key: str, value: Any, message: str, tmp_path: Path
) -> None:
    values = preset_yaml("small")
    {"": values, **values, **values["model_params"]}[section][key] = value
    (tmp_path / "preset.yml").write_text(OmegaConf.to_yaml(OmegaConf.create(values)))
    with pytest.raises(UserError, match=message):
        command("import", "--config", tmp_path / "preset.yml", tmp_path / "run.yaml")
    assert not (tmp_path / "run.yaml").exists()
