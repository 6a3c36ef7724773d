"""Keys, certificates, tokens and kubeconfigs of one cluster. Everything secret is 0600 in a 0700 folder."""

import base64
import datetime
import ipaddress
import secrets
from collections.abc import Iterable
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from localcluster.host import write_atomically

VALID = datetime.timedelta(days=3650)
# user -> its name in the API server's audit log; all are of system:masters, as all of them run as root on the same machine
USERS = {
    "admin": "admin",
    "controller-manager": "system:kube-controller-manager",
    "scheduler": "system:kube-scheduler",
    "kubelet": "system:node:node1",
    "kube-proxy": "system:kube-proxy",
    "coredns": "system:coredns",
    "provisioner": "system:volume-provisioner",
}


def create(folder: Path, server: str, addresses: Iterable[str]) -> None:
    """Fills `folder` with ca.crt, apiserver.*, kubelet.*, kubelet-client.*, sa.*, tokens.csv and <user>.kubeconfig.

    `server` is the API server's URL, `addresses` the IP addresses its certificate and the kubelet's are good for.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localcluster")])
    ca = _certificate(
        ca_name, ca_name, ca_key.public_key(), ca_key, [(x509.BasicConstraints(ca=True, path_length=None), True), (_usage(ca=True), True)]
    )
    _write_certificate(folder / "ca.crt", ca)
    names = ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local", "node1"]
    san = x509.SubjectAlternativeName([*(x509.DNSName(n) for n in names), *(x509.IPAddress(ipaddress.ip_address(a)) for a in addresses)])
    for file, common_name, organization in (
        ("apiserver", "kube-apiserver", ""),
        ("kubelet", "system:node:node1", "system:nodes"),
        ("kubelet-client", "kube-apiserver-kubelet-client", "system:masters"),
    ):
        key = ec.generate_private_key(ec.SECP256R1())
        subject = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
        if organization:
            subject.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
        purposes = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
        extensions: list[tuple[x509.ExtensionType, bool]] = [
            (san, False),
            (purposes, False),
            (_usage(ca=False), True),
            (x509.BasicConstraints(ca=False, path_length=None), True),
        ]
        _write_certificate(folder / f"{file}.crt", _certificate(x509.Name(subject), ca_name, key.public_key(), ca_key, extensions))
        _write_key(folder / f"{file}.key", key)
    accounts = ec.generate_private_key(ec.SECP256R1())
    _write_key(folder / "sa.key", accounts)
    public = accounts.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    write_atomically(folder / "sa.pub", public)
    _tokens(folder, server)


def _tokens(folder: Path, server: str) -> None:
    rows = []
    for user, name in USERS.items():
        token = secrets.token_hex(24)
        rows.append(f'{token},{name},{user},"system:masters"\n')
        write_atomically(folder / f"{user}.kubeconfig", kubeconfig(server, folder / "ca.crt", token).encode())
    write_atomically(folder / "tokens.csv", "".join(rows).encode())


def admin_token(folder: Path) -> str:
    """The administrator's token."""
    return (folder / "tokens.csv").read_text().split(",", 1)[0]


def kubeconfig(server: str, ca: Path, token: str) -> str:
    """A kubeconfig that holds all it needs, so that it works from anywhere on this machine."""
    authority = base64.b64encode(ca.read_bytes()).decode()
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "local", "cluster": {"server": server, "certificate-authority-data": authority}}],
        "users": [{"name": "local", "user": {"token": token}}],
        "contexts": [{"name": "local", "context": {"cluster": "local", "user": "local"}}],
        "current-context": "local",
    }
    return yaml.safe_dump(config, sort_keys=False)


def _certificate(
    subject: x509.Name,
    issuer: x509.Name,
    public: ec.EllipticCurvePublicKey,
    signer: ec.EllipticCurvePrivateKey,
    extensions: Iterable[tuple[x509.ExtensionType, bool]],
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(issuer, subject, public, x509.random_serial_number(), now - datetime.timedelta(hours=1), now + VALID)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    # both key identifiers: OpenSSL's strict mode, the default from Python 3.13 on, asks for them
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    return builder.sign(signer, hashes.SHA256())


def _usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=ca,
        crl_sign=ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _write_certificate(file: Path, certificate: x509.Certificate) -> None:
    write_atomically(file, certificate.public_bytes(serialization.Encoding.PEM))


def _write_key(file: Path, key: ec.EllipticCurvePrivateKey) -> None:
    content = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    write_atomically(file, content)
