"""What a cluster wants of every job, read from a file."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from shards.errors import UserError
from slurm.site import SiteConfig, load_site, site_files

DOCS = Path(__file__).parents[2] / "docs" / "slurm.md"


def site_of(text: str) -> SiteConfig:
    """What the commands take from a user's file with this text."""
    path = site_files()[1]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return load_site()


def printed_example() -> str:
    """The file that the documentation shows."""
    _, _, section = DOCS.read_text(encoding="utf-8").partition("\n## Once for a cluster\n")
    lines = section.partition("\n## ")[0].splitlines()
    return textwrap.dedent("\n".join(line for line in lines if line.startswith("    ")))


def test_the_documented_example_loads_as_it_is_printed() -> None:
    assert site_of(printed_example()) == SiteConfig(
        partition="gpu",
        account="speech",
        gpus_per_node=8,
        time="24:00:00",
        mem="0",
        setup=["module load cuda/12.8"],
        environment={"NCCL_SOCKET_IFNAME": "ib0"},
        python="/lab/envs/segue/bin/python",
        container="/lab/images/segue.sqsh",
        container_runtime="pyxis",
        mounts=["/lab/shards:/lab/shards"],
        sbatch=["--exclusive"],
        max_requeues=100,
        max_failures=3,
        exclude_failed=True,
    )


@pytest.mark.parametrize(
    "written",
    ["24:00:00", "1:30", "1.10", "0700", "0x1F", "1e3", "1_000", "off", "Yes", "2026-01-01", "ö"],
)
def test_a_text_stays_as_it_is_written(written: str) -> None:
    site = site_of(f"time: {written}\nenvironment: {{V: {written}}}\nsetup: [{written}]\n")
    assert (site.time, site.environment, site.setup) == (written, {"V": written}, [written])


def test_numbers_and_booleans_are_read_as_such() -> None:
    site = site_of("lead: 90\ngpus_per_node: '4'\nexclude_failed: yes\n")
    assert (site.lead, site.gpus_per_node, site.exclude_failed) == (90, 4, True)


def test_null_is_no_text_and_merges_and_references_hold() -> None:
    site = site_of(
        "partition: null\nqos: ~\naccount:\nmem: 'null'\n"
        "environment: {<<: &more {A: 010}, B: '${mem}'}\nmail: ${oc.env:XDG_CONFIG_HOME}\n"
    )
    assert (site.partition, site.qos, site.account, site.mem) == (None, None, None, "null")
    assert site.environment == {"A": "010", "B": "null"}
    assert site.mail == str(site_files()[1].parents[1])


def test_an_empty_file_says_nothing() -> None:
    assert site_of("# nothing yet\n") == SiteConfig()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("partion: gpu", r"slurm\.yaml: unknown key partion; did you mean partition\?$"),
        ("lead: soon", r"slurm\.yaml: lead='soon': input should be a valid integer"),
        ("max_requeues: -1", r"slurm\.yaml: max_requeues='-1': input should be greater than or eq"),
        ("time: 1\ntime: 2", r"slurm\.yaml: .*duplicate key time.*; mend the YAML there$"),
        ("setup: [", r"slurm\.yaml: .*; mend the YAML there$"),
        ("mem: ${nothing}", r"slurm\.yaml: .*nothing"),
        ("- gpu", r"slurm\.yaml: it is a list"),
        (
            "environment: {NCCL-DEBUG: off}",
            r"slurm\.yaml: environment: 'NCCL-DEBUG' cannot be a variable; use letters, digits and "
            r"'_', and no digit first$",
        ),
        ("environment: {2X: a}", r"environment: '2X' cannot be a variable"),
        ("environment: {'A ': a}", r"environment: 'A ' cannot be a variable"),
        ("environment: {Ä: a}", r"environment: 'Ä' cannot be a variable"),
    ],
)
def test_a_mistake_is_one_sentence_with_the_files_name(text: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence) as raised:
        site_of(text)
    assert "\n" not in str(raised.value)


def test_the_command_line_comes_before_the_file_and_adds_to_its_options() -> None:
    site = SiteConfig(partition="cpu", qos="long", max_failures=1, sbatch=["--exclusive"])
    given = {"partition": "gpu", "qos": None, "max_failures": 0, "sbatch": ["--nice=5"]}
    assert site.overridden(given) == SiteConfig(
        partition="gpu", qos="long", max_failures=0, sbatch=["--exclusive", "--nice=5"]
    )


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("lead", 65536, r"^--lead 65536: input should be less than or equal to 65535$"),
        ("max_requeues", -1, r"^--max-requeues -1: input should be greater than or equal to 0$"),
    ],
)
def test_the_command_lines_values_meet_the_same_limits(
    name: str, value: int, sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        SiteConfig().overridden({name: value})
