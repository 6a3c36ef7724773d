"""Which connection is taken, and what it authenticates with."""

import asyncio
import base64
import json
import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from database_operator.kube import auth


@pytest.fixture(autouse=True)
def nothing_around(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No configuration but what a test makes."""
    for name in "KUBECONFIG", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT":
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(auth, "SERVICE_ACCOUNT", tmp_path / "serviceaccount")
    return tmp_path


def certificate() -> tuple[bytes, bytes]:
    """A self-signed certificate and its key, PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    built = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=1))
    signed = built.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True).sign(key, hashes.SHA256())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return signed.public_bytes(serialization.Encoding.PEM), pem


def kubeconfig(path: Path, user: dict[str, Any] | None = None, server: str = "https://one:6443", **cluster: Any) -> str:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": server, **cluster}}],
        "users": [{"name": "u", "user": user or {}}],
        "contexts": [{"name": "one", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "one",
    }
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(config))
    return str(path)


def headers(connection: auth.Connection) -> dict[str, str]:
    return asyncio.run(connection.headers())


def test_the_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(auth.ConfigError, match=r"no kubeconfig: ~/.kube/config exists"):
        auth.load()
    kubeconfig(tmp_path / ".kube" / "config", server="https://home")
    assert auth.load().server == "https://home"
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path / 'absent'}:{kubeconfig(tmp_path / 'variable', server='https://variable')}")
    assert auth.load().server == "https://variable"
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    assert auth.load().server == "https://variable", "without a token it is no pod's environment"
    auth.SERVICE_ACCOUNT.mkdir()
    (auth.SERVICE_ACCOUNT / "token").write_text("pod")
    assert auth.load().server == "https://10.0.0.1:443"
    assert auth.load(kubeconfig(tmp_path / "explicit", server="https://explicit")).server == "https://explicit"


def test_in_a_pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    (tmp_path / "ca.crt").write_bytes(certificate()[0])
    (tmp_path / "token").write_text("first\n")
    connection = auth.in_cluster(tmp_path)
    assert connection.server == "https://[fd00::1]:443"
    assert connection.ssl_context is not None
    assert connection.ssl_context.verify_mode == ssl.CERT_REQUIRED
    assert len(connection.ssl_context.get_ca_certs()) == 1, "only the cluster's own CA is trusted"

    moment = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: moment)

    async def main() -> None:
        nonlocal moment
        assert await connection.headers() == {"Authorization": "Bearer first"}
        (tmp_path / "token").write_text("second\n")
        moment += 59
        assert await connection.headers() == {"Authorization": "Bearer first"}
        moment += 2
        assert await connection.headers() == {"Authorization": "Bearer second"}
        (tmp_path / "token").write_text("third\n")
        connection.expire()
        assert await connection.headers() == {"Authorization": "Bearer third"}

    asyncio.run(main())


@pytest.mark.parametrize(
    ("user", "wanted"),
    [
        ({}, {}),
        ({"token": "t"}, {"Authorization": "Bearer t"}),
        ({"username": "u", "password": "p:w"}, {"Authorization": f"Basic {base64.b64encode(b'u:p:w').decode()}"}),
        ({"tokenFile": "token", "token": "not this"}, {"Authorization": "Bearer from file"}),
    ],
)
def test_users(tmp_path: Path, user: dict[str, Any], wanted: dict[str, str]) -> None:
    (tmp_path / "token").write_text("from file")
    assert headers(auth.load(kubeconfig(tmp_path / "config", user))) == wanted


@pytest.mark.parametrize("inline", [True, False])
def test_certificates(tmp_path: Path, inline: bool) -> None:
    cert, key = certificate()
    (tmp_path / "cert.pem").write_bytes(cert)
    (tmp_path / "key.pem").write_bytes(key)

    def given(field: str, content: bytes, file: str) -> dict[str, str]:
        return {f"{field}-data": base64.b64encode(content).decode()} if inline else {field: file}

    user = {**given("client-certificate", cert, "cert.pem"), **given("client-key", key, "key.pem")}
    connection = auth.load(kubeconfig(tmp_path / "config", user, **given("certificate-authority", cert, "cert.pem")))
    assert connection.ssl_context is not None
    assert len(connection.ssl_context.get_ca_certs()) == 1
    assert connection.ssl_context.check_hostname


