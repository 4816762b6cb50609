"""One of several processes whose threads leave each other words beside collectives."""

from __future__ import annotations

import os
import threading
from datetime import timedelta

import pytest
import torch
from torch.distributed import DistStoreError

from pretrain.checkpoint.board import Board
from pretrain.engine import join
from pretrain.processes import Processes, end_process

PATIENCE = timedelta(seconds=60)


def check_boards_share_no_keys(processes: Processes, boards: list[Board]) -> None:
    if processes.rank == 0:
        for number, board in enumerate(boards):
            board.set("key", f"of {number}")
    for number, board in enumerate(boards):
        assert board.get("key") == f"of {number}".encode()
    processes.barrier()
    if processes.rank == 0:
        assert boards[0].delete_key("key") and not boards[0].delete_key("key")
    processes.barrier()
    assert boards[1].get("key") == b"of 1"


def check_a_wait_holds_no_collective_up(processes: Processes, board: Board) -> None:
    """The answer is written only after collectives that a wait on their connection would stop."""
    heard: list[bytes] = []
    is_last = processes.rank == processes.world_size - 1
    waiting = threading.Thread(target=lambda: heard.append(board.get("late")))
    if not is_last:
        waiting.start()
    for number in range(20):
        assert processes.sum([number])[0] == number * processes.world_size
        assert processes.gather(processes.rank) == list(range(processes.world_size))
    torch.distributed.new_group(list(range(processes.world_size)))  # it meets in the store, too
    assert heard == []
    processes.barrier()
    if is_last:
        board.set("late", "word")
        waiting.start()
    waiting.join(30)
    assert heard == [b"word"]


def check_a_boards_patience_is_its_own(processes: Processes, board: Board) -> None:
    met = torch.distributed.distributed_c10d._get_default_store()
    before = met.timeout
    board.set_timeout(timedelta(seconds=0.2))
    with pytest.raises(DistStoreError):
        board.get("never")
    assert met.timeout == before
    processes.barrier()


def check_groups_that_others_make_wait_as_long() -> None:
    group = torch.distributed.new_group()
    assert isinstance(group, torch.distributed.ProcessGroup)
    assert group._get_backend(torch.device("cpu")).options._timeout == PATIENCE


def main() -> None:
    processes = join("cpu", PATIENCE)
    check_groups_that_others_make_wait_as_long()
    os.environ["MASTER_ADDR"] = "rank-0-is-elsewhere.invalid"
    boards = [processes.board(), processes.board()]
    check_boards_share_no_keys(processes, boards)
    check_a_wait_holds_no_collective_up(processes, boards[0])
    check_a_boards_patience_is_its_own(processes, boards[1])
    print("checked", processes.rank)
    end_process(0)


if __name__ == "__main__":
    main()
