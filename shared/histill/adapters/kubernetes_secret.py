"""One Secret of Kubernetes, read and added to over the API server's own HTTPS.

With the service account of the pod. Two requests do not need a client of tens of megabytes.
Source: https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

import urllib3
from urllib3.exceptions import HTTPError
from urllib3.exceptions import SSLError as TlsError
from urllib3.util import create_urllib3_context

from histill.core.errors import (
    FailedPreconditionError,
    HistillError,
    NotFoundError,
    PermissionDeniedError,
    SettingsError,
    UnauthenticatedError,
    UnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_TIMEOUT_S = 10.0
# Of a bearer token. Source: https://www.rfc-editor.org/rfc/rfc6750#section-2.1.
_TOKEN = re.compile(rb"[A-Za-z0-9._~+/-]+=*")
_OK, _CONFLICT, _BUSY, _FAILED = 200, 409, 429, 500
_NO_POD = (
    "is not there, so this is no pod with a service account; run it in the cluster, with "
    "automountServiceAccountToken: true"
)


@dataclass(frozen=True)
class Found:
    """What a Secret holds.

    Attributes:
        values: By key.
        version: Changes with every change of the Secret.
    """

    values: dict[str, bytes]
    version: str


@dataclass(frozen=True)
class KubernetesSecret:
    """A Secret by its name.

    Attributes:
        server: ``https://host:port`` of the API server.
        name: Of the Secret.
        namespace: Where it lies.
        account: Folder with ``token`` and ``ca.crt``.
    """

    server: str
    name: str
    namespace: str
    account: Path

    @classmethod
    def of_pod(cls, name: str, *, namespace: str = "", account: Path = ACCOUNT) -> Self:
        """A Secret of the cluster that this process runs in.

        Args:
            name: Of the Secret.
            namespace: Empty: the pod's own.
            account: Folder of its service account.

        Raises:
            SettingsError: This is no pod, or one without a service account.
        """
        host = os.environ.get("KUBERNETES_SERVICE_HOST", "")
        port = os.environ.get("KUBERNETES_SERVICE_PORT", "443")
        if not host:
            raise SettingsError(f"KUBERNETES_SERVICE_HOST {_NO_POD}")
        where = f"[{host}]" if ":" in host else host
        space = namespace or _read(account / "namespace").decode(errors="replace").strip()
        return cls(f"https://{where}:{port}", name, space, account)

    def read(self) -> Found:
        """What it holds now.

        Raises:
            NotFoundError: There is none of that name.
            HistillError: As ``write``.
        """
        secret = self._asked("get", "GET")
        try:
            values = {
                key: base64.b64decode(value, validate=True)
                for key, value in (secret.get("data") or {}).items()
            }
            return Found(values, str(secret["metadata"]["resourceVersion"]))
        except (binascii.Error, AttributeError, KeyError, TypeError, ValueError):
            raise UnavailableError(f"what {self.server} answers is no Secret") from None

    def write(self, values: Mapping[str, str], *, version: str) -> bool:
        """Writes some keys, and leaves the others.

        Args:
            values: By key.
            version: That they were worked out from.

        Returns:
            Whether they were written: not when the Secret has changed since that version.

        Raises:
            NotFoundError: There is none of that name.
            PermissionDeniedError: The service account may not; says which rule it lacks.
            UnauthenticatedError: Its token is not taken.
            FailedPreconditionError: The Secret takes no change.
            UnavailableError: The API server does not answer now.
            SettingsError: Files of the account are missing or hold something else, or the server
                shows a certificate that is not of the cluster's authority.
        """
        coded = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
        # With a version in it the server refuses what was worked out from an older one.
        patch = {"metadata": {"resourceVersion": version}, "data": coded}
        return self._asked("patch", "PATCH", json.dumps(patch).encode()) != {}

    def _asked(self, verb: str, method: str, body: bytes | None = None) -> dict[str, Any]:
        """The server's answer; empty on a conflict."""
        # Read each time: the kubelet replaces it before it expires.
        token = _token(self.account / "token")
        headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/merge-patch+json"
        path = f"namespaces/{quote(self.namespace, safe='')}/secrets/{quote(self.name, safe='')}"
        trust = _trust(self.account / "ca.crt")
        try:
            with urllib3.PoolManager(ssl_context=trust, timeout=_TIMEOUT_S, retries=False) as pool:
                answer = pool.request(
                    method, f"{self.server}/api/v1/{path}", body=body, headers=headers
                )
                status, data = answer.status, answer.data
        except TlsError as exc:
            raise self._untrusted(exc) from exc
        except (HTTPError, OSError) as exc:
            raise UnavailableError(
                f"the API server {self.server} does not answer ({type(exc).__name__})"
            ) from exc
        if status == _CONFLICT:
            return {}
        if status != _OK:
            raise self._refusal(status, verb)
        try:
            found = json.loads(data)
        except ValueError:
            found = None
        if not isinstance(found, dict) or not found:
            raise UnavailableError(f"what {self.server} answers is no Secret")
        return found

    def _untrusted(self, exc: TlsError) -> HistillError:
        why = exc.args[0] if exc.args else exc
        if not isinstance(why, ssl.SSLCertVerificationError):
            # Of a server that is just starting or stopping, say.
            return UnavailableError(f"the API server {self.server} ends the TLS handshake")
        return SettingsError(
            f"the certificate of {self.server} does not hold ({why.verify_message}); "
            f"{self.account / 'ca.crt'} must be the authority of this cluster's API server"
        )

    def _refusal(self, status: int, verb: str) -> HistillError:
        # The server's own words are left out: they may repeat what was sent.
        match status:
            case 401:
                return UnauthenticatedError(
                    f"the API server {self.server} does not take the token in "
                    f"{self.account / 'token'}; it is of another cluster, or has expired"
                )
            case 403:
                return PermissionDeniedError(
                    f"this service account may not {verb} the Secret {self.name} in "
                    f"{self.namespace}; its Role there needs a rule with apiGroups: [''], "
                    f"resources: [secrets], resourceNames: [{self.name}], verbs: [get, patch]"
                )
            case 404:
                return NotFoundError(
                    f"there is no Secret {self.name} in {self.namespace}; make an empty one: "
                    f"kubectl -n {self.namespace} create secret generic {self.name}"
                )
            case 422:
                return FailedPreconditionError(
                    f"the Secret {self.name} in {self.namespace} takes no such change; "
                    "is it immutable? then make another without immutable: true"
                )
            case _ if status == _BUSY or status >= _FAILED:
                return UnavailableError(f"the API server {self.server} answers with {status}")
            case _:
                return FailedPreconditionError(
                    f"the API server {self.server} refuses to {verb} the Secret {self.name} "
                    f"in {self.namespace} with {status}; its log says why"
                )


def _token(path: Path) -> str:
    token = _read(path).strip()
    # HTTP clients put a header that they cannot send into the error that they raise.
    if not _TOKEN.fullmatch(token):
        raise SettingsError(
            f"{path} holds no token: characters of it are none that a token has, or it is empty; "
            "it must be as the kubelet writes it"
        )
    return token.decode()


def _trust(path: Path) -> ssl.SSLContext:
    context = create_urllib3_context(cert_reqs=ssl.CERT_REQUIRED)
    _read(path)
    try:
        context.load_verify_locations(os.fspath(path))
    except ssl.SSLError:
        raise SettingsError(
            f"{path} holds no certificate in PEM; it must be the authority of this cluster's API "
            "server, as the kubelet writes it"
        ) from None
    return context


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise SettingsError(f"{path} {_NO_POD} ({exc.strerror})") from None
