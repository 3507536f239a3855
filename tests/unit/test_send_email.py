"""The job type send_email, against a real SMTP server."""

from __future__ import annotations

import email
import email.policy
import logging
from typing import TYPE_CHECKING, Any

import pytest
from email_validator import SPECIAL_USE_DOMAIN_NAMES
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError
from structlog.testing import capture_logs

from goqueue.actors.send_email import (
    PLAIN_ADDRESS,
    PLAIN_ADDRESS_MAX_LENGTH,
    SUBJECT_MAX_LENGTH,
    DeliveryError,
    EmailPayload,
    _compose,
    _expect_accepted,
    _on_the_wire,
    _parse_address,
    deliver,
    send_email,
)
from goqueue.config.settings import Settings
from goqueue.dev.fakes.smtp_sink import SmtpSink
from goqueue.errors import Discard

if TYPE_CHECKING:
    from collections.abc import Iterator
    from email.message import EmailMessage

VALID = {"to": "ada@example.com", "subject": "Hello", "body": "How are you?"}


@pytest.fixture
def sink() -> Iterator[SmtpSink]:
    """A running sink that keeps the contents of messages."""
    with SmtpSink(keep_content=True) as running:
        yield running


def settings_for(sink: SmtpSink, **more: Any) -> Settings:
    """Settings that send to this sink."""
    return Settings(smtp_url=SecretStr(sink.url), smtp_sender="GoQueue <queue@mail.example.com>", **more)


def payload(**changes: Any) -> EmailPayload:
    """A valid payload with these changes."""
    return EmailPayload.model_validate({**VALID, **changes})


def parsed(sink: SmtpSink) -> EmailMessage:
    """The latest message, as a mail program sees it."""
    content = sink.received[-1].content
    assert content is not None
    return email.message_from_bytes(content, policy=email.policy.default)


def test_message_arrives_as_written(sink: SmtpSink) -> None:
    """Recipient, sender, subject and body reach the server as the payload has them."""
    result = deliver(payload(), job_id=7, settings=settings_for(sink))
    message = parsed(sink)
    assert result == {"message_id": "<goqueue-job-7@mail.example.com>", "smtp_code": 250}
    assert sink.received[0].recipients == ("ada@example.com",)
    assert sink.received[0].sender == "queue@mail.example.com"
    assert (message["To"], message["Subject"]) == ("ada@example.com", "Hello")
    assert message.get_content().strip() == "How are you?"


def test_repeat_has_the_same_message_id(sink: SmtpSink) -> None:
    """A job that runs twice sends the same Message-ID, so that the repeat can be recognised."""
    for _ in range(2):
        deliver(payload(), job_id=7, settings=settings_for(sink))
    assert (sink.distinct, sink.repeats) == (1, 1)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("Grüße, 世界 🎉", id="unicode"),
        pytest.param("one\n.\n..two\nQUIT\n", id="dots"),
        pytest.param("x" * 5000, id="long line"),
        pytest.param("From me\r\nto you", id="crlf"),
    ],
)
def test_every_text_survives(sink: SmtpSink, body: str) -> None:
    """Texts that SMTP or mail would mangle arrive as they were."""
    deliver(payload(body=body, subject="Grüße " + "long " * 30), job_id=1, settings=settings_for(sink))
    message = parsed(sink)
    assert message.get_content().splitlines() == body.splitlines()
    assert message["Subject"] == "Grüße " + "long " * 29 + "long "


def _parts(letters: str) -> st.SearchStrategy[str]:
    return st.text(letters, min_size=1, max_size=8)


#: The grammar of the short way, piece by piece: made of the whole expression, most examples are too long.
PLAIN_ADDRESSES = st.builds(
    lambda local, labels, top: f"{'.'.join(local)}@{'.'.join([*labels, top])}",
    st.lists(_parts("azAZ09_+-"), min_size=1, max_size=3),
    st.lists(st.lists(_parts("az09"), min_size=1, max_size=2).map("-".join), min_size=1, max_size=2),
    st.text("abyz", min_size=2, max_size=5),
).filter(lambda text: len(text) <= PLAIN_ADDRESS_MAX_LENGTH and PLAIN_ADDRESS.fullmatch(text) is not None)


