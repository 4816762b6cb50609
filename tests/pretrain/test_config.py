from __future__ import annotations

from pathlib import Path

import pytest
from indexes import corpus_of, index_of

from pretrain.advice import advice
from pretrain.config import load
from pretrain.zero import DeepSpeedConfig, settle
from shards.errors import UserError
from shards.plan import BatchConfig, Plan
from shards.settings import write_resolved

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.fixture
def yaml(tmp_path: Path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(
        "run: {name: a}\n"
        "data: {path: '${run.dir}/shards'}\n"
        "batch: {seconds: 100, micro_seconds: 50}\n"
        "train: {steps: 5}\n"
    )
    return path


def test_overrides_win_and_interpolation_sees_them(yaml: Path) -> None:
    config = load(yaml, ["run.dir=/corpus", "train.steps=9", "optimizer.betas=[0.8,0.99]"])
    assert config.data.path == "/corpus/shards"
    assert (config.train.steps, config.optimizer.betas) == (9, (0.8, 0.99))


@pytest.mark.parametrize("name", sorted({p.name for p in CONFIGS.glob("*.yaml")} - {"pack.yaml"}))
def test_the_configs_we_ship_are_valid(name: str) -> None:
    load(CONFIGS / name, ["run.name=x", "data.path=y", "data.sources=[]", "init_from=null"])


def test_the_full_size_is_upstreams() -> None:
    config = load(CONFIGS / "gpt_sovits_s1.yaml", ["run.name=x", "data.path=y"])
    parameters = sum(p.numel() for p in config.model.build().parameters())
    assert parameters == 77_606_402


def test_quickstart_has_four_micro_batches() -> None:
    assert load(CONFIGS / "quickstart.yaml").batch.micro_batches == 4


def test_a_resolved_config_reads_back_the_same(yaml: Path, tmp_path: Path) -> None:
    config = load(yaml, ["run.dir=/corpus"])
    write_resolved(config, tmp_path / "out" / "config.yaml")
    assert load(tmp_path / "out" / "config.yaml") == config


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.stepz=1", r"command line: unknown key train\.stepz; did you mean train\.steps\?"),
        ("trian.steps=1", r"command line: unknown key trian; did you mean train\?"),
        ("micro_seconds=1", r"unknown key micro_seconds; did you mean batch\.micro_seconds\?"),
        ("train.steps=many", r"command line: train\.steps='many': .*integer"),
        ("precision=fp8", r"command line: precision='fp8': .*'bf16' or 'fp32'"),
        ("model.name=gpt", r"command line: model\.name='gpt': .*gpt_sovits_s1"),
        ("run.name=a/b", r"command line: run\.name='a/b'"),
        ("batch.seconds=-1", r"batch\.seconds=-1: .*greater than 0"),
        ("model.head=3", r"multiple of head=3"),
        ("steps", r"'steps' is not an override; write key\.sub=value"),
        ("train=5", r"command line: train=5"),
        ("components.head.frezze=1", r"command line: .*did you mean components\.head\.freeze\?"),
        ("components[h.*].frezze=1", r"command line: .*did you mean components\.h\.\*\.freeze\?"),
        ("layer_decay=0.5", r"did you mean components\.NAME\.layer_decay\?"),
        ("components.head.freeze=maybe", r"head\.freeze='maybe': write true, false, \{until_step"),
        ("components.head.freeze.until_step=0", r"until_step=0: .*greater than or equal to 1"),
        ("components.head.freeze={until_step: 2, always: true}", r"freeze: .* keep one"),
        ("components.head.layer_decay=1.5", r"layer_decay=1\.5: .*less than or equal to 1"),
        ("components.h.layers.0.*.freeze=true", r"write components\[NAME\.layers"),
    ],
)
def test_a_wrong_key_or_value_is_one_sentence(yaml: Path, override: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as raised:
        load(yaml, ["run.dir=/corpus", override])
    assert "\n" not in str(raised.value)


def test_a_wrong_key_in_the_file_names_the_file(yaml: Path) -> None:
    yaml.write_text(yaml.read_text().replace("steps: 5", "step: 5"))
    with pytest.raises(UserError, match=r"run\.yaml: unknown key train\.step; did you mean train"):
        load(yaml, ["run.dir=x"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("run: [", "mend the YAML"),
        ("run: {name: '${nowhere}'}", "nowhere"),
        ("just text", "unknown key just text"),
        ("", "run is missing"),
        ("run:\n  name: ???\n", r"run\.name is missing"),
    ],
)
def test_a_file_that_is_no_config_is_one_sentence(yaml: Path, text: str, message: str) -> None:
    yaml.write_text(text)
    with pytest.raises(UserError, match=message) as raised:
        load(yaml)
    assert "run.yaml" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone\.yaml"):
        load(tmp_path / "gone.yaml")


def test_freezing_is_written_short_or_with_an_end(yaml: Path, tmp_path: Path) -> None:
    yaml.write_text(yaml.read_text() + "components: {'*.norm*': {freeze: true}, head: {}}\n")
    config = load(
        yaml,
        [
            "run.dir=x",
            "components[*.norm*].freeze=false",
            "components[h.layers.0.*].freeze.until_epoch=1.5",
            "components.decoder.freeze=true",
        ],
    )
    assert list(config.components) == ["*.norm*", "head", "h.layers.0.*", "decoder"]
    ends = [
        entry.freeze.ends(lambda epoch: int(10 * epoch)) for entry in config.components.values()
    ]
    assert ends == [0, 0, 15, None]
    write_resolved(config, tmp_path / "config.yaml")
    assert load(tmp_path / "config.yaml") == config


def test_the_nearer_of_steps_and_epochs_is_the_target(yaml: Path) -> None:
    train = load(yaml, ["run.dir=x", "train.steps=50", "train.epochs=2"]).train
    batch = BatchConfig(seconds=4, micro_seconds=2)
    corpora = (corpus_of((index_of([2.0] * clips), 1)) for clips in (20, 200))
    short, long = (Plan(corpus, seed=0, batch=batch) for corpus in corpora)
    assert (train.target(short), train.target(long)) == (20, 50)


def test_a_run_without_a_target_ends_after_fifteen_epochs_and_says_why(yaml: Path) -> None:
    train = load(yaml, ["run.dir=x", "train.steps=null"]).train
    batch = BatchConfig(seconds=4, micro_seconds=2)
    plan = Plan(corpus_of((index_of([2.0] * 20), 1)), seed=0, batch=batch)
    assert train.target(plan) == 15 * 10
    first, second = advice(train, plan, validates=False)
    assert "are not set: the run ends after 15 epochs" in first
    assert second.startswith("0.0 h of speech is little") and "pack with validation=" in second
    more = load(yaml, ["run.dir=x", "train.steps=400"]).train
    assert "40 epochs of 0.0 h; beyond 15" in next(advice(more, plan, validates=True))


def launched(stage: str, offload: str = "none") -> dict[str, str]:
    return {
        "ACCELERATE_USE_DEEPSPEED": "true",
        "ACCELERATE_DEEPSPEED_ZERO_STAGE": stage,
        "ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE": offload,
    }


def test_the_launchers_file_decides_what_the_run_leaves_open() -> None:
    settled = settle(DeepSpeedConfig(), launched("3", "cpu"))
    assert (settled.stage, settled.offload) == (3, "cpu")
    assert settle(DeepSpeedConfig(stage=1), {}).stage == 1
    assert settle(DeepSpeedConfig(), {}).stage == 2


def test_a_run_and_a_launcher_that_disagree_are_refused() -> None:
    with pytest.raises(UserError, match=r"deepspeed\.stage=1 but accelerate launch .* with 2"):
        settle(DeepSpeedConfig(stage=1), launched("2"))


def test_offload_without_stage_three_is_refused() -> None:
    with pytest.raises(UserError, match=r"offload goes with stage 3"):
        settle(DeepSpeedConfig(stage=2, offload="cpu"), {})


OWN_FAMILY = """
from typing import Literal
from pretrain.models.gpt_sovits_s1.config import S1Config

class Own(S1Config):
    name: Literal["own_family:Own"] = "own_family:Own"
    extra: int = 3
"""


def test_a_model_of_the_users_own_is_named_by_module_and_class(
    yaml: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_family.py").write_text(OWN_FAMILY)
    monkeypatch.syspath_prepend(tmp_path)
    own = ["run.dir=x", "model.name=own_family:Own"]
    config = load(yaml, [*own, "model.extra=4"])
    assert config.model.model_dump()["extra"] == 4
    write_resolved(config, tmp_path / "again.yaml")
    assert load(tmp_path / "again.yaml") == config
    for wrong, said in (
        ("model.extr=4", r"command line: unknown key model\.extr; did you mean model\.extra\?"),
        ("model.name=nowhere:Own", r"command line: model\.name='nowhere:Own': No module named"),
        ("model.name=pathlib:Path", r"command line: model\.name='pathlib:Path': no model family"),
    ):
        with pytest.raises(UserError, match=said):
            load(yaml, [*own, wrong])
