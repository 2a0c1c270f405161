"""HTTP as uvicorn speaks it, with an end to patience, and problems for what is no HTTP."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from potnet.serve.problems import MEDIA_TYPE, Problem

HEAD_SECONDS = 20.0
"""How long the head of a request may take, and how long a body that was refused is still heard: a
client that cannot send and listen at once gets its answer, one that never ends is left."""
CONNECTIONS = 512  # open at the same time; more are sent away


class Protocol(H11Protocol):
    """A connection that ends when nothing comes of it."""

    head_seconds = HEAD_SECONDS
    _patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._rest()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        try:
            super().data_received(data)
        except h11.LocalProtocolError:  # what is no HTTP behind an answer
            self.transport.close()
        self._watch()

    def send_400_response(self, msg: str) -> None:
        self._refuse(Problem(HTTPStatus.BAD_REQUEST, "The request must be HTTP/1.1. Mend it."))

    def _unsupported_upgrade_warning(self) -> None:
        """Say nothing: it is answered as any request."""

    def _watch(self) -> None:
        """Begin to wait for a request, or stop, as one has come."""
        if self.cycle is not None and not self.cycle.response_complete:
            self._rest()
        elif self._patience is None and not self.transport.is_closing():
            self._patience = self.loop.call_later(self.head_seconds, self._lose)

    def _rest(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _lose(self) -> None:
        self._patience = None
        if self.conn.our_state is h11.IDLE:
            self._refuse(
                Problem(HTTPStatus.REQUEST_TIMEOUT, "The request must arrive in time. Try again.")
            )
        self.transport.close()

    def _refuse(self, problem: Problem) -> None:
        headers = [
            ("content-type", MEDIA_TYPE),
            ("content-length", str(len(problem.body))),
            ("connection", "close"),
        ]
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            answer = h11.Response(
                status_code=problem.status.value, headers=headers, reason=problem.status.phrase
            )
            for event in (answer, h11.Data(data=problem.body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
