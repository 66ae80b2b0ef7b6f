"""Pulling over HTTPS, from a server whose certificate this machine trusts, or does not."""

import datetime
import ipaddress
import ssl
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from published import served

from gsvexport.errors import EnvironmentProblem
from gsvexport.registry import places
from gsvexport.registry.index import published
from gsvexport.registry.places import WebPlace
from gsvexport.registry.publish import publish
from gsvexport.registry.pull import pull


def certificate(folder, days):
    """A key and a certificate of 127.0.0.1 that is valid from `days` ago on, for ten days: one file."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.timezone.utc)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    begin = now - datetime.timedelta(days=days)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + datetime.timedelta(days=10))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = folder / f"{days}.pem"
    path.write_bytes(secret + made.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.fixture
def secure(place, root, alice, tmp_path):
    """A call that serves the repository with a certificate of so many days."""
    publish([alice], place)

    def serve(days):
        path = certificate(tmp_path, days)
        trust = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        trust.load_cert_chain(path)
        return served(root, trust), path

    return serve


def test_a_pull_reads_the_certificates_of_this_machine_once(secure, key, tmp_path, monkeypatch):
    running, path = secure(1)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    read, real = [], ssl.create_default_context
    monkeypatch.setattr(places.ssl, "create_default_context", lambda: read.append(1) or real())
    with running as web:
        there = WebPlace(web.url)
        [item] = published(there)
        pull(there, item, tmp_path / "out.gsv", (key,))
        assert len(web.requests) > 3
    assert len(read) == 1


@pytest.mark.parametrize(("days", "trusted", "words"), [(1, False, "self-signed"), (20, True, "expired")])
def test_a_certificate_that_is_not_trusted_is_told_at_once(secure, monkeypatch, days, trusted, words):
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail(f"waited {seconds} s"))
    running, path = secure(days)
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(path))
    with running as web, pytest.raises(EnvironmentProblem, match=words) as error:
        published(WebPlace(web.url))
    assert "clock" in error.value.fix