@hypothesis_settings(max_examples=200)
@given(PLAIN_ADDRESSES)
def test_the_library_agrees_with_the_short_way(address: str) -> None:
    """What is taken for a plain address without asking the library is one, and stays as it is."""
    assert _parse_address(address).normalized.lower() == address.lower()
    assert payload(to=address).to == address


@pytest.mark.parametrize("name", sorted(set(SPECIAL_USE_DOMAIN_NAMES) - {"test"}))
def test_a_domain_that_is_nowhere_is_refused(name: str) -> None:
    """Names for special use look like any other, and mail to them arrives nowhere."""
    with pytest.raises(ValidationError):
        payload(to=f"ada@example.{name}")


def test_long_address_stays_whole(sink: SmtpSink) -> None:
    """An address longer than a line of mail is neither folded nor encoded."""
    address = "a" * 64 + "@" + "b" * 60 + ".example.com"
    deliver(payload(to=address), job_id=1, settings=settings_for(sink))
    assert parsed(sink)["To"].addresses[0].addr_spec == address


def test_refused_recipient_is_discarded(sink: SmtpSink) -> None:
    """A 5xx answer to the recipient fails the job for good, with the code and without the address."""
    with pytest.raises(Discard, match=r"^the SMTP server answered 550 to RCPT$"):
        deliver(payload(to="refused@example.com"), job_id=1, settings=settings_for(sink))
    assert sink.received == []


def test_deferred_recipient_is_retried(sink: SmtpSink) -> None:
    """A 4xx answer fails the attempt, and the next one is accepted."""
    mail = payload(to="defer-once@example.com")
    with pytest.raises(DeliveryError, match=r"^the SMTP server answered 451 to RCPT$"):
        deliver(mail, job_id=1, settings=settings_for(sink))
    assert deliver(mail, job_id=1, settings=settings_for(sink))["smtp_code"] == 250


def test_unreachable_server_is_retried() -> None:
    """A refused connection fails the attempt, not the job."""
    with SmtpSink() as sink:
        settings = settings_for(sink)
    with pytest.raises(DeliveryError, match="ConnectionRefusedError"):
        deliver(payload(), job_id=1, settings=settings)


def test_login_is_used() -> None:
    """The user and the password of the URL, percent-encoded there, log in."""
    with SmtpSink(login=("queue@host", "p/w:1")) as sink:
        url = sink.url.replace("://", "://queue%40host:p%2Fw%3A1@")
        settings = Settings(smtp_url=SecretStr(url))
        assert deliver(payload(), job_id=1, settings=settings)["smtp_code"] == 250


@pytest.mark.parametrize("login", ["", "queue:wrong@"], ids=["no login", "wrong password"])
def test_wrong_login_is_retried(login: str) -> None:
    """A login that the server does not take is our mistake: the jobs wait for a corrected setting."""
    with SmtpSink(login=("queue", "right")) as sink:
        settings = Settings(smtp_url=SecretStr(sink.url.replace("://", f"://{login}")))
        with pytest.raises(DeliveryError, match=r"5[0-9]{2}") as caught:
            deliver(payload(), job_id=1, settings=settings)
    assert "wrong" not in str(caught.value)


def test_starttls_is_never_skipped(sink: SmtpSink) -> None:
    """Where STARTTLS is asked for and not offered, nothing is sent."""
    settings = Settings(smtp_url=SecretStr(sink.url.replace("smtp:", "smtp+starttls:")))
    with pytest.raises(DeliveryError, match="SMTPNotSupportedError"):
        deliver(payload(), job_id=1, settings=settings)
    assert sink.received == []


