"""The job type `send_email`: hand one message to the SMTP server."""

from __future__ import annotations

import contextlib
import email.policy
import functools
import re
import smtplib
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import localtime
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import SplitResult, unquote, urlsplit

import structlog
from email_validator import EmailNotValidError, ValidatedEmail, validate_email
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

from goqueue import actor
from goqueue.config.settings import Settings, get_settings
from goqueue.errors import Discard, GoQueueError
from goqueue.observability.tracing import calling
from goqueue.worker.execution import current_job

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

DEFAULT_PORTS = {"smtp": 25, "smtp+starttls": 587, "smtps": 465}
SUBJECT_MAX_LENGTH = 998
# RFC 5321: the first digit of an answer.
ACCEPTED, REFUSED = 2, 5
CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
ANOTHER_LINE = "a header of the message would begin another line"
# A line break that is no folding (RFC 5322), and a NUL.
BREAK = re.compile(rb"\r\n(?![ \t])|(?<!\r)\n|\r(?!\n)|\x00|\r\n[ \t]*(?=\r\n|\Z)")
# What most addresses look like, far within what RFC 5321 allows. The library knows the rest, in 40 µs, which
# was two thirds of the time that the API spent on a job of a batch.
PLAIN_ADDRESS_MAX_LENGTH = 63
PLAIN_ADDRESS = re.compile(
    r"[A-Za-z0-9_+-]+(?:\.[A-Za-z0-9_+-]+)*"
    r"@(?:[a-z0-9]+(?:-[a-z0-9]+)*\.)+(?!(?:arpa|invalid|local|localhost|onion)\Z)[a-z]{2,}"
)
# RFC 4954: the server wants another login. That is our configuration, not this message: retried.
LOGIN_CODES = frozenset({530, 534, 535, 538})

# 7bit: needs no 8BITMIME of the server, and no byte of a body can be taken for a line of the protocol.
ASCII_POLICY = email.policy.SMTP.clone(cte_type="7bit")
INTERNATIONAL_POLICY = ASCII_POLICY.clone(utf8=True)

log = structlog.get_logger(__name__)


class DeliveryError(GoQueueError):
    """The message was not accepted; a later try may succeed."""


def _check_address(text: str) -> str:
    if "=?" in text:
        # The header of a message would decode it, to another address or to more lines (RFC 2047).
        raise PydanticCustomError("email_address", "expected an e-mail address without encoded words")
    if len(text) <= PLAIN_ADDRESS_MAX_LENGTH and PLAIN_ADDRESS.fullmatch(text):
        return text
    try:
        _parse_address(text)
    except EmailNotValidError:
        raise PydanticCustomError("email_address", "expected a valid e-mail address") from None
    return text


def _parse_address(text: str) -> ValidatedEmail:
    return validate_email(text, check_deliverability=False, test_environment=True)


def _check_subject(text: str) -> str:
    if any(CONTROL_CHARACTER.search(reading) for reading in _readings(text)):
        raise PydanticCustomError("subject", "expected one line without control characters")
    if "=?" in text and not _can_be_written(text):
        raise PydanticCustomError("subject", "expected encoded words that the header of a message can have")
    return _check_not_blank(text)


def _can_be_written(subject: str) -> bool:
    """Whether the library writes what it read: it stumbles over bytes in a word that are no text."""
    try:
        ASCII_POLICY.fold("Subject", ASCII_POLICY.header_factory("Subject", subject))
    except (MessageError, UnicodeError):
        return False
    return True


def _readings(text: str) -> Iterator[str]:
    """The text, and what it becomes each time that the encoded words in it (RFC 2047) are decoded.

    The header of a message decodes them once, and a mail program decodes what is left once more.
    """
    yield text
    decoded = _decoded(text) if "=?" in text else text
    if len(decoded) < len(text):
        yield from _readings(decoded)
    else:
        yield decoded


def _decoded(text: str) -> str:
    """The text as the header of a message has it."""
    return str(ASCII_POLICY.header_factory("Subject", text))


def _check_body(text: str) -> str:
    if "\x00" in text:
        raise PydanticCustomError("body", "expected a text without NUL characters")
    return _check_not_blank(text)


def _check_not_blank(text: str) -> str:
    if not text.strip():
        raise PydanticCustomError("blank", "expected a text that is not empty")
    return text


