"""What makes a set of nodes one cluster: its CA, the nodes' certificate, the list of first masters, the operator's own login.

Random by nature; made once, when ``<name>-internal`` is, and kept with the data.
"""

import datetime
import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING

from database_operator.api.database import Resolved
from database_operator.build import names

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

YEARS = 10
OPERATOR_PASSWORD = "operator-password"  # noqa: S105  the name of a key
FIRST_MASTERS = "initial-master-nodes"


def internal(database: Resolved, existing: Mapping[str, str]) -> dict[str, str]:
    """The keys of ``<name>-internal`` that are not there yet. A CA is only made where there is none, and with it a certificate."""
    made: dict[str, str] = {}
    if not existing.get(OPERATOR_PASSWORD):
        made[OPERATOR_PASSWORD] = secrets.token_urlsafe(32)
    if not existing.get(FIRST_MASTERS):
        made[FIRST_MASTERS] = ",".join(first_masters(database))
    if not all(existing.get(key) for key in ("ca.crt", "ca.key", "node.crt", "node.key")):
        made |= certificates(database)
    return made


def first_masters(database: Resolved) -> list[str]:
    """The nodes whose majority forms the cluster. Fixed from then on: another list could form another cluster."""
    return [f"{names.workload(database.name)}-{ordinal}" for ordinal in range(max(1, database.spec.replicas))]


def _names(database: Resolved) -> list[str]:
    members = f"*.{names.members_service(database.name)}.{database.namespace}"
    service = f"{names.service(database.name)}.{database.namespace}"
    return ["localhost", names.service(database.name), service, f"{service}.svc", members, f"{members}.svc"]


def _certificate(
    subject: str, issuer: "x509.Name | None", key: "EllipticCurvePrivateKey", signer: "EllipticCurvePrivateKey", alternatives: list[str]
) -> "x509.Certificate":
    """Signed by ``signer``; a CA where ``issuer`` is None. Valid from an hour ago: clocks differ."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject[:64])])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer or name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=365 * YEARS))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=0 if issuer is None else None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    if issuer is None:
        usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
        builder = builder.add_extension(usage, critical=True)
    else:
        both = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
        builder = builder.add_extension(both, critical=False)
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(one) for one in alternatives]), critical=False)
    return builder.sign(signer, hashes.SHA256())


def certificates(database: Resolved) -> dict[str, str]:
    """``ca.crt ca.key node.crt node.key`` as PEM, ECDSA on P-256. One certificate serves all nodes, which meet by the CA."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    def private(key: ec.EllipticCurvePrivateKey) -> str:
        encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        return key.private_bytes(encoding, form, serialization.NoEncryption()).decode()

    authority_key, node_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority = _certificate(f"{database.namespace}/{database.name}", None, authority_key, authority_key, [])
    node = _certificate("node", authority.subject, node_key, authority_key, _names(database))
    return {
        "ca.crt": authority.public_bytes(serialization.Encoding.PEM).decode(),
        "ca.key": private(authority_key),
        "node.crt": node.public_bytes(serialization.Encoding.PEM).decode(),
        "node.key": private(node_key),
    }