def test_international_address_is_sent(sink: SmtpSink) -> None:
    """An address with a local part beyond ASCII goes out by SMTPUTF8, one with such a domain by IDNA."""
    deliver(payload(to="пошта@example.com"), job_id=1, settings=settings_for(sink))
    deliver(payload(to="post@bücher.example.com"), job_id=2, settings=settings_for(sink))
    recipients = [message.recipients for message in sink.received]
    assert recipients == [("пошта@example.com",), ("post@xn--bcher-kva.example.com",)]


def test_international_address_without_smtputf8_is_discarded() -> None:
    """A server without SMTPUTF8 cannot take such an address, today or later."""
    with SmtpSink(smtputf8=False) as sink, pytest.raises(Discard, match="SMTPUTF8"):
        deliver(payload(to="пошта@example.com"), job_id=1, settings=settings_for(sink))


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"to": "nobody"}, id="no at"),
        pytest.param({"to": "a b@example.com"}, id="space"),
        pytest.param({"to": "ada@example.com\r\nBcc: eve@example.com"}, id="injection into to"),
        pytest.param({"to": "Ada <ada@example.com>"}, id="display name"),
        pytest.param({"to": "a@example.com, b@example.com"}, id="two addresses"),
        pytest.param({"to": ""}, id="empty to"),
        pytest.param({"to": None}, id="null to"),
        pytest.param({"subject": ""}, id="empty subject"),
        pytest.param({"subject": "  "}, id="blank subject"),
        pytest.param({"subject": "Hi\r\nBcc: eve@example.com"}, id="injection into subject"),
        pytest.param({"subject": "Hi\u2028there"}, id="line separator"),
        pytest.param({"subject": 1}, id="number"),
        pytest.param({"body": ""}, id="empty body"),
        pytest.param({"body": "a\x00b"}, id="NUL"),
        pytest.param({"cc": "eve@example.com"}, id="unknown field"),
    ],
)
def test_invalid_payload_is_refused(changes: dict[str, Any]) -> None:
    """What could not be delivered as asked is refused, and the error does not repeat the payload."""
    with pytest.raises(ValidationError) as caught:
        payload(**changes)
    assert "eve@example.com" not in str(caught.value)


@pytest.mark.parametrize("missing", ["to", "subject", "body"])
def test_missing_field_is_refused(missing: str) -> None:
    """Every field is required."""
    with pytest.raises(ValidationError, match=missing):
        EmailPayload.model_validate({name: value for name, value in VALID.items() if name != missing})


@pytest.mark.parametrize("code", [354, 421, 450, 451, 452, 530, 535])
def test_passing_answers_are_retried(code: int) -> None:
    """4xx passes, and so does a login that is wrong until we correct it (RFC 4954)."""
    with pytest.raises(DeliveryError, match=f"{code} to DATA"):
        _expect_accepted((code, b""), "DATA")


@pytest.mark.parametrize("code", [501, 550, 552, 553, 554])
def test_final_answers_are_discarded(code: int) -> None:
    """The other 5xx are final, at whichever step."""
    with pytest.raises(Discard, match=f"{code} to MAIL"):
        _expect_accepted((code, b""), "MAIL")


def test_nothing_of_the_payload_is_logged(sink: SmtpSink, caplog: pytest.LogCaptureFixture) -> None:
    """The one log line has the server's answer code and no address and no text."""
    caplog.set_level(logging.DEBUG)
    with capture_logs() as events:
        deliver(payload(), job_id=1, settings=settings_for(sink))
    assert events == [{"event": "email_sent", "log_level": "info", "smtp_code": 250}]
    assert not any(text in caplog.text for text in VALID.values())


def test_job_type_is_declared() -> None:
    """The type has the function's name, and its jobs go to the queue email."""
    assert (send_email.actor_name, send_email.queue_name) == ("send_email", "email")


