from __future__ import annotations

import multiprocessing
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pytest
import xxhash
from store_servers import BAD_FROM, http_server, s3_bucket
from torch.utils.data import DataLoader, IterableDataset

from shards.errors import UserError
from shards.index import ShardFacts
from shards.stores import CacheConfig, ReadFailure, Span, Store, open_store, remote
from shards.stores.local import OPEN_FILES
from shards.stores.remote_index import fetch_index

SHARDS, SIZE = 6, 500_000
MEGABYTE = 1e-3  # in gigabytes


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six shards of half a megabyte and an index file."""
    folder = tmp_path_factory.mktemp("shards")
    chance = random.Random(0)
    for n in range(SHARDS):
        (folder / f"shard-{n:06d}.tar").write_bytes(chance.randbytes(SIZE))
    (folder / "index.arrow").write_bytes(b"index")
    return folder


@pytest.fixture(scope="module")
def facts(folder: Path) -> dict[str, ShardFacts]:
    return {
        path.name: ShardFacts(path.name, 1, SIZE, xxhash.xxh3_64_intdigest(path.read_bytes()))
        for path in sorted(folder.glob("*.tar"))
    }


@pytest.fixture(scope="module")
def http(folder: Path) -> Iterator[str]:
    pytest.importorskip("aiohttp", reason="pip install aiohttp")
    with http_server(folder) as url:
        yield url


@pytest.fixture
def cache(tmp_path: Path) -> CacheConfig:
    return CacheConfig(folder=tmp_path / "cache", gigabytes=10 * MEGABYTE, backoff_seconds=0.01)


RANGES = CacheConfig(backoff_seconds=0.01)


def name(n: int) -> str:
    return f"shard-{n:06d}.tar"


def some_spans(count: int = 60) -> list[Span]:
    """Spans all over the shards: far apart, touching, overlapping, twice the same, empty."""
    chance = random.Random(1)
    far = [
        (name(chance.randrange(SHARDS)), chance.randrange(SIZE - 9000), chance.randrange(1, 9000))
        for _ in range(count)
    ]
    near = [(name(2), 1000, 500), (name(2), 1500, 500), (name(2), 1200, 500), (name(2), 1200, 500)]
    return [*far, *near, (name(3), 77, 0), (name(0), SIZE - 10, 10), (name(0), 0, 10)]


def expected(folder: Path, spans: list[Span]) -> list[bytes]:
    return [(folder / shard).read_bytes()[at : at + size] for shard, at, size in spans]


def requests(location: str) -> int:
    """How many requests for files below the location the server has answered."""
    server, _, place = location.removeprefix("http://").partition("/")
    with urllib.request.urlopen(f"http://{server}/count/{place}") as answer:
        return int(answer.read())


def files_in(cache: CacheConfig) -> list[Path]:
    return [path for path in cache.folder.rglob("*") if path.is_file()]


def open_files() -> list[str]:
    links = Path("/proc/self/fd").iterdir()
    return [str(link.readlink()) for link in links if link.is_symlink()]


def await_that(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# A folder


def test_a_folder_gives_each_span_in_order(folder: Path) -> None:
    store = open_store(str(folder), {}, RANGES)
    assert store.fetch(some_spans()) == expected(folder, some_spans())


def test_a_missing_or_cut_shard_fails_alone(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"0123456789")
    store = open_store(str(tmp_path), {}, RANGES)
    cut, missing, good = store.fetch([("a.tar", 8, 4), ("b.tar", 0, 1), ("a.tar", 2, 3)])
    assert cut == ReadFailure("a.tar", "a.tar ends at byte 10, 12 were indexed")
    assert missing == ReadFailure("b.tar", f"b.tar is not in {tmp_path}")
    assert good == b"234"


def test_a_shard_replaced_by_a_longer_one_is_opened_again(tmp_path: Path) -> None:
    shard = tmp_path / "a.tar"
    shard.write_bytes(b"01234")
    store = open_store(str(tmp_path), {}, RANGES)
    store.fetch([("a.tar", 0, 1)])
    (tmp_path / "new").write_bytes(b"0123456789")
    os.replace(tmp_path / "new", shard)
    assert store.fetch([("a.tar", 5, 5)]) == [b"56789"]


def test_few_files_stay_open(tmp_path: Path) -> None:
    for n in range(2 * OPEN_FILES):
        (tmp_path / name(n)).write_bytes(b"%03d" % n)
    store = open_store(str(tmp_path), {}, RANGES)
    before = len(open_files())
    spans = [(name(n), 0, 3) for n in range(2 * OPEN_FILES)] * 2
    assert store.fetch(spans) == [b"%03d" % n for n in range(2 * OPEN_FILES)] * 2
    assert len(open_files()) - before <= OPEN_FILES
    del store
    assert len(open_files()) <= before


# Byte ranges


def test_ranges_over_http_are_the_local_bytes(http: str, folder: Path) -> None:
    location = f"{http}/plain/ranges"
    assert open_store(location, {}, RANGES).fetch(some_spans()) == expected(folder, some_spans())


def test_neighbours_are_one_request(http: str, folder: Path) -> None:
    location = f"{http}/plain/neighbours"
    spans = [(name(1), at, 1000) for at in range(200_000, 100_000, -10_000)]
    assert open_store(location, {}, RANGES).fetch(spans) == expected(folder, spans)
    assert requests(location) == 1


@pytest.mark.parametrize("mode", ["drop", "busy"])
def test_a_passing_fault_is_outlasted(http: str, folder: Path, mode: str) -> None:
    spans = [(name(4), 100, 5000), (name(5), 7, 30_000)]
    store = open_store(f"{http}/{mode}/ranges", {}, RANGES)
    assert store.fetch(spans) == expected(folder, spans)


def test_a_lasting_fault_costs_only_its_span(http: str, folder: Path) -> None:
    # Near enough to be asked for in one request, which fails as a whole at first.
    spans = [(name(1), BAD_FROM - 9000, 5000), (name(1), BAD_FROM - 100, 200)]
    good, bad = open_store(f"{http}/hole/ranges", {}, RANGES).fetch(spans)
    assert good == expected(folder, spans)[0]
    assert isinstance(bad, ReadFailure)
    assert bad.passing
    assert f"{http}/hole/ranges/{name(1)}" in bad.reason


@pytest.mark.parametrize(
    ("mode", "shard", "reason"),
    [
        ("plain", "shard-999999.tar", "is not there"),
        ("forbidden", name(0), "403"),
        ("whole", name(0), "set data.cache.gigabytes"),
    ],
)
def test_what_will_not_pass_is_tried_once(http: str, mode: str, shard: str, reason: str) -> None:
    location = f"{http}/{mode}/once"
    patient = CacheConfig(backoff_seconds=60)
    (failure,) = open_store(location, {}, patient).fetch([(shard, 10, 100)])
    assert isinstance(failure, ReadFailure)
    assert reason in failure.reason


def test_a_server_that_is_gone_fails_every_span() -> None:
    pytest.importorskip("aiohttp", reason="pip install aiohttp")
    store = open_store("http://127.0.0.1:9/nowhere", {}, RANGES)
    assert [type(answer) for answer in store.fetch(some_spans(3))].count(ReadFailure) == 9


@pytest.fixture(scope="module")
def s3(folder: Path) -> Iterator[str]:
    with s3_bucket("speech") as url:
        files, bucket = fsspec.url_to_fs(url, skip_instance_cache=True)
        for path in folder.iterdir():
            files.put_file(str(path), f"{bucket}/corpus/{path.name}")
        yield f"{url}/corpus"


def test_ranges_over_s3_are_the_local_bytes(s3: str, folder: Path) -> None:
    spans = some_spans(20)
    *found, failure = open_store(s3, {}, RANGES).fetch([*spans, ("shard-999999.tar", 0, 10)])
    assert found == expected(folder, spans)
    assert failure == ReadFailure("shard-999999.tar", f"{s3}/shard-999999.tar is not there")


def test_shards_and_index_are_copied_from_s3(
    s3: str, folder: Path, facts: dict[str, ShardFacts], cache: CacheConfig
) -> None:
    spans = some_spans(20)
    assert open_store(s3, facts, cache).fetch(spans) == expected(folder, spans)
    assert (fetch_index(s3, cache) / "index.arrow").read_bytes() == b"index"


# Copies


@pytest.mark.parametrize("mode", ["plain", "drop", "whole", "corrupt-once"])
def test_copies_are_the_servers_shards_whatever_happens_on_the_way(
    http: str, folder: Path, facts: dict[str, ShardFacts], cache: CacheConfig, mode: str
) -> None:
    spans = some_spans()
    location = f"{http}/{mode}/copies"
    assert open_store(location, facts, cache).fetch(spans) == expected(folder, spans)
    assert open_store(location, facts, cache).fetch(spans) == expected(folder, spans)
    times = {"drop": 2 * SHARDS, "corrupt-once": SHARDS + 1}.get(mode, SHARDS)
    assert requests(location) == times
    assert len(files_in(cache)) == SHARDS


def test_a_folder_on_a_slow_mount_is_copied_too(
    folder: Path, facts: dict[str, ShardFacts], cache: CacheConfig
) -> None:
    store = open_store(str(folder), facts, cache)
    assert store.fetch(some_spans()) == expected(folder, some_spans())
    assert len(files_in(cache)) == SHARDS


def test_a_shard_that_stays_corrupt_fails_and_is_not_fetched_for_every_clip(
    http: str, facts: dict[str, ShardFacts], cache: CacheConfig
) -> None:
    location = f"{http}/corrupt/for-ever"
    store = open_store(location, facts, cache)
    for _ in range(3):
        (failure,) = store.fetch([(name(0), 0, 10)])
        assert isinstance(failure, ReadFailure)
        assert f"{facts[name(0)].checksum:016x} were indexed" in failure.reason
    assert requests(location) == cache.retries + 1
    assert files_in(cache) == []


def test_the_cache_stays_within_its_room_and_drops_what_was_used_longest_ago(
    http: str, folder: Path, facts: dict[str, ShardFacts], cache: CacheConfig
) -> None:
    small = cache.model_copy(update={"gigabytes": 1.1 * MEGABYTE})
    (small.folder / "somebody").mkdir(parents=True)
    (small.folder / "somebody" / "else.0123456789abcdef").write_bytes(bytes(2 * SIZE))
    spans = some_spans()
    for shard in range(SHARDS):
        store = open_store(f"{http}/plain/evicted", facts, small)
        of_shard = [span for span in spans if span[0] == name(shard)]
        assert store.fetch(of_shard) == expected(folder, of_shard)
        ours = [path for path in files_in(small) if path.parent.name != "somebody"]
        assert sum(path.stat().st_size for path in ours) <= 1_100_000
    assert {path.name[:16] for path in ours} == {name(SHARDS - 2), name(SHARDS - 1)}
    assert (small.folder / "somebody" / "else.0123456789abcdef").exists()


def test_a_store_that_has_deleted_shards_open_lets_them_go(
    http: str,
    folder: Path,
    facts: dict[str, ShardFacts],
    cache: CacheConfig,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("shards.stores.cache.RELEASE_SECONDS", 0.0)
    small = cache.model_copy(update={"gigabytes": 1.1 * MEGABYTE})
    store = open_store(f"{http}/plain/released", facts, small)
    for _ in range(2):
        assert store.fetch(some_spans()) == expected(folder, some_spans())

    def none_left() -> bool:
        store.fetch([])
        return not [path for path in open_files() if path.endswith(".tar (deleted)")]

    await_that(none_left)


def test_a_shard_larger_than_the_room_or_unknown_to_the_index_is_read_by_ranges(
    http: str, folder: Path, facts: dict[str, ShardFacts], cache: CacheConfig
) -> None:
    tiny = cache.model_copy(update={"gigabytes": 0.1 * MEGABYTE})
    for store in (
        open_store(f"{http}/plain/tiny", facts, tiny),
        open_store(f"{http}/plain/tiny", {}, cache),
    ):
        assert store.fetch(some_spans()) == expected(folder, some_spans())
    assert files_in(tiny) == []


def test_what_is_expected_is_there_when_it_is_fetched(
    http: str, folder: Path, facts: dict[str, ShardFacts], cache: CacheConfig
) -> None:
    location = f"{http}/slow/expected"
    store = open_store(location, facts, cache)
    store.expect([name(0), name(1)])
    await_that(lambda: len([f for f in files_in(cache) if not f.name.startswith(".")]) == 2)
    store.expect([name(2)])
    spans = [(name(n), 5, 50) for n in range(3)]
    assert store.fetch(spans) == expected(folder, spans)
    assert requests(location) == 3


def fetch_in_child(store: Store, spans: list[Span], answers: multiprocessing.Queue[object]) -> None:
    answers.put(store.fetch(spans))


def test_processes_share_one_download(
    http: str, folder: Path, facts: dict[str, ShardFacts], cache: CacheConfig
) -> None:
    location = f"{http}/slow/shared"
    store, spans = open_store(location, facts, cache), [(name(n), 10, 100) for n in (0, 1)]
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    children = [
        context.Process(target=fetch_in_child, args=(store, spans, answers)) for _ in range(3)
    ]
    for child in children:
        child.start()
    assert [answers.get(timeout=20) for _ in children] == [expected(folder, spans)] * 3
    for child in children:
        child.join()
    assert requests(location) == 2


def test_a_killed_download_leaves_nothing_that_lasts(
    http: str, folder: Path, facts: dict[str, ShardFacts], cache: CacheConfig
) -> None:
    store = open_store(f"{http}/crawl/killed", facts, cache)
    context = multiprocessing.get_context("fork")
    spans = [(name(0), 10, 100)]
    child = context.Process(target=fetch_in_child, args=(store, spans, context.Queue()))
    child.start()
    await_that(lambda: any(path.stat().st_size > 0 for path in files_in(cache)))
    assert child.pid
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    assert [path.name[0] for path in files_in(cache)] == ["."]
    quick = open_store(f"{http}/plain/killed", facts, cache)
    wanted = [(name(1), 10, 100)]
    assert quick.fetch(wanted) == expected(folder, wanted)
    assert [path.name[: len(name(1))] for path in files_in(cache)] == [name(1)]


def test_a_download_under_way_at_a_fork_neither_blocks_nor_ends(
    http: str, folder: Path, facts: dict[str, ShardFacts], cache: CacheConfig
) -> None:
    store = open_store(f"{http}/slow/forked", facts, cache)
    store.expect([name(0)])
    await_that(lambda: bool(files_in(cache)))
    context = multiprocessing.get_context("fork")
    answers, spans = context.Queue(), [(name(0), 10, 100), (name(1), 10, 100)]
    child = context.Process(target=fetch_in_child, args=(store, spans, answers))
    child.start()
    assert store.fetch(spans) == expected(folder, spans)
    assert answers.get(timeout=20) == expected(folder, spans)
    child.join()
    assert requests(f"{http}/slow/forked") == 2


class Clips(IterableDataset[object]):
    def __init__(self, store: Store, spans: list[Span]) -> None:
        self.store, self.spans = store, spans

    def __iter__(self) -> Iterator[object]:
        self.store.expect({shard for shard, _, _ in self.spans})
        yield self.store.fetch(self.spans)


@pytest.mark.parametrize(
    ("kind", "start"),
    [("folder", "fork"), ("http", "fork"), ("s3", "fork"), ("copies", "fork"), ("copies", "spawn")],
)
def test_loader_workers_use_a_store_that_their_parent_has_used(
    kind: str,
    start: str,
    folder: Path,
    facts: dict[str, ShardFacts],
    cache: CacheConfig,
    request: pytest.FixtureRequest,
) -> None:
    server = request.getfixturevalue({"copies": "http"}.get(kind, kind))
    location = str(server) if kind in {"folder", "s3"} else f"{server}/plain/worker"
    store = open_store(location, facts, cache if kind == "copies" else RANGES)
    spans = some_spans(20)
    assert store.fetch(spans[:5]) == expected(folder, spans)[:5]
    workers = 1 if start == "spawn" else 2
    loader = DataLoader(
        Clips(store, spans), batch_size=None, num_workers=workers, multiprocessing_context=start
    )
    assert list(loader) == [expected(folder, spans)] * workers
    assert store.fetch(spans) == expected(folder, spans)


def test_a_fork_waits_while_another_thread_opens_connections(
    http: str, folder: Path, facts: dict[str, ShardFacts]
) -> None:
    store, spans = open_store(f"{http}/plain/opening", facts, RANGES), [(name(0), 10, 100)]
    held = threading.Event()

    def open_slowly() -> None:
        with remote._opening:
            held.set()
            time.sleep(0.2)

    opening = threading.Thread(target=open_slowly)
    opening.start()
    held.wait()
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    child = context.Process(target=fetch_in_child, args=(store, spans, answers))
    child.start()
    assert answers.get(timeout=20) == expected(folder, spans)
    child.join()
    opening.join()


@pytest.mark.parametrize("kind", ["folder", "http", "copies"])
def test_a_pickled_store_is_as_good(
    kind: str, http: str, folder: Path, facts: dict[str, ShardFacts], cache: CacheConfig
) -> None:
    location = str(folder) if kind == "folder" else f"{http}/plain/pickled"
    store = open_store(location, facts, cache if kind == "copies" else RANGES)
    store.fetch(some_spans(3))
    store.expect([name(0)])
    again: Store = pickle.loads(pickle.dumps(store))
    assert again.fetch(some_spans()) == expected(folder, some_spans())


# The index


def test_an_index_is_copied_once_for_each_version(http: str, cache: CacheConfig) -> None:
    location = f"{http}/plain/index"
    copies = {fetch_index(location, cache) for _ in range(3)}
    assert [(copy / "index.arrow").read_bytes() for copy in copies] == [b"index"]
    assert requests(location) == 1


def test_a_url_without_index_is_a_users_error(http: str, cache: CacheConfig) -> None:
    with pytest.raises(UserError, match=r"data\.path=.*index\.arrow is not there.*segue shards"):
        fetch_index(f"{http}/plain/index/nowhere", cache)


# Mistakes


def test_an_unknown_protocol_is_named() -> None:
    with pytest.raises(UserError, match=r"data\.path=s4://a/b: fsspec knows no protocol s4://"):
        open_store("s4://a/b", {}, RANGES)


@pytest.mark.parametrize(
    ("location", "package"), [("s3://a/b", "s3fs"), ("http://a/b", "aiohttp"), ("gs://a", "gcsfs")]
)
def test_a_missing_package_is_named(location: str, package: str) -> None:
    code = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "from shards.errors import UserError\n"
        "from shards.stores import CacheConfig, open_store\n"
        f"try: open_store({location!r}, {{}}, CacheConfig())\n"
        "except UserError as error: print(error)\n"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.startswith(f"data.path={location}: ")
    assert told.stdout.endswith(f"pip install {package}\n")
