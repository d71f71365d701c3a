"""Does one thing with a WebSocket: `client.py PORT WHAT [PATH [CA]]`, with a CA over TLS. Says what came of it."""

import asyncio
import os
import ssl
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus


async def echo(connection):
    """Text, nothing, and what is spliced."""
    lengths = []
    for message in ["text", "", b"x" * 3_000_000, "y" * 70_000]:
        await connection.send(message)
        assert await connection.recv() == message
        lengths.append(len(message))
    return lengths


async def tell(connection, what):
    await connection.send(what)
    return await silence(connection)


async def silence(connection):
    try:
        return await connection.recv()
    except ConnectionClosed:
        return "closed"


async def wait(connection):
    """Says that it is open, and waits until it is told to go."""
    await connection.send("here")
    print(await connection.recv(), flush=True)
    return await silence(connection)


async def count(connection):
    """Messages of random bytes, each when a line comes that says how long it is."""
    for line in sys.stdin:
        message = os.urandom(int(line))
        await connection.send(message)
        assert await connection.recv() == message
        print("echoed", flush=True)


async def abort(connection):
    connection.transport.abort()


async def end(connection):
    connection.transport.write_eof()
    return await silence(connection)


ACTIONS = {
    "abort": abort,
    "count": count,
    "echo": echo,
    "end": end,
    "server-aborts": lambda connection: tell(connection, "abort"),
    "server-closes": lambda connection: tell(connection, "close"),
    "silence": silence,
    "wait": wait,
}


async def main():
    port, what, *more = sys.argv[1:]
    path, ca = more + ["/", ""][len(more):]
    options = {"max_size": None}
    if what == "count":
        options["compression"] = None
    if ca:
        options["ssl"] = ssl.create_default_context(cafile=ca)
        options["server_hostname"] = "bench.test"
    address = f"{'wss' if ca else 'ws'}://127.0.0.1:{port}{path}"
    try:
        async with connect(address, **options) as connection:
            done = await ACTIONS[what](connection)
        headers = connection.response.headers
        print(done, connection.close_code, connection.close_reason, headers["upgrade"], headers["server"])
    except InvalidStatus as refused:
        print("refused", refused.response.status_code, refused.response.body.decode().strip())


asyncio.run(main())