#: Texts that hold a line break once their encoded words are decoded.
BREAKS = [
    pytest.param("=?utf-8?q?x=0d=0aBcc:_eve@example.com?=", id="quoted"),
    pytest.param("=?utf-8?b?eA0KQmNjOiBldmlsQGV4YW1wbGUuY29t?=", id="base64"),
    pytest.param("=?utf-8?q?x=0a=0aAnother body?=", id="bare line feed"),
    pytest.param("before =?utf-8?q?x=0dBcc:_eve?= after", id="bare carriage return"),
    pytest.param("=?unknown?q?x=0d=0aBcc:_eve?=", id="unknown charset"),
    pytest.param("=?utf-16?b?DQAKAA==?=", id="utf-16"),
    pytest.param("=?utf-7?q?+AA0ACg-Bcc:_eve?=", id="utf-7"),
    pytest.param("=?utf-8?q?x?= =?utf-8?q?=0d=0aBcc:_eve?=", id="second word"),
    pytest.param("=?utf-8?q?" + "x" * 70 + "=0d=0aBcc:_eve?=", id="folded"),
    pytest.param("=?utf-8?q?x=00?=", id="nul"),
]
NESTED = pytest.param("=?utf-8?q?=3D=3Futf-8=3Fq=3Fx=3D0d=3D0aBcc=3A=5Fe=3F=3D?=", id="nested")
HEADERS = [
    "From",
    "To",
    "Subject",
    "Date",
    "Message-ID",
    "Content-Type",
    "Content-Transfer-Encoding",
    "MIME-Version",
]


@pytest.mark.parametrize("subject", [*BREAKS, NESTED])
def test_an_encoded_word_with_a_line_break_is_refused(subject: str) -> None:
    """A subject is looked at as it is after its last decoding, not only as it came."""
    with pytest.raises(ValidationError, match="without control characters"):
        payload(subject=subject)


@pytest.mark.parametrize("subject", BREAKS)
def test_no_header_adds_a_line_on_the_wire(sink: SmtpSink, subject: str) -> None:
    """A subject that came past the validation, as one of an older release, is not sent."""
    stored = EmailPayload.model_construct(to="ada@example.com", subject=subject, body="How are you?")
    with pytest.raises(Discard, match="would begin another line"):
        deliver(stored, job_id=1, settings=settings_for(sink))
    assert not sink.received


def test_an_encoded_word_in_an_address_is_refused() -> None:
    """The header would decode it to another address, or to more lines."""
    with pytest.raises(ValidationError, match="encoded words"):
        payload(to="=?us-ascii?q?x=0d=0aBcc:?=@example.com")


def test_an_encoded_word_that_cannot_be_written_is_refused() -> None:
    """A subject that the header could not be written with is refused at the door, not in every retry."""
    with pytest.raises(ValidationError, match="encoded words"):
        payload(subject="\xa0=??Q?=80?=")


def test_an_encoded_word_without_a_line_break_arrives_decoded(sink: SmtpSink) -> None:
    """Clients that encode their subjects themselves may go on doing so."""
    deliver(payload(subject="=?utf-8?q?Gr=C3=BC=C3=9Fe?="), job_id=1, settings=settings_for(sink))
    assert parsed(sink)["Subject"] == "Grüße"


@hypothesis_settings(max_examples=200)
@given(
    st.lists(
        st.one_of(
            st.text(max_size=30),
            st.binary(max_size=30).map(
                lambda content: f"=?utf-8?q?{''.join(f'={byte:02x}' for byte in content)}?="
            ),
            st.sampled_from(["=?", "?=", "?q?", "?b?", "=0d=0a", " ", "\u00fc"]),
        ),
        max_size=6,
    ).map("".join)
)
def test_whatever_is_accepted_adds_no_header(subject: str) -> None:
    """A subject that the validation lets through leaves the header lines as they were composed."""
    try:
        accepted = payload(subject=subject[:SUBJECT_MAX_LENGTH])
    except ValidationError:
        return
    head, _, body = _on_the_wire(_compose(accepted, 1, "queue@example.com")).partition(b"\r\n\r\n")
    assert email.message_from_bytes(head, policy=email.policy.SMTP).keys() == HEADERS
    assert body.strip() == b"How are you?"
