"""Servers of shards in processes of their own: HTTP that misbehaves on request, and S3.

``python store_servers.py http FOLDER`` serves FOLDER's files as ``/MODE/TAG/FILE`` on a free port,
which it prints; ``/count/MODE/TAG`` tells how many requests for files of a mode and tag it has
answered. ``python store_servers.py s3`` serves S3.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

BAD_FROM = 300_000  # the mode "hole" answers no range from this byte on
PARENT = os.getppid()


@contextmanager
def http_server(folder: Path) -> Iterator[str]:
    """The URL of a process that serves ``folder``."""
    with _serving("http", str(folder)) as url:
        yield url


@contextmanager
def s3_bucket(name: str) -> Iterator[str]:
    """The URL of a bucket in a process that speaks S3; the environment leads to it."""
    reason = "pip install 'moto[server]' s3fs"
    pytest.importorskip("moto.server", reason=reason)
    s3fs = pytest.importorskip("s3fs", reason=reason)
    with _serving("s3") as endpoint, pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", endpoint)
        patch.setenv("AWS_ACCESS_KEY_ID", "key")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        s3fs.S3FileSystem(skip_instance_cache=True).mkdir(name)
        yield f"s3://{name}"


@contextmanager
def _serving(*arguments: str) -> Iterator[str]:
    command = [sys.executable, __file__, *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        port = process.stdout.readline()
        assert port, process.communicate()[1]
        # Nobody reads what else it says; it must not wait for that.
        threading.Thread(target=process.communicate, daemon=True).start()
        yield f"http://127.0.0.1:{int(port)}"
    finally:
        process.kill()
        process.wait()


def serve_s3() -> None:
    """Serve objects in memory until the process that started this one ends."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    print(server.get_host_and_port()[1], flush=True)
    while os.getppid() == PARENT:
        time.sleep(1)


def serve_http(folder: Path) -> None:
    """Serve a folder until the process that started this one ends."""
    from aiohttp import web

    counts: Counter[tuple[str, str]] = Counter()

    async def count(request: web.Request) -> web.Response:
        asked = request.match_info
        return web.Response(text=str(counts[asked["mode"], asked["tag"]]))

    async def file(request: web.Request) -> web.StreamResponse:
        mode, tag, name = (request.match_info[key] for key in ("mode", "tag", "name"))
        if not (folder / name).is_file():
            raise web.HTTPNotFound
        data = (folder / name).read_bytes()
        start, stop = _range(request, len(data))
        if request.method == "HEAD":
            return web.Response(headers={"Content-Length": str(len(data)), "ETag": '"1"'})
        counts[mode, tag] += 1
        return await _answer(request, mode, counts[mode, tag], data, start, stop)

    async def main() -> None:
        app = web.Application()
        app.router.add_get("/count/{mode}/{tag}", count)
        app.router.add_get("/{mode}/{tag}/{name}", file)
        runner = web.AppRunner(app, shutdown_timeout=0)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        print(runner.addresses[0][1], flush=True)
        while os.getppid() == PARENT:
            await asyncio.sleep(1)

    asyncio.run(main())


def _range(request: Any, size: int) -> tuple[int, int]:
    if "Range" not in request.headers:
        return 0, size
    first, last = request.headers["Range"].removeprefix("bytes=").split("-")
    return int(first), min(size, int(last) + 1)


async def _answer(request: Any, mode: str, number: int, data: bytes, start: int, stop: int) -> Any:
    from aiohttp import web

    if mode == "busy" and number <= 2:
        raise web.HTTPServiceUnavailable
    if mode == "forbidden":
        raise web.HTTPForbidden
    if mode == "whole":
        return web.Response(body=data)
    body = data[start:stop]
    if (mode == "corrupt-once" and number == 1) or mode == "corrupt":
        body = bytes([body[0] ^ 1]) + body[1:]
    response = web.StreamResponse(status=206 if "Range" in request.headers else 200)
    response.content_length = len(body)
    await response.prepare(request)
    if (mode == "drop" and number % 2) or (mode == "hole" and stop > BAD_FROM):
        await response.write(body[: len(body) // 2])
        request.transport.close()
        return response
    for at in range(0, len(body), 65536):
        await response.write(body[at : at + 65536])
        if mode in {"slow", "crawl"}:
            await asyncio.sleep(0.05 if mode == "slow" else 1)
    return response


if __name__ == "__main__":
    if sys.argv[1] == "http":
        serve_http(Path(sys.argv[2]))
    else:
        serve_s3()
