"""Making blocks in parallel: chunks are prepared, and a block whose chunks are there is written.

The worker processes compute; a thread of this one waits for the disk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from functools import partial
from typing import Any

from shards.pack.block import confirm_block, write_block
from shards.pack.chunk import ChunkDone, done_chunk, prepare_chunk
from shards.pack.layout import Chunk, Layout
from shards.pack.progress import Done, Watch
from shards.pack.receipt import BlockDone
from shards.pack.recipe import Recipe


def make_blocks(
    pool: Executor,
    recipe: Recipe,
    layout: Layout,
    blocks: range,
    workers: int,
    watch: Watch,
) -> None:
    """Make every block that is not there yet. An exception of a worker's is raised here."""
    watch.begin(layout.seconds * len(blocks) / layout.blocks)
    with ThreadPoolExecutor(1) as disk:
        makers = _Makers(pool, disk, recipe, layout, watch, most=2 * max(1, workers))
        for block in blocks:
            done = BlockDone(recipe.work, block, recipe.fingerprint)
            chunks = tuple(layout.chunks(block))
            if done.whole(recipe.out):
                seconds = sum(chunk.seconds for chunk in chunks)
                watch.advance(_of_block(done, seconds), fresh=False)
            else:
                done.forget()
                makers.make(block, chunks)
        makers.finish()


class _Makers:
    """Tasks under way, never more than ``most``: what waits is not held in memory."""

    def __init__(
        self,
        pool: Executor,
        disk: Executor,
        recipe: Recipe,
        layout: Layout,
        watch: Watch,
        most: int,
    ) -> None:
        self._pool, self._disk, self._recipe, self._layout = pool, disk, recipe, layout
        self._watch, self._most = watch, most
        self._running: dict[Future[Any], Callable[[Any], None]] = {}
        self._chunks: dict[int, tuple[Chunk, ...]] = {}
        self._missing: dict[int, int] = {}

    def make(self, block: int, chunks: tuple[Chunk, ...]) -> None:
        """Start on a block as soon as others leave room."""
        there = {chunk: done_chunk(self._recipe, chunk) for chunk in chunks}
        self._chunks[block] = chunks
        self._missing[block] = sum(done is None for done in there.values())
        for chunk, done in there.items():
            if done is not None:
                self._watch.advance(_of_chunk(done, chunk), fresh=False)
        for chunk in (chunk for chunk, done in there.items() if done is None):
            self._collect(self._most - 1)
            task = self._pool.submit(_prepare, self._recipe, self._layout, chunk)
            self._running[task] = partial(self._prepared, chunk)
        self._write_if_whole(block)

    def finish(self) -> None:
        """Wait for everything."""
        self._collect(0)

    def _collect(self, most: int) -> None:
        while len(self._running) > most:
            done, _ = wait(self._running, return_when=FIRST_COMPLETED)
            self._receive(done)

    def _receive(self, tasks: Iterable[Future[Any]]) -> None:
        for task in tasks:
            go_on = self._running.pop(task)
            go_on(task.result())

    def _prepared(self, chunk: Chunk, done: Done) -> None:
        self._watch.advance(done, fresh=True)
        self._missing[chunk.block] -= 1
        self._write_if_whole(chunk.block)

    def _write_if_whole(self, block: int) -> None:
        if block in self._missing and self._missing[block] == 0:
            del self._missing[block]
            chunks = self._chunks.pop(block)
            task = self._pool.submit(write_block, self._recipe, block, chunks)
            self._running[task] = lambda _: self._written(block, chunks)

    def _written(self, block: int, chunks: tuple[Chunk, ...]) -> None:
        task = self._disk.submit(confirm_block, self._recipe, block, chunks)
        self._running[task] = lambda _: None


def _prepare(recipe: Recipe, layout: Layout, chunk: Chunk) -> Done:
    return _of_chunk(prepare_chunk(recipe, layout, chunk), chunk)


def _of_chunk(done: ChunkDone, chunk: Chunk) -> Done:
    return Done(chunk.seconds, len(done.clips), done.seconds / 3600, len(done.rejects))


def _of_block(done: BlockDone, seconds: float) -> Done:
    return Done(seconds, done.clips, done.hours, len(done.rejects))
