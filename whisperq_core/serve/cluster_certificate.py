"""The one certificate that all processes of a Dask cluster share, and how Dask is told of it.

Whoever holds its private key may connect, so there is no certificate authority to run. It is built
with cryptography: trustme, which would take less code, is made for tests and fixes the validity of
its self-signed certificates to the years 2000 to 3000, so a machine that boots with its clock at
1970 could not connect.
"""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from whisperq_core.errors import ClusterError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.x509 import Certificate
    from distributed import Security

CERTIFICATE_FILE, KEY_FILE = "cluster.pem", "cluster.key"
_ROLES = ("scheduler", "worker", "client")
# The whole range that X.509 can express: a clock may be wrong, and the key is what protects.
_NOT_BEFORE = datetime(1970, 1, 1, tzinfo=UTC)
_NOT_AFTER = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)


def create_certificate(folder: Path) -> None:
    """Write a new certificate and its private key (mode 0600) to a folder.

    Raises ClusterError if the folder has a key, because replacing it would lock the other machines
    out, and if the folder cannot be written.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    if (folder / KEY_FILE).exists():
        raise ClusterError(f"{folder} already has a key. Delete it, or choose another folder.")
    private_key = ec.generate_private_key(ec.SECP256R1())
    key_pem = private_key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    certificate_pem = _self_signed(private_key).public_bytes(serialization.Encoding.PEM)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / KEY_FILE, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(key_pem)
        (folder / CERTIFICATE_FILE).write_bytes(certificate_pem)
    except OSError as error:
        raise ClusterError(f"{folder} cannot be written ({error.strerror}).") from error


def _self_signed(private_key: "EllipticCurvePrivateKey") -> "Certificate":
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import NameOID

    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "whisperq")])
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private_key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_NOT_BEFORE)
        .not_valid_after(_NOT_AFTER)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(private_key, hashes.SHA256())
    )


def tls_security(folder: Path) -> "Security":
    """Dask's security settings for the certificate in a folder; unencrypted connections fail.

    Raises ClusterError where the certificate or its key is missing or unreadable.
    """
    from distributed import Security

    certificate, key = str(folder / CERTIFICATE_FILE), str(folder / KEY_FILE)
    if not all(os.access(path, os.R_OK) for path in (certificate, key)):
        raise ClusterError(
            f"{folder} has no readable {CERTIFICATE_FILE} and {KEY_FILE}. Create them with"
            " `python -m whisperq_core certificate FOLDER`, once for all machines."
        )
    files = {f"tls_{role}_cert": certificate for role in _ROLES}
    files |= {f"tls_{role}_key": key for role in _ROLES}
    return Security(tls_ca_file=certificate, require_encryption=True, **files)


def tls_environment(folder: Path) -> dict[str, str]:
    """The same settings as environment variables, for schedulers and workers started by command."""
    prefix = "DASK_DISTRIBUTED__COMM__"
    variables = {
        f"{prefix}REQUIRE_ENCRYPTION": "True",
        f"{prefix}TLS__CA_FILE": str(folder / CERTIFICATE_FILE),
    }
    for role in _ROLES:
        variables[f"{prefix}TLS__{role.upper()}__CERT"] = str(folder / CERTIFICATE_FILE)
        variables[f"{prefix}TLS__{role.upper()}__KEY"] = str(folder / KEY_FILE)
    return variables
