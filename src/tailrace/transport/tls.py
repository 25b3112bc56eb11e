"""TLS: the context that `verify` and `cert` mean, and what to say when it fails."""

from __future__ import annotations

import functools
import os
import re
import ssl
import sys
from pathlib import Path
from typing import Any

from tailrace import errors

__all__ = ["context_of", "default_context", "tls_error"]

_VERIFY = "verify is True, False, the path of a certificate's file or folder, or an ssl.SSLContext"
_CERT = "cert is the path of a certificate with its key, (certificate, key) or (certificate, key, password)"
_HASHED = re.compile(r"[0-9a-f]{8}\.r?\d+")  # the names by which OpenSSL finds certificates in a folder


def context_of(verify: Any, cert: Any, trust_env: bool) -> bool | ssl.SSLContext:
    """Returns what `verify` and `cert` mean; a bool if that is one of the `default_context` kinds.

    Raises:
        RequestError: they are none of their forms, or a file is missing or no certificate.
    """
    if isinstance(verify, ssl.SSLContext):
        context = verify
    elif isinstance(verify, (str, os.PathLike)):
        context = _trusting(Path(verify))
    elif not isinstance(verify, bool):
        raise errors.RequestError(f"{_VERIFY}, not {verify!r}")
    elif cert is None:
        return verify
    else:
        context = _made(verify, trust_env, *_environment())
    if cert is not None:
        _load(context, cert)
    return context


def _trusting(path: Path) -> ssl.SSLContext:
    """Returns a context that trusts the certificates of a file or a folder, and no others."""
    path = path.expanduser()
    try:
        if path.is_dir():
            if not any(_HASHED.fullmatch(entry.name) for entry in path.iterdir()):
                raise errors.RequestError(
                    f"verify: there is no certificate in {path} by the names that OpenSSL looks for",
                    hint="name a file, or run `openssl rehash` on the folder",
                )
            return _by_any_link(ssl.create_default_context(capath=path))
        return _by_any_link(ssl.create_default_context(cafile=path))
    except ssl.SSLError as error:
        raise errors.RequestError(f"verify: {path} is no certificate in PEM form ({error.reason})") from error
    except OSError as error:
        raise errors.RequestError(f"verify: cannot read {path} ({error.strerror})", hint=_VERIFY) from error


def _by_any_link(context: ssl.SSLContext) -> ssl.SSLContext:
    """Lets a trusted certificate vouch for itself, whoever signed it; from Python 3.13 on that is the default."""
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def _load(context: ssl.SSLContext, cert: Any) -> None:
    """Has the context show a certificate of ours."""
    parts = (cert,) if isinstance(cert, (str, os.PathLike)) else cert
    if not isinstance(parts, (tuple, list)) or not 1 <= len(parts) <= 3:
        raise errors.RequestError(f"{_CERT}, not {type(cert).__name__}")
    paths = [part for part in parts[:2] if part is not None]
    if not all(isinstance(path, (str, os.PathLike)) for path in paths) or not paths:
        raise errors.RequestError(_CERT)
    for path in paths:
        if not Path(path).expanduser().is_file():
            raise errors.RequestError(f"cert: there is no file {os.fspath(path)}", hint=_CERT)
    password = parts[2] if len(parts) == 3 and parts[2] is not None else ""  # without one OpenSSL asks on the terminal
    try:
        certificate, key = (*(Path(path).expanduser() for path in paths), None)[:2]
        assert certificate is not None
        context.load_cert_chain(certificate, key, password)
    except (OSError, TypeError, ValueError) as error:  # an SSLError is an OSError
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error) or "of no known form"
        raise errors.RequestError(
            f"cert: {', '.join(map(os.fspath, paths))} cannot be used ({reason})",
            hint="it is a certificate and its key in PEM form; a key with a password is (certificate, key, password)",
        ) from error


def default_context(verify: bool, trust_env: bool) -> ssl.SSLContext:
    """Returns the context that checks against what this computer trusts, or checks nothing.

    Args:
        verify: check.
        trust_env: have SSL_CERT_FILE and SSL_CERT_DIR say what to trust instead, as OpenSSL does.
    """
    return _kept(verify, trust_env, *_environment())


def _environment() -> tuple[str, str]:
    return os.environ.get("SSL_CERT_FILE", ""), os.environ.get("SSL_CERT_DIR", "")


def _made(verify: bool, trust_env: bool, file: str, folder: str) -> ssl.SSLContext:
    if verify and not trust_env and (file or folder) and sys.platform != "win32":
        paths = ssl.get_default_verify_paths()
        file, folder = (
            place if place and Path(place).exists() else "" for place in (paths.openssl_cafile, paths.openssl_capath)
        )
        if file or folder:
            return _by_any_link(ssl.create_default_context(cafile=file or None, capath=folder or None))
    context = _by_any_link(ssl.create_default_context())
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


_kept = functools.lru_cache(8)(_made)  # it reads all the certificates that this computer trusts


# What OpenSSL's numbers of failed checks mean: x509_vfy.h, X509_V_ERR_….
_TIME = {9, 10}
_NAME = {62, 63, 64}


def tls_error(error: OSError, name: str) -> errors.ConnectionError:
    """Returns the error for a failure of TLS.

    Args:
        error: what Python says; mostly an `ssl.SSLError`.
        name: the server, as an error names it.
    """
    about, hint = _advice(error)
    made = errors.ConnectionError(f"TLS with {name} failed: {error}", hint=hint)
    made.about = about
    return made


def _advice(error: OSError) -> tuple[str, str]:
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in _NAME:
            return "certificate-name", "write the name that the certificate is for into the address, or trust another"
        if error.verify_code in _TIME:
            return "certificate-time", "have the server's certificate renewed, and check this computer's clock"
        missing = os.environ.get("SSL_CERT_FILE", "")
        if missing and not Path(missing).exists():
            return "certificate", f"SSL_CERT_FILE names {missing}, which is not there"
        return "certificate", (
            "trust its certificate with verify='FILE.pem' or SSL_CERT_FILE=FILE.pem; verify=False checks none"
        )
    reason = str(getattr(error, "reason", "") or "")
    if "CERTIFICATE_REQUIRED" in reason or ("ALERT" in reason and ("CERTIFICATE" in reason or "_CA" in reason)):
        return "client-certificate", "the server wants to see a certificate of yours: cert=(CERTIFICATE, KEY)"
    return "tls", (
        "check http:// against https://; a certificate that is not known is trusted with verify='FILE.pem', "
        "and one of yours is shown with cert=(CERTIFICATE, KEY)"
    )
