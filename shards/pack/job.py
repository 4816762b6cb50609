"""Packing a corpus: list it, fit what must be fitted, prepare and write in parallel, index."""

from __future__ import annotations

import errno
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from shards.errors import UserError
from shards.features.model_folder import take_turn
from shards.index import FILE_NAME
from shards.pack.block import BUCKETS
from shards.pack.blocks import make_blocks
from shards.pack.config import PackConfig
from shards.pack.finish import PackReport, finish
from shards.pack.fit import fit_features
from shards.pack.layout import Layout
from shards.pack.listing import Listing, write_listing
from shards.pack.progress import Quiet, Watch
from shards.pack.recipe import Recipe
from shards.pack.state import State, check_begun
from shards.pack.work import hold, keep_listing, listing_aside, open_work
from shards.processes import InProcess, die_with_parent, keep_freed_memory
from shards.sources import open_source

CORES = os.cpu_count() or 1


@dataclass(frozen=True)
class Part:
    """One of ``count`` jobs that share a corpus; ``number`` counts from 1."""

    number: int = 1
    count: int = 1

    @property
    def name(self) -> str:
        """As in the name of a file."""
        return f"{self.number}-of-{self.count}"

    @classmethod
    def parse(cls, text: str) -> Part:
        """From ``i/n``; UserError for anything else."""
        number, _, count = text.partition("/")
        if number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count):
            return cls(int(number), int(count))
        raise UserError(f"--part {text}: write i/n with i from 1 to n, such as 3/16")

    def blocks(self, total: int) -> range:
        """The blocks that this job makes, of ``total``."""
        return range(self.number - 1, total, self.count)


DEFAULTS, WHOLE, QUIET = PackConfig(), Part(), Quiet()


def pack(
    source: Path,
    out: Path,
    config: PackConfig = DEFAULTS,
    *,
    kind: str | None = None,
    part: Part = WHOLE,
    workers: int = CORES,
    watch: Watch = QUIET,
) -> PackReport | None:
    """Pack the corpus at ``source`` into shards, index and rejects in ``out``.

    Killed and started again it keeps what is finished. A job that is a part of several makes its
    shards and returns None; `shards.pack.merge.merge` then writes the index of all.
    Without ``workers`` this process does it all.
    UserError for an unknown source, other settings than ``out`` was begun with, or no clip left.
    """
    recipe = Recipe.of(open_source(source, kind, config), config, out)
    with explained(out, workers):
        work = open_work(out)
        with hold(work, part.name):
            recipe, layout = _listed(recipe, work, watch)
            with pool_of(workers) as pool:
                fit_features(pool, recipe, layout, watch)
                make_blocks(pool, recipe, layout, part.blocks(layout.blocks), workers, watch)
            return finish(out) if part.count == 1 else None


def check(source: Path, out: Path, config: PackConfig, kind: str | None = None) -> str:
    """The kind of the corpus, once all is checked that shows before the corpus is listed.

    UserError as `pack`.
    """
    recipe = Recipe.of(open_source(source, kind, config), config, out)
    check_begun(recipe)
    return recipe.source.kind


@contextmanager
def explained(out: Path, workers: int) -> Iterator[None]:
    """What a machine can run out of, as a sentence for the user."""
    try:
        yield
    except BrokenProcessPool as error:
        raise UserError(
            f"--workers {workers}: a worker process was killed, most often for want of memory; "
            "the same command with fewer goes on where it was"
        ) from error
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
        raise UserError(
            f"OUT: {out}: {error.strerror or 'no space left'}; finished shards are valid, make "
            "room and the same command goes on"
        ) from error


def _listed(recipe: Recipe, work: Path, watch: Watch) -> tuple[Recipe, Layout]:
    """The corpus's listing, cut into work, once the settings have been compared."""
    source = recipe.source
    watch.say(f"listing {source.path} ({source.kind})")
    with listing_aside(work) as aside:
        corpus = write_listing(aside, source.recordings(), recipe.config.language or "")
        listing = Listing(aside)
        if len(listing) == 0:
            raise UserError(f"SOURCE: {source.path} lists no clips; give a corpus that has some")
        layout = Layout.of(listing, BUCKETS * recipe.config.shard_hours * 3600)
        state = State.of(recipe, f"{len(listing)} entries ({corpus})", layout.blocks)
        state.keep(recipe.out)
        layout = replace(layout, listing=Listing(keep_listing(aside, corpus)))
    watch.say(f"{len(layout.listing):,} entries, about {layout.seconds / 3600:,.2f} h")
    return replace(recipe, fingerprint=state.fingerprint), layout


def pool_of(workers: int) -> Executor:
    """So many worker processes; this process where there are none."""
    if workers == 0:
        return InProcess()
    # Spawned, not forked: the parent may have used OpenMP, whose threads do not survive a fork.
    context = multiprocessing.get_context("spawn")
    begun = context.Value("i", 0)
    return ProcessPoolExecutor(
        max_workers=workers, mp_context=context, initializer=_begin_worker, initargs=(begun,)
    )


def _begin_worker(begun: Any) -> None:
    """``begun`` counts the workers."""
    from threadpoolctl import threadpool_limits

    die_with_parent()
    with begun.get_lock():
        take_turn(begun.value)
        begun.value += 1
    keep_freed_memory()
    os.environ["OMP_NUM_THREADS"] = "1"  # for libraries that are loaded later
    threadpool_limits(1)


def is_packed(out: Path) -> bool:
    """Whether ``out`` holds finished shards."""
    return (out / FILE_NAME).is_file()
