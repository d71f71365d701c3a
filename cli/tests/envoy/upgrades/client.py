"""Does one thing with a WebSocket: `client.py PORT WHAT [PATH]`. Says what came of it."""

import asyncio
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


async def abort(connection):
    connection.transport.abort()


async def end(connection):
    connection.transport.write_eof()
    return await silence(connection)


ACTIONS = {
    "abort": abort,
    "echo": echo,
    "end": end,
    "server-aborts": lambda connection: tell(connection, "abort"),
    "server-closes": lambda connection: tell(connection, "close"),
    "silence": silence,
    "wait": wait,
}


async def main():
    port, what, *path = sys.argv[1:]
    address = f"ws://127.0.0.1:{port}{''.join(path) or '/'}"
    try:
        async with connect(address, max_size=None) as connection:
            done = await ACTIONS[what](connection)
        headers = connection.response.headers
        print(done, connection.close_code, connection.close_reason, headers["upgrade"], headers["server"])
    except InvalidStatus as refused:
        print("refused", refused.response.status_code, refused.response.body.decode().strip())


asyncio.run(main())
