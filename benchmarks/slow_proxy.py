"""A slow way to an object store, on the loopback: every GET waits a little, and all bytes share one rate.

`slow_proxy(endpoint)` runs it in a thread of this process and yields its address. Requests are passed on letter by
letter, with the host that the client has signed.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from urllib.parse import urlsplit

GET_SECONDS = 0.05
BYTES_A_SECOND = 20e6
PIECE_BYTES = 16_384
HEAD_BYTES = 65_536
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Rate:
    """Lets so many bytes pass in a second, whoever they are of."""

    def __init__(self, bytes_a_second: float) -> None:
        self._bytes_a_second, self._free_at = bytes_a_second, 0.0

    async def take(self, size: int) -> None:
        now = asyncio.get_running_loop().time()
        self._free_at = max(self._free_at, now) + size / self._bytes_a_second
        await asyncio.sleep(self._free_at - now)


class SlowProxy:
    """Passes connections on to one server, until it is stopped."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port, self._rate = host, port, Rate(BYTES_A_SECOND)
        self.gets = 0

    async def serve(self, address: Future[str]) -> None:
        """Serve on a port that is free, and say where."""
        self._loop, self._is_over = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._connect, "127.0.0.1", 0, limit=HEAD_BYTES)
        address.set_result(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        await self._is_over.wait()
        server.close()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._is_over.set)

    async def _connect(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        server, to_server = await asyncio.open_connection(self._host, self._port)
        ways = [asyncio.create_task(self._requests(client, to_server))]
        ways.append(asyncio.create_task(self._pass_on(server, to_client)))
        try:
            # Whichever side ends first ends the connection.
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            for writer in (to_client, to_server):
                writer.close()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _requests(self, client: asyncio.StreamReader, to_server: asyncio.StreamWriter) -> None:
        """Pass on one request after another; boto3 always says how long a body is."""
        while True:
            head = await client.readuntil(b"\r\n\r\n")
            if head.startswith(b"GET "):
                self.gets += 1
                await asyncio.sleep(GET_SECONDS)
            await self._write(to_server, head)
            found = _LENGTH.search(head)
            left = int(found[1]) if found else 0
            while left and (piece := await client.read(min(PIECE_BYTES, left))):
                left -= len(piece)
                await self._write(to_server, piece)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(PIECE_BYTES):
            await self._write(writer, piece)

    async def _write(self, writer: asyncio.StreamWriter, piece: bytes) -> None:
        await self._rate.take(len(piece))
        writer.write(piece)
        await writer.drain()


@contextmanager
def slow_proxy(endpoint: str) -> Iterator[tuple[str, SlowProxy]]:
    """Run a proxy to an endpoint, as `http://127.0.0.1:8333`; yield its own and the proxy, which counts GETs."""
    server = urlsplit(endpoint)
    proxy = SlowProxy(server.hostname or "127.0.0.1", server.port or 80)
    address: Future[str] = Future()
    thread = threading.Thread(target=lambda: asyncio.run(proxy.serve(address)), daemon=True)
    thread.start()
    try:
        yield address.result(), proxy
    finally:
        proxy.stop()
        thread.join()
