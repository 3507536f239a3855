"""An SMTP server that keeps note of what it accepts and refuses recipients on request."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import Counter
from dataclasses import dataclass
from email import message_from_bytes
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Self

from aiosmtpd.smtp import SMTP, AuthResult

if TYPE_CHECKING:
    import ssl
    from types import TracebackType

START_TIMEOUT_SECONDS = 10.0
ACCEPTED = "250 OK"


@dataclass(frozen=True, slots=True)
class ReceivedMessage:
    """A message that the sink accepted. `content` is None unless the sink keeps contents."""

    message_id: str
    sender: str
    recipients: tuple[str, ...]
    content: bytes | None


@dataclass(frozen=True, slots=True)
class _RecipientRule:
    """The answer to recipients that match, for the first `times` of each recipient (None: always)."""

    pattern: str
    answer: str
    times: int | None = None


class SmtpSink:
    """Accepts mail on its own thread from `start()` to `stop()`; also a context manager.

    At first it refuses `refuse*@*` for good (550), and puts off `defer-once*@*` once (451).

    Args:
        port: 0 takes a free one.
        login: `(user, password)` that a client must give before it sends.
        tls: with `implicit_tls` an smtps server, otherwise one that offers STARTTLS.
        keep_content: keep the bytes of each message.
    """

    def __init__(
        self,
        port: int = 0,
        *,
        host: str = "127.0.0.1",
        login: tuple[str, str] | None = None,
        tls: ssl.SSLContext | None = None,
        implicit_tls: bool = False,
        keep_content: bool = False,
        smtputf8: bool = True,
    ) -> None:
        self._mailbox = _Mailbox(login_required=login is not None, keep_content=keep_content)
        self._host = host
        self._port = port
        self._login = login
        self._implicit_tls = tls if implicit_tls else None
        self._starttls = None if implicit_tls else tls
        self._smtputf8 = smtputf8
        self._thread: threading.Thread | None = None
        self.refuse("refuse*@*")
        self.defer("defer-once*@*", times=1)

    @property
    def port(self) -> int:
        """The port that is served: the same after a stop and a start."""
        return self._port

    @property
    def url(self) -> str:
        """Tell what `settings.smtp_url` must be, without a login."""
        scheme = "smtps" if self._implicit_tls else "smtp+starttls" if self._starttls else "smtp"
        return f"{scheme}://{self._host}:{self._port}"

    @property
    def received(self) -> list[ReceivedMessage]:
        """Every accepted message, in order."""
        with self._mailbox.lock:
            return list(self._mailbox.received)

    @property
    def distinct(self) -> int:
        """Tell how many different Message-IDs were accepted."""
        return len({message.message_id for message in self.received})

    @property
    def repeats(self) -> int:
        """Tell how many messages were accepted under a Message-ID that was accepted before."""
        messages = self.received
        return len(messages) - len({message.message_id for message in messages})

    def refuse(self, pattern: str, code: int = 550) -> None:
        """Refuse for good every recipient that matches the shell pattern (`*@example.com`)."""
        self._mailbox.add(_RecipientRule(pattern, f"{code} 5.1.1 no such recipient"))

    def defer(self, pattern: str, *, times: int | None = None, code: int = 451) -> None:
        """Put off every recipient that matches the shell pattern, the first `times` of each, or always."""
        self._mailbox.add(_RecipientRule(pattern, f"{code} 4.2.0 try again later", times))

    def start(self) -> Self:
        """Bind and serve; returns when connections are accepted.

        Raises:
            OSError: the port is taken.
        """
        logging.getLogger("mail.log").setLevel(logging.WARNING)  # aiosmtpd logs addresses at INFO
        started: list[OSError | None] = []
        ready = threading.Event()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve(ready, started)), name="SmtpSink"
        )
        self._thread.start()
        if not ready.wait(START_TIMEOUT_SECONDS):
            raise TimeoutError("the SMTP sink did not start in time")
        if started[0]:
            self._thread.join()
            self._thread = None
            raise started[0]
        return self

    def stop(self) -> None:
        """End every connection and the thread, and free the port. A second call does nothing."""
        if self._thread is None:
            return
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()
        self._thread = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def _serve(self, ready: threading.Event, started: list[OSError | None]) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        sessions: set[_Session] = set()
        try:
            server = await self._loop.create_server(
                lambda: self._session(sessions), self._host, self._port, ssl=self._implicit_tls
            )
        except OSError as error:
            started.append(error)
            ready.set()
            return
        self._port = server.sockets[0].getsockname()[1]
        started.append(None)
        ready.set()
        await self._stopping.wait()
        # asyncio accepts in two steps; closed between them, its server would leave the connection open.
        self._loop.remove_reader(server.sockets[0].fileno())
        await asyncio.sleep(0)
        server.close()
        await _end(sessions)
        await server.wait_closed()

    def _session(self, sessions: set[_Session]) -> _Session:
        return _Session(
            self._mailbox,
            sessions=sessions,
            hostname="sink.localhost",
            enable_SMTPUTF8=self._smtputf8,
            tls_context=self._starttls,
            auth_require_tls=False,
            authenticator=self._authenticate if self._login else None,
            loop=self._loop,
        )

    def _authenticate(
        self, _server: Any, _session: Any, _envelope: Any, _mechanism: str, given: Any
    ) -> AuthResult:
        right = (given.login.decode(), given.password.decode()) == self._login
        return AuthResult(success=right, handled=False)  # not handled: aiosmtpd answers 235 or 535 itself


class _Session(SMTP):
    """One connection; it is in `sessions` from its beginning to its end, through a STARTTLS, too."""

    def __init__(self, mailbox: _Mailbox, *, sessions: set[_Session], **options: Any) -> None:
        super().__init__(mailbox, **options)
        self._sessions = sessions

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._sessions.add(self)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._sessions.discard(self)
        super().connection_lost(error)

    def abort(self) -> None:
        """Close at once; `connection_lost` follows in the next turns of the loop."""
        if isinstance(self.transport, asyncio.Transport):
            self.transport.abort()


async def _end(sessions: set[_Session]) -> None:
    """Abort every session, and what else runs in this loop: a TLS handshake that does not come to an end."""
    while others := asyncio.all_tasks() - {asyncio.current_task()}:
        for session in sessions:
            session.abort()
        for task in others:
            task.cancel()
        await asyncio.sleep(0)


class _Mailbox:
    """What was accepted, and the rules for recipients; the `handle_` hooks are called by aiosmtpd."""

    def __init__(self, *, login_required: bool, keep_content: bool) -> None:
        self.lock = threading.Lock()
        self.received: list[ReceivedMessage] = []
        self._login_required = login_required
        self._keep_content = keep_content
        self._rules: list[_RecipientRule] = []
        self._attempts: Counter[tuple[_RecipientRule, str]] = Counter()

    def add(self, rule: _RecipientRule) -> None:
        with self.lock:
            self._rules.insert(0, rule)  # the latest rule wins

    async def handle_MAIL(  # noqa: N802
        self, _server: Any, session: Any, envelope: Any, address: str, options: list[str]
    ) -> str:
        if self._login_required and not session.authenticated:
            return "530 5.7.0 authentication required"
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return ACCEPTED

    async def handle_RCPT(  # noqa: N802
        self, _server: Any, _session: Any, envelope: Any, address: str, _options: list[str]
    ) -> str:
        answer = self._answer_recipient(address)
        if answer == ACCEPTED:
            envelope.rcpt_tos.append(address)
        return answer

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802
        content = bytes(envelope.content)
        message_id = str(message_from_bytes(content)["Message-ID"]).strip()
        recipients, kept = tuple(envelope.rcpt_tos), content if self._keep_content else None
        with self.lock:
            self.received.append(ReceivedMessage(message_id, envelope.mail_from, recipients, kept))
        return ACCEPTED

    def _answer_recipient(self, address: str) -> str:
        with self.lock:
            for rule in self._rules:
                if fnmatchcase(address, rule.pattern):
                    self._attempts[rule, address] += 1
                    if rule.times is None or self._attempts[rule, address] <= rule.times:
                        return rule.answer
        return ACCEPTED