class EmailPayload(BaseModel):
    """One plain-text message to one recipient.

    Attributes:
        to: an address without a display name (RFC 5321); international ones are allowed (RFC 6531).
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)

    to: Annotated[str, AfterValidator(_check_address)]
    subject: Annotated[str, Field(max_length=SUBJECT_MAX_LENGTH), AfterValidator(_check_subject)]
    body: Annotated[str, AfterValidator(_check_body)]


@actor(queue="email", name="send_email")
def send_email(payload: EmailPayload) -> dict[str, Any]:
    """Hand the message to the SMTP server, at least once, under the same Message-ID in every retry."""
    return deliver(payload, job_id=current_job().id, settings=get_settings())


def deliver(payload: EmailPayload, *, job_id: int, settings: Settings) -> dict[str, Any]:
    """Make one SMTP conversation; return the Message-ID and the server's answer to the recipient.

    Raises:
        Discard: the server refused the message for good (5xx, RFC 5321), or takes no international address.
        DeliveryError: it refused for now (4xx), did not let us in, or the connection failed. After a lost
            answer the message may have been accepted: the repeat carries the same Message-ID.
    """
    message = _compose(payload, job_id, settings.smtp_sender)
    host, port = _server(urlsplit(settings.smtp_url.get_secret_value()))
    with calling("smtp", {"network.protocol.name": "smtp", "server.address": host, "server.port": port}):
        code = _converse(message, settings)
    log.info("email_sent", smtp_code=code)
    return {"message_id": message["Message-ID"], "smtp_code": code}


def _converse(message: EmailMessage, settings: Settings) -> int:
    try:
        with _session(settings, _sender_of(message).domain) as smtp:
            return _hand_over(smtp, message)
    except (smtplib.SMTPException, OSError) as error:
        raise DeliveryError(_what_failed(error)) from None


def _compose(payload: EmailPayload, job_id: int, sender: str) -> EmailMessage:
    recipient = _parse_address(payload.to)
    message = EmailMessage(ASCII_POLICY if recipient.ascii_email else INTERNATIONAL_POLICY)
    message["From"] = sender
    local_part, _, domain = (recipient.ascii_email or recipient.normalized).rpartition("@")
    message["To"] = Address(username=local_part, domain=domain)
    message["Subject"] = payload.subject
    message["Date"] = localtime()
    message["Message-ID"] = f"<goqueue-job-{job_id}@{_sender_of(message).domain}>"
    message.set_content(payload.body)
    return message


def _sender_of(message: EmailMessage) -> Address:
    address: Address = message["From"].addresses[0]
    return address


@contextlib.contextmanager
def _session(settings: Settings, own_name: str) -> Iterator[smtplib.SMTP]:
    url = urlsplit(settings.smtp_url.get_secret_value())
    smtp = _connect(url, own_name, settings.smtp_timeout_seconds)
    try:
        if url.scheme == "smtp+starttls":
            smtp.starttls(context=_tls())
        if url.username:
            smtp.login(unquote(url.username), unquote(url.password or ""))
        yield smtp
    finally:
        # A server that stumbles over QUIT has accepted or refused the message before: not an error.
        with contextlib.suppress(smtplib.SMTPException, OSError):
            smtp.quit()
        smtp.close()


def _connect(url: SplitResult, own_name: str, timeout: float) -> smtplib.SMTP:
    host, port = _server(url)
    # Without a name for EHLO smtplib asks DNS for the machine's own one, which can take many seconds.
    if url.scheme == "smtps":
        return smtplib.SMTP_SSL(host, port, own_name, timeout=timeout, context=_tls())
    return smtplib.SMTP(host, port, own_name, timeout=timeout)


def _server(url: SplitResult) -> tuple[str, int]:
    return url.hostname or "localhost", url.port or DEFAULT_PORTS[url.scheme]


@functools.cache
def _tls() -> ssl.SSLContext:
    from goqueue.actors.outgoing import tls_context  # noqa: PLC0415  (what it needs is large)

    return tls_context()


def _hand_over(smtp: smtplib.SMTP, message: EmailMessage) -> int:
    smtp.ehlo_or_helo_if_needed()
    _expect_accepted(smtp.mail(_sender_of(message).addr_spec, _mail_options(smtp, message)), "MAIL")
    code = _expect_accepted(smtp.rcpt(message["To"].addresses[0].addr_spec), "RCPT")
    try:
        _expect_accepted(smtp.data(_on_the_wire(message)), "DATA")
    except smtplib.SMTPDataError as error:
        raise _refusal(error.smtp_code, "DATA") from None
    return code


def _on_the_wire(message: EmailMessage) -> bytes:
    """The bytes of a message, which have the header lines that were composed here and no others.

    Python before 3.11.10, 3.12.5 and 3.13.0 writes a line break that a header came to hold by decoding
    (CVE-2024-6923), so what is sent is what is checked.

    Raises:
        Discard: there would be another line, or a break inside of one.
    """
    try:
        content = message.as_bytes()
    except (MessageError, UnicodeError):
        raise Discard(ANOTHER_LINE) from None
    head = content.partition(b"\r\n\r\n")[0]
    lines = re.split(rb"\r\n(?![ \t])", head)
    names = [line.partition(b":")[0].decode("ascii", "replace") for line in lines]
    if names != list(message.keys()) or any(BREAK.search(line) for line in lines):
        raise Discard(ANOTHER_LINE)
    return content


def _mail_options(smtp: smtplib.SMTP, message: EmailMessage) -> tuple[str, ...]:
    if message.policy is not INTERNATIONAL_POLICY:
        return ()
    if not smtp.has_extn("smtputf8"):
        raise Discard("the SMTP server takes no international addresses (SMTPUTF8)")
    return ("SMTPUTF8", "BODY=8BITMIME")


def _expect_accepted(answer: tuple[int, bytes], step: str) -> int:
    code = answer[0]
    if code // 100 != ACCEPTED:
        raise _refusal(code, step)
    return code


def _refusal(code: int, step: str) -> Discard | DeliveryError:
    # Only the code: the text of the answer usually repeats the address.
    reason = f"the SMTP server answered {code} to {step}"
    refused_for_good = code // 100 == REFUSED and code not in LOGIN_CODES
    return Discard(reason) if refused_for_good else DeliveryError(reason)


def _what_failed(error: smtplib.SMTPException | OSError) -> str:
    if isinstance(error, smtplib.SMTPResponseException):
        return f"the SMTP server answered {error.smtp_code} ({type(error).__name__})"
    return f"the conversation with the SMTP server failed ({type(error).__name__})"
