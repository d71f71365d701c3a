"""A WebSocket server that echoes, and does as it is told, with a certificate and a key over TLS; says where it
listens, and how each connection ended."""

import asyncio
import http
import ssl
import sys

from websockets.asyncio.server import serve


async def handle(connection):
    try:
        async for message in connection:
            if message == "close":
                await connection.close(1000, "as told")
            elif message == "abort":
                connection.transport.abort()
            else:
                await connection.send(message)
    except Exception:
        pass  # the code tells
    finally:
        await connection.wait_closed()
        print("ended", connection.close_code, flush=True)


def answer(connection, request):
    if request.path == "/deny":
        return connection.respond(http.HTTPStatus.UNAUTHORIZED, "no\n")


async def main():
    tls = None
    if sys.argv[1:]:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(*sys.argv[1:])
    async with serve(handle, "127.0.0.1", 0, process_request=answer, max_size=None, ssl=tls) as server:
        print("port", server.sockets[0].getsockname()[1], flush=True)
        await asyncio.get_running_loop().create_future()


asyncio.run(main())
