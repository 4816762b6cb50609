"""A model that Segue does not know trains with ZeRO-2 in two processes, and resumes."""

from __future__ import annotations

from pathlib import Path

from distributed_runs import zero_environment
from run_server import Started

from pretrain.metrics.files import read_log

SETTINGS = """
run: {name: own, dir: runs}
data: {path: shards}
batch: {seconds: 48, micro_seconds: 12, buckets: 4}
train: {steps: 12, log_every: 1}
model: {name: "own_model:GruConfig", width: 24}
components: {embedding: {lr_scale: 0.5}}
schedule: {warmup_steps: 2}
optimizer: {lr: 0.01}
precision: fp32
"""


def test_a_model_of_the_users_own_trains_and_goes_on(token_shards: Path, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(SETTINGS)
    place = [f"data.path={token_shards}", f"run.dir={tmp_path}"]
    for steps in (12, 20):
        words = [str(tmp_path / "run.yaml"), *place, f"train.steps={steps}"]
        started = Started(words, 2, zero_environment(2), tmp_path / "said")
        output, _ = started.communicate()
        assert started.rank_codes == [0, 0], output
    assert "resumed run own" in output and "embedding" in output
    losses = [record["loss"] for record in read_log(tmp_path / "own" / "log.jsonl")]
    assert len(losses) == 20 and losses[-1] < 0.9 * losses[0]
