"""Several machines of one run: what the command line must say, and what accelerate is told."""

from __future__ import annotations

import pytest

from launch.accelerate import Meeting
from launch.local import meeting
from shards.errors import UserError


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ((2, 0, None, 29500), r"--nodes 2 needs --head HOST"),
        ((2, 2, "a7", 29500), r"--node-rank 2 of --nodes 2: machines are numbered from 0 to 1"),
        ((1, 1, None, 29500), r"--node-rank and --head are of several machines; add --nodes N"),
        ((1, 0, "a7", 29500), r"--node-rank and --head are of several machines; add --nodes N"),
    ],
)
def test_what_does_not_fit_is_a_sentence(
    given: tuple[int, int, str | None, int], sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        meeting(*given)


def test_one_machine_meets_nobody() -> None:
    assert meeting(1, 0, None, 29500) is None


def test_machine_0_listens_and_the_others_come_to_it() -> None:
    words = [" ".join(Meeting(2, rank, "a7", 4242).arguments()) for rank in range(2)]
    assert all("--main_process_ip a7 --main_process_port 4242" in word for word in words)
    assert "is_host=1" in words[0] and "--machine_rank 0" in words[0]
    assert "is_host=0" in words[1] and "--machine_rank 1" in words[1]
