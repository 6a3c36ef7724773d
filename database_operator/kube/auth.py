"""Where the API server is and how this process shows who it is."""

import asyncio
import base64
import functools
import os
import signal
import ssl
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from lightkube.config.kubeconfig import SingleConfig
    from lightkube.config.models import User, UserExec

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
TOKEN_AGE = 60.0  # seconds; the kubelet rotates a bound token at 80% of its life, client-go re-reads every minute
EXEC_TIMEOUT = 60.0  # seconds

TokenSource = Callable[[], Awaitable[tuple[str, float]]]
"""Gives an Authorization header and the time (``time.monotonic``) until which it may be used."""


class ConfigError(Exception):
    """No way to the API server can be made from what was given; the text is one line for the user."""


class Connection:
    """The server's address, its TLS context and the headers that authenticate."""

    def __init__(self, server: str, make_ssl_context: Callable[[], ssl.SSLContext | None], source: TokenSource | None = None) -> None:
        self.server = server.rstrip("/")
        self._make_ssl_context = make_ssl_context
        self._source = source
        self._headers: dict[str, str] = {}
        self._fresh_until = float("-inf")
        self._lock = asyncio.Lock()

    @functools.cached_property
    def ssl_context(self) -> ssl.SSLContext | None:
        """None for plain http. Made on first use: loading certificates costs time and memory."""
        return self._make_ssl_context()

    async def headers(self) -> dict[str, str]:
        """Headers of one request. Raises ConfigError where a token cannot be had."""
        if self._source is not None and time.monotonic() >= self._fresh_until:
            async with self._lock:
                if time.monotonic() >= self._fresh_until:
                    value, self._fresh_until = await self._source()
                    self._headers = {"Authorization": value}
        return self._headers

    def expire(self) -> None:
        """The server refused the token (401): the next request reads it anew."""
        self._fresh_until = float("-inf")


def load(kubeconfig: str | None = None, context: str | None = None) -> Connection:
    """The connection named by ``kubeconfig``, else the pod's own, else $KUBECONFIG, else ~/.kube/config.

    Raises ConfigError.
    """
    if kubeconfig:
        return from_kubeconfig([kubeconfig], context)
    if os.environ.get("KUBERNETES_SERVICE_HOST") and (SERVICE_ACCOUNT / "token").is_file():
        return in_cluster(SERVICE_ACCOUNT)
    listed = [path for path in os.environ.get("KUBECONFIG", "").split(os.pathsep) if path]
    return from_kubeconfig(listed or ["~/.kube/config"], context)


def in_cluster(account: Path) -> Connection:
    """The connection of a pod, from the folder its service-account volume is mounted at."""
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    address = f"[{host}]" if ":" in host else host
    return Connection(f"https://{address}:{port}", lambda: _trusting(account / "ca.crt"), _token_file(account / "token"))


def _trusting(ca_file: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(ca_file))


def _token_file(path: Path) -> TokenSource:
    def read() -> str:
        try:
            return path.read_text().strip()
        except OSError as error:
            raise ConfigError(f"token file {path}: {error.strerror}") from error

    async def source() -> tuple[str, float]:
        return f"Bearer {read()}", time.monotonic() + TOKEN_AGE

    return source


def _fixed(value: str) -> TokenSource:
    async def source() -> tuple[str, float]:
        return value, float("inf")

    return source


def from_kubeconfig(paths: list[str], context: str | None) -> Connection:
    """The connection of a context (default: the current one) in the first of these files that defines it."""
    # Imported here only: +6 MiB, and a pod in the cluster never needs it.
    import yaml
    from lightkube.config.kubeconfig import KubeConfig
    from lightkube.core.exceptions import ConfigError as KubeConfigError

    files = [path for path in (Path(path).expanduser() for path in paths) if path.is_file()]
    if not files:
        raise ConfigError(f"no kubeconfig: {' nor '.join(paths)} exists; give --kubeconfig or set KUBECONFIG")
    try:
        configs = [KubeConfig.from_file(path) for path in files]
        wanted = context or next((config.current_context for config in configs if config.current_context), None)
        chosen = next((config for config in configs if wanted in config.contexts), configs[0])
        single = chosen.get(wanted)
    except (KubeConfigError, yaml.YAMLError, msgspec.MsgspecError, LookupError, AttributeError, TypeError, ValueError, OSError) as error:
        raise ConfigError(f"kubeconfig {files[0]}: {' '.join(str(error).split())}") from error
    if single is None:
        raise ConfigError(f"kubeconfig {files[0]}: no current context")
    source = _user_source(single.user, single) if single.user else None
    return Connection(single.cluster.server, lambda: _kubeconfig_ssl(single), source)


