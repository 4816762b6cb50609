"""Saving beside training: a thread copies what is saved in memory, then writes it.

Weights and moments change in an optimizer's update alone, so the copy goes on beside the next
step's forward and backward passes; the loop waits for it before the update, if it is not done.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NoReturn, Protocol

from pretrain.checkpoint.board import Board
from pretrain.checkpoint.keep import CheckpointConfig, prune
from pretrain.checkpoint.manifest import FileSum, RankPart, State, combined
from pretrain.checkpoint.rank_file import HostCopy, RankFile
from pretrain.checkpoint.store import Store
from pretrain.fragment import Fragment

PATIENCE_SECONDS = 3600.0
"""How long ranks wait for the slowest one's file."""


@dataclass(frozen=True)
class Saved:
    """A committed checkpoint: ``seconds`` from its beginning to ``time`` (Unix), ``bytes`` of all
    ranks' files.
    """

    step: int
    seconds: float
    bytes: int
    time: float


class Ranks(Protocol):
    """What saving needs of the process group.

    ``board`` is where threads leave each other words, beside what the ranks do together.
    """

    @property
    def rank(self) -> int: ...
    @property
    def world_size(self) -> int: ...
    def gather(self, value: Any) -> list[Any]: ...
    def fail(self, mistake: str) -> NoReturn: ...
    def board(self) -> Board: ...


class Saver:
    """Writes checkpoints one at a time. All ranks call every method but `close` together.

    UserError at once if nothing can be written there. Checkpoints that are known to be ``damaged``
    do not count as kept ones. Rank 0 calls ``note`` with each that is committed, in the thread.

    A save that fails for lack of space or of the file system leaves nothing behind; it is said
    loudly, and the run goes on with the checkpoint before.
    """

    def __init__(
        self,
        store: Store,
        ranks: Ranks,
        config: CheckpointConfig,
        fragments: Sequence[Fragment],
        say: Callable[[str], None],
        damaged: Iterable[str] = (),
        note: Callable[[Saved], None] = lambda _: None,
    ) -> None:
        self._damaged, self._note = set(damaged), note
        self._store, self._ranks, self._config, self._say = store, ranks, config, say
        self._copy = HostCopy(fragments)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: Future[str] | None = None
        self._number = 0
        self.failure = ""
        """Why the newest save that is settled failed, on all ranks alike; "" if it did not."""
        self._board = ranks.board()
        self._board.set_timeout(timedelta(seconds=PATIENCE_SECONDS))
        if failure := ranks.gather(_unwritable(store) if ranks.rank == 0 else "")[0]:
            ranks.fail(f"checkpoint.dir: {failure}")

    def save(self, fragments: Sequence[Fragment], state: State) -> None:
        """Begin a save of ``fragments``, when the one before is done.

        They must not change before `wait_for_copy` returns.
        """
        self.settle()
        self._number += 1
        began = time.perf_counter()
        file = f"rank_{self._ranks.rank:05d}_of_{self._ranks.world_size:05d}.safetensors"
        copied = self._copy.begin(fragments, file)
        self._pending = self._thread.submit(self._written, self._number, state, copied, began)

    def release(self) -> None:
        """`settle`, and give back the host memory and the fragments' tensors, until `hold`."""
        self.settle()
        self._copy = HostCopy(())

    def hold(self, fragments: Sequence[Fragment]) -> None:
        """Take host memory for ``fragments``, which are saved from now on."""
        self._copy = HostCopy(fragments)

    def wait_for_copy(self) -> None:
        """Wait until the fragments of the save under way may change. No other rank takes part."""
        self._copy.wait()

    def settle(self) -> None:
        """Wait until the save under way, if there is one, is committed or has failed."""
        if self._pending:
            self.failure = self._pending.result()
            self._pending = None

    def finish(self) -> None:
        """`settle` on all ranks; no save comes after it."""
        self.settle()
        self._ranks.gather(None)
        self._thread.shutdown()

    def close(self, seconds: float) -> None:
        """Give a save under way so much time to be completed: this process ends on an error."""
        if self._pending:
            try:
                self._pending.result(seconds)
            except Exception as error:
                self._say(f"WARNING: the save under way was not completed ({error!r})")

    def _written(self, number: int, state: State, copied: RankFile, began: float) -> str:
        """Write this rank's file, and hear from rank 0 what became of the checkpoint."""
        part = self._part(state, copied)
        self._board.set(f"{number}/{self._ranks.rank}", part.model_dump_json())
        if self._ranks.rank:
            return self._board.get(f"{number}/verdict").decode()
        try:
            verdict = self._verdict(number, state, began)
        except BaseException as error:
            self._board.set(f"{number}/verdict", repr(error))
            raise
        self._board.set(f"{number}/verdict", verdict)
        return verdict

    def _part(self, state: State, copied: RankFile) -> RankPart:
        try:
            total = self._store.write(state.name, copied.name, copied.blocks())
        except OSError as error:
            self._store.drop(state.name, copied.name)
            nothing = FileSum(bytes=0, xxh3="")
            why = f"rank {self._ranks.rank}: {error}"
            return RankPart(failure=why, file=copied.name, total=nothing, pieces=())
        return RankPart(file=copied.name, total=total, pieces=copied.pieces)

    def _verdict(self, number: int, state: State, began: float) -> str:
        """Commit what all ranks wrote, or remove it; why it failed, "" if it did not."""
        parts = [self._collected(f"{number}/{rank}") for rank in range(self._ranks.world_size)]
        failure = next((part.failure for part in parts if part.failure), "")
        if not failure:
            manifest = combined(state, parts)
            try:
                self._store.commit(state.name, manifest)
            except OSError as error:
                failure = str(error)
        if failure:
            self._store.abandon(state.name)
            self._say(
                f"WARNING: the checkpoint of step {state.step} could not be written ({failure}); "
                "the run goes on with the one before and tries again at the next interval"
            )
            return failure
        total, took = sum(part.total.bytes for part in parts), time.perf_counter() - began
        place = self._store.place(state.name)
        self._say(f"saved {place}: {total / 1e6:,.0f} MB in {took:.1f} s")
        self._note(Saved(state.step, round(took, 3), total, round(time.time(), 3)))
        self._damaged.discard(state.name)
        self._thread.submit(prune, self._store, self._config, self._damaged)
        return ""

    def _collected(self, key: str) -> RankPart:
        part = RankPart.model_validate_json(self._board.get(key))
        self._board.delete_key(key)
        return part


def _unwritable(store: Store) -> str:
    """Why nothing can be saved in ``store``, "" if it can."""
    try:
        store.prepare()
    except OSError as error:
        return str(error)
    return ""
