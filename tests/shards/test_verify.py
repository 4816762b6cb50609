from __future__ import annotations

import io
from pathlib import Path

import soundfile
import webdataset
from test_pack import wave

from shards.index_writer import write_index
from shards.tar_index import scan_shard
from shards.verify import verify


def shards(folder: Path, *names: str) -> None:
    """Shards of one clip each and their index."""
    scanned = []
    for number, name in enumerate(names):
        file = io.BytesIO()
        soundfile.write(file, wave(0.5, number), 8000, format="WAV")
        with webdataset.TarWriter(str(folder / name), mtime=0) as tar:
            tar.write({"__key__": f"clip{number}", "wav": file.getvalue()})
        scanned.append(scan_shard(folder, name))
    rows = [row for shard in scanned for row in shard.rows]
    write_index(folder, rows, [shard.shard for shard in scanned], {})


def test_a_shard_that_cannot_be_read_is_damage_and_the_others_are_read(tmp_path: Path) -> None:
    shards(tmp_path, "a.tar", "b.tar", "c.tar", "d.tar")
    for name in ("a.tar", "b.tar", "c.tar"):
        (tmp_path / name).unlink()
    (tmp_path / "a.tar").symlink_to("/proc/self/mem")  # reading its first page is an I/O error
    (tmp_path / "b.tar").mkdir()
    (tmp_path / "c.tar").symlink_to(tmp_path / "c.tar")
    checked = list(verify(tmp_path, 2))
    assert [shard.shard.name for shard in checked] == ["a.tar", "b.tar", "c.tar", "d.tar"]
    assert [[damage.what for damage in shard.damage] for shard in checked] == [
        ["it cannot be read: Input/output error"],
        ["it is not there"],
        ["it is not there"],
        [],
    ]