def _user_source(user: "User", config: "SingleConfig") -> TokenSource | None:
    if user.token_file:
        return _token_file(Path(config.abs_file(user.token_file)))
    if user.token:
        return _fixed(f"Bearer {user.token}")
    if user.exec:
        return _exec_plugin(user.exec)
    if user.username:
        pair = f"{user.username}:{user.password or ''}".encode()
        return _fixed(f"Basic {base64.b64encode(pair).decode()}")
    if user.auth_provider:
        raise ConfigError("kubeconfig: auth-provider left Kubernetes with 1.26; use an exec plugin")
    return None


class _Credential(msgspec.Struct, rename="camel"):
    token: str = ""
    expiration_timestamp: datetime | None = None


class _ExecCredential(msgspec.Struct):
    status: _Credential


def _exec_plugin(plugin: "UserExec") -> TokenSource:
    """A credential plugin of the client.authentication.k8s.io API that answers with a token (client certificates are not supported)."""
    info = msgspec.json.encode({"apiVersion": plugin.apiVersion, "kind": "ExecCredential", "spec": {"interactive": False}}).decode()
    extra = {variable.name: variable.value for variable in plugin.env or ()}

    async def source() -> tuple[str, float]:
        environment = {**os.environ, **extra, "KUBERNETES_EXEC_INFO": info}
        output = await _output([plugin.command, *(plugin.args or ())], environment)
        try:
            answer = msgspec.json.decode(output, type=_ExecCredential).status
        except msgspec.DecodeError as error:
            raise ConfigError(f"credential plugin {plugin.command}: {error}") from error
        if not answer.token:
            raise ConfigError(f"credential plugin {plugin.command}: gave no token")
        left = answer.expiration_timestamp.timestamp() - time.time() - 30 if answer.expiration_timestamp else float("inf")
        return f"Bearer {answer.token}", time.monotonic() + left

    return source


async def _output(argv: list[str], environment: dict[str, str]) -> bytes:
    try:
        process = await asyncio.create_subprocess_exec(
            *argv, env=environment, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, start_new_session=True
        )
    except OSError as error:
        raise ConfigError(f"credential plugin {argv[0]}: {error.strerror}") from error
    try:
        async with asyncio.timeout(EXEC_TIMEOUT):
            output, _ = await process.communicate()
    except TimeoutError as error:
        raise ConfigError(f"credential plugin {argv[0]}: no answer in {EXEC_TIMEOUT:.0f} s") from error
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)  # with its children: they hold the pipe open
            await process.wait()
    if process.returncode:
        raise ConfigError(f"credential plugin {argv[0]}: exit code {process.returncode}")
    return output


def _kubeconfig_ssl(config: "SingleConfig") -> ssl.SSLContext | None:
    cluster, user = config.cluster, config.user
    if cluster.server.startswith("http://"):
        return None
    try:
        if cluster.certificate_auth_data:
            trusted = ssl.create_default_context(cadata=base64.b64decode(cluster.certificate_auth_data).decode())
        else:
            file = str(config.abs_file(cluster.certificate_auth)) if cluster.certificate_auth else None
            trusted = ssl.create_default_context(cafile=file)
        if cluster.insecure:
            trusted.check_hostname = False
            trusted.verify_mode = ssl.CERT_NONE
        if user and (user.client_cert or user.client_cert_data):
            with tempfile.TemporaryDirectory() as folder:  # ssl takes a certificate from a file only
                trusted.load_cert_chain(_pem(config, user, "client_cert", folder), _pem(config, user, "client_key", folder))
    except (OSError, ValueError) as error:
        raise ConfigError(f"kubeconfig: TLS of context {config.context_name}: {error}") from error
    return trusted


def _pem(config: "SingleConfig", user: "User", field: str, folder: str) -> str:
    """Path of a PEM: the user's file, or inline data written into ``folder`` (0700)."""
    data, file = getattr(user, f"{field}_data"), getattr(user, field)
    if not data:
        return str(config.abs_file(file))
    path = Path(folder, field)
    path.write_bytes(base64.b64decode(data))
    return str(path)
