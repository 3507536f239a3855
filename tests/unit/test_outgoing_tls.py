"""TLS of the built-in job types: certificates are verified, against the name that was asked for."""

from __future__ import annotations

import ssl
import subprocess
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr

from goqueue.actors import send_email as send_email_module
from goqueue.actors.outgoing import CallFailedError, HttpCaller, tls_context
from goqueue.actors.send_email import DeliveryError, EmailPayload, deliver
from goqueue.config.settings import Settings
from goqueue.dev.fakes.smtp_sink import SmtpSink
from goqueue.dev.fakes.webhook_receiver import WebhookReceiver

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAIL = EmailPayload(to="ada@example.com", subject="Hello", body="How are you?")
UNTRUSTED = "^the TLS certificate of the server is not trusted or not for its name$"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for localhost and hooks.example.com, with its key, in one file."""
    folder = tmp_path_factory.mktemp("tls")
    names = "subjectAltName=DNS:localhost,DNS:hooks.example.com"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-subj", "/CN=localhost", "-addext", names, "-days", "2"]
    command += ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run(command, check=True, capture_output=True)
    both = folder / "both.pem"
    both.write_text((folder / "key.pem").read_text() + (folder / "cert.pem").read_text())
    return both


@pytest.fixture
def server_tls(certificate: Path) -> ssl.SSLContext:
    """What a server with that certificate needs."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


@pytest.fixture
def trusted(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The certificate is trusted, as an operator would say it: by SSL_CERT_FILE."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    send_email_module._tls.cache_clear()  # noqa: SLF001  (a cache of the process)
    yield
    send_email_module._tls.cache_clear()  # noqa: SLF001  (a cache of the process)


def call(receiver: WebhookReceiver, host: str) -> int:
    """The status of a call to this host name, which resolves to the receiver."""
    caller = HttpCaller(tls_context(), None, lambda _host: ["127.0.0.1"])
    try:
        url = f"https://{host}:{receiver.port}/ok"
        return caller.call("POST", url, headers={}, content=b"{}", timeout_seconds=5).status
    finally:
        caller.close()


def test_untrusted_server_gets_nothing(server_tls: ssl.SSLContext) -> None:
    """A self-signed https receiver is not talked to."""
    with WebhookReceiver(tls=server_tls) as receiver, pytest.raises(CallFailedError, match=UNTRUSTED):
        call(receiver, "hooks.example.com")
    assert receiver.received == 0


@pytest.mark.usefixtures("trusted")
def test_certificate_is_checked_against_the_name_of_the_url(server_tls: ssl.SSLContext) -> None:
    """The name of the URL counts, although the connection goes to a checked address."""
    with WebhookReceiver(tls=server_tls) as receiver:
        assert call(receiver, "hooks.example.com") == 200
        with pytest.raises(CallFailedError, match=UNTRUSTED):
            call(receiver, "other.example.com")
        with pytest.raises(CallFailedError, match=UNTRUSTED):
            call(receiver, "127.0.0.1")
    assert receiver.received == 1


def smtp_settings(sink: SmtpSink, host: str = "localhost") -> Settings:
    """Settings with a login at the sink, under this host name."""
    return Settings(smtp_url=SecretStr(sink.url.replace("127.0.0.1", f"queue:secret@{host}")))


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("implicit", [True, False], ids=["smtps", "starttls"])
def test_mail_goes_over_tls(server_tls: ssl.SSLContext, *, implicit: bool) -> None:
    """Both kinds of TLS carry the login and the message when the certificate is right."""
    with SmtpSink(tls=server_tls, implicit_tls=implicit, login=("queue", "secret")) as sink:
        assert deliver(MAIL, job_id=1, settings=smtp_settings(sink))["smtp_code"] == 250
    assert sink.distinct == 1


@pytest.mark.parametrize("implicit", [True, False], ids=["smtps", "starttls"])
def test_untrusted_mail_server_gets_nothing(server_tls: ssl.SSLContext, *, implicit: bool) -> None:
    """A self-signed mail server sees neither the login nor the message."""
    with (
        SmtpSink(tls=server_tls, implicit_tls=implicit) as sink,
        pytest.raises(DeliveryError, match="SSLCertVerificationError"),
    ):
        deliver(MAIL, job_id=1, settings=smtp_settings(sink))
    assert sink.received == []


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("implicit", [True, False], ids=["smtps", "starttls"])
def test_mail_server_must_have_its_name(server_tls: ssl.SSLContext, *, implicit: bool) -> None:
    """A trusted certificate for another name is refused."""
    with (
        SmtpSink(tls=server_tls, implicit_tls=implicit) as sink,
        pytest.raises(DeliveryError, match="SSLCertVerificationError"),
    ):
        deliver(MAIL, job_id=1, settings=smtp_settings(sink, "127.0.0.1"))
    assert sink.received == []
