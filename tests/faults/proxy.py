"""A TCP proxy before a local server, to do to its connections what a bad network does.

Linux only, as the fault tests are: it tells a client that has gone by POLLRDHUP.
"""

from __future__ import annotations

import select
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

HOST = "127.0.0.1"
CHUNK = 65536
LOOK = 0.05
"""Seconds between two looks at whether a hang is over, or the client has gone."""
SOON = 1.0
"""Seconds that a connection may take to end once it was told to."""

_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER of zero seconds: the close is a reset, and what was not sent is dropped."""


class Connection:
    """A client's connection and, once there is one, that to the server behind."""

    def __init__(self, client: socket.socket) -> None:
        self.client = client
        self.server: socket.socket | None = None
        self.broken = False
        self.thread: threading.Thread | None = None

    def gone(self) -> bool:
        """Whether the client has closed its side, or was killed, whatever it sent before."""
        poll = select.poll()
        poll.register(self.client, select.POLLRDHUP)
        return self.broken or bool(poll.poll(0))

    def close(self) -> None:
        for side in (self.client, self.server):
            if side is not None:
                side.close()

    def reset(self) -> None:
        """Make the thread that serves it end, and its closing a reset. It says no goodbye."""
        self.broken = True
        for side in (self.client, self.server):
            if side is not None:
                with suppress(OSError):  # closed meanwhile
                    side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                    side.shutdown(socket.SHUT_RD)  # wakes who reads here, and sends nothing


class Proxy:
    """Forwards a free port of this machine to another one, until it is told to do worse.

    Every method may be called from any thread while it runs. It passes at first.
    """

    def __init__(self, server_port: int) -> None:
        self._server = (HOST, server_port)
        # Keeps the port while nobody listens on it, which is what refuses a connection.
        self._holder = _bound(0)
        self.port: int = self._holder.getsockname()[1]
        self._listener: socket.socket | None = None
        self._lock = threading.Lock()
        self._connections: set[Connection] = set()
        self._passing = threading.Event()
        self._passing.set()

    # --- what can be done to it ----------------------------------------------------------------

    def restore(self) -> None:
        """Pass everything again. What hung goes on, unless its client has gone."""
        self._listen()
        self._passing.set()

    def hang(self) -> None:
        """Accept, and forward nothing either way."""
        self._listen()
        self._passing.clear()

    def refuse(self) -> None:
        """Refuse new connections and reset the open ones, as a server that is down."""
        self._hush()
        self.reset()

    def reset(self) -> int:
        """Reset all open connections, on both sides; how many there were."""
        with self._lock:
            open_now = list(self._connections)
        for connection in open_now:
            connection.reset()
        self._end(open_now)
        return len(open_now)

    @property
    def open(self) -> int:
        """How many connections there are."""
        return len(self._connections)

    # --- running -------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self._listen()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.refuse()
        self._holder.close()

    def _listen(self) -> None:
        with self._lock:
            if self._listener is not None:
                return
            self._listener = listener = _bound(self.port)
            listener.listen(128)
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def _hush(self) -> None:
        with self._lock:
            listener, self._listener = self._listener, None
        if listener is not None:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # closing alone does not wake who accepts
            listener.close()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = Connection(client)
            connection.thread = threading.Thread(target=self._run, args=(connection,), daemon=True)
            with self._lock:
                self._connections.add(connection)
                if self._listener is not listener:
                    connection.reset()  # it came as the door was shut
            connection.thread.start()

    def _run(self, connection: Connection) -> None:
        try:
            self.serve(connection)
        except OSError:
            connection.reset()  # one side failed, so both do
        finally:
            connection.close()
            with self._lock:
                self._connections.discard(connection)

    def _end(self, connections: list[Connection]) -> None:
        for connection in connections:
            assert connection.thread is not None
            connection.thread.join(SOON)
            if connection.thread.is_alive():  # it writes to one who does not read
                for side in (connection.client, connection.server):
                    with suppress(OSError):
                        if side is not None:
                            side.shutdown(socket.SHUT_RDWR)
                connection.thread.join(SOON)

    # --- what passes ---------------------------------------------------------------------------

    def serve(self, connection: Connection) -> None:
        """Serve one connection to its end. OSError where a side fails."""
        server = self.connect(connection)
        poll = select.poll()
        for side in (connection.client, server):
            poll.register(side, select.POLLIN)
        while True:
            for number, _ in poll.poll():
                asks = number == connection.client.fileno()
                data = (connection.client if asks else server).recv(CHUNK)
                if not data or not self.may_pass(connection):
                    return
                (server if asks else connection.client).sendall(data)

    def connect(self, connection: Connection) -> socket.socket:
        """A connection to the server, which ends with the client's. OSError where it is down."""
        server = socket.create_connection(self._server)
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.server = server
        if connection.broken:
            raise ConnectionResetError
        return server

    def may_pass(self, connection: Connection) -> bool:
        """Wait while it hangs; False where the client did not wait as long."""
        return self.wait(connection, self._passing.is_set)

    @staticmethod
    def wait(connection: Connection, condition: Callable[[], bool]) -> bool:
        """Wait for a condition; False, and nothing of it arrives late, where the client left."""
        pause = threading.Event()
        while not condition():
            if connection.gone():
                return False
            pause.wait(LOOK)
        return not connection.broken


def _bound(port: int) -> socket.socket:
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    bound.bind((HOST, port))
    return bound