def test_insecure_and_plain(tmp_path: Path) -> None:
    insecure: dict[str, Any] = {"insecure-skip-tls-verify": True}
    connection = auth.load(kubeconfig(tmp_path / "config", {}, **insecure))
    assert connection.ssl_context is not None and connection.ssl_context.verify_mode == ssl.CERT_NONE
    assert auth.load(kubeconfig(tmp_path / "config", server="http://localhost:8080/")).ssl_context is None


def plugin(path: Path, body: str, version: str = "client.authentication.k8s.io/v1") -> dict[str, Any]:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(stat.S_IRWXU)
    return {"exec": {"apiVersion": version, "command": str(path), "args": ["a b"], "env": [{"name": "GREETING", "value": "hi"}]}}


def test_a_credential_plugin_is_run_once_until_its_token_expires(tmp_path: Path) -> None:
    count = tmp_path / "count"
    answer = '{"kind":"ExecCredential","status":{"token":"%s","expirationTimestamp":"%s"}}'
    body = f'echo "$1 $GREETING" >>{count}; test -n "$KUBERNETES_EXEC_INFO" && echo \'{answer}\''
    later = auth.load(kubeconfig(tmp_path / "config", plugin(tmp_path / "plugin", body % ("t", "2999-01-01T00:00:00Z"))))
    expired = auth.load(kubeconfig(tmp_path / "config", plugin(tmp_path / "plugin2", body % ("t", "2001-01-01T00:00:00Z"))))

    async def main() -> None:
        for _ in range(3):
            results = await asyncio.gather(*(later.headers() for _ in range(5)))
            assert all(result == {"Authorization": "Bearer t"} for result in results)
        assert count.read_text() == "a b hi\n"
        for _ in range(3):
            assert await expired.headers() == {"Authorization": "Bearer t"}
        assert count.read_text() == "a b hi\n" * 4

    asyncio.run(main())


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("echo secret-token; exit 3", "exit code 3"),
        ("echo not json", "malformed"),
        ("""echo '{"status":{"clientCertificateData":"x"}}'""", "no token"),
        ("sleep 60", "no answer in"),
    ],
)
def test_a_credential_plugin_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, message: str) -> None:
    monkeypatch.setattr(auth, "EXEC_TIMEOUT", 0.3)
    connection = auth.load(kubeconfig(tmp_path / "config", plugin(tmp_path / "plugin", body)))
    with pytest.raises(auth.ConfigError, match=message) as caught:
        headers(connection)
    assert "secret-token" not in str(caught.value)


def test_errors_are_one_line_that_names_the_cause(tmp_path: Path) -> None:
    absent = auth.load(kubeconfig(tmp_path / "config", {"exec": {"apiVersion": "v1", "command": str(tmp_path / "absent")}}))
    with pytest.raises(auth.ConfigError, match="No such file"):
        headers(absent)
    (tmp_path / "broken").write_text("{}: [")
    (tmp_path / "empty").write_text("")
    (tmp_path / "wrong").write_text("clusters: [{name: c, cluster: 7}]\ncontexts: []\n")
    (tmp_path / "partial").write_text("clusters: []\ncontexts: []\n")
    cases = {
        str(tmp_path / "nowhere"): "nowhere exists",
        str(tmp_path / "broken"): "broken",
        str(tmp_path / "empty"): "empty",
        str(tmp_path / "wrong"): "Expected",
        str(tmp_path / "partial"): "current context",
        kubeconfig(tmp_path / "provider", {"auth-provider": {"name": "gcp"}}): "auth-provider",
    }
    for path, message in cases.items():
        with pytest.raises(auth.ConfigError, match=message) as caught:
            auth.load(path)
        assert "\n" not in str(caught.value)
    with pytest.raises(auth.ConfigError, match="'other' not found"):
        auth.load(kubeconfig(tmp_path / "config"), "other")
    no_ca = auth.load(kubeconfig(tmp_path / "config", {}, **{"certificate-authority": "absent.crt"}))
    with pytest.raises(auth.ConfigError, match="TLS of context one"):
        _ = no_ca.ssl_context
