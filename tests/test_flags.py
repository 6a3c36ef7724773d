"""The command line: every flag in its forms, its default, and what a bad value says."""

from typing import Any

import pytest

from database_operator import config
from database_operator.config import Config

ENVIRONMENT = {"POD_NAMESPACE": "here", "AGENT_IMAGE": "registry.example/agent:1"}

# flag -> (argument, what it becomes, default), by the field of Config
FLAGS: dict[str, tuple[str, str, Any, Any]] = {
    "flag.--kubeconfig": ("kubeconfig", "/k", "/k", None),
    "flag.--context": ("context", "kind", "kind", None),
    "flag.--namespace": ("namespaces", "shop", ("shop",), ()),
    "flag.--metrics-bind-address": ("metrics_address", "127.0.0.1:9", ("127.0.0.1", 9), ("", 8080)),
    "flag.--health-probe-bind-address": ("health_address", "0", None, ("", 8081)),
    "flag.--leader-elect": ("leader_elect", "true", True, False),
    "flag.--leader-election-id": ("leader_election_id", "mine", "mine", "database-operator"),
    "flag.--leader-election-namespace": ("leader_election_namespace", "there", "there", "here"),
    "flag.--max-concurrent-reconciles": ("max_concurrent_reconciles", "8", 8, 1),
    "flag.--resync-period": ("resync_seconds", "1h30m", 5400.0, 300.0),
    "flag.--agent-image": ("agent_image", "registry.example/a:2", "registry.example/a:2", "registry.example/agent:1"),
    "flag.--image-registry": ("image_registry", "registry.example/mirror", "registry.example/mirror", ""),
    "flag.--cluster-domain": ("cluster_domain", "example.internal", "example.internal", "cluster.local"),
    "flag.--log-level": ("log_level", "debug", "debug", "info"),
}
TAKEN = [  # of the first version, and without an effect here
    "flag.--metrics-secure",
    "flag.--zap-devel",
    "flag.--zap-log-level",
    "flag.--zap-encoder",
    "flag.--zap-stacktrace-level",
    "flag.--zap-time-encoding",
    "flag.--enable-http2",
    "flag.--webhook-cert-path",
    "flag.--webhook-cert-name",
    "flag.--webhook-cert-key",
    "flag.--metrics-cert-path",
    "flag.--metrics-cert-name",
    "flag.--metrics-cert-key",
]


def parsed(*flags: str) -> Config:
    return config.parse(["run", *flags], ENVIRONMENT)


@pytest.mark.proves(*FLAGS)
@pytest.mark.parametrize("flag", FLAGS)
def test_a_flag_and_its_default(flag: str) -> None:
    field, argument, wanted, default = FLAGS[flag]
    name = flag.removeprefix("flag.")
    assert getattr(parsed(), field) == default
    assert getattr(parsed(f"{name}={argument}"), field) == wanted
    assert getattr(parsed(name, argument), field) == wanted


@pytest.mark.proves(*TAKEN)
@pytest.mark.parametrize("flag", TAKEN)
def test_flags_of_the_first_version_are_taken(flag: str) -> None:
    name = flag.removeprefix("flag.")
    for form in ([name], [f"{name}=true"], [f"{name}=false"]):
        assert parsed(*form).resync_seconds == parsed().resync_seconds


def test_a_switch_is_taken_bare_and_in_gos_forms() -> None:
    for on in ([], ["=true"], ["=True"], ["=t"], ["=1"]):
        assert parsed(f"--leader-elect{''.join(on)}").leader_elect is True
    for off in ("false", "F", "0"):
        assert parsed(f"--leader-elect={off}").leader_elect is False


def test_namespaces_add_up() -> None:
    assert parsed("--namespace", "a", "--namespace=b", "--namespace=a").namespaces == ("a", "b")


@pytest.mark.parametrize(
    "flags",
    [
        ["--no-such-flag"],
        ["--namespac", "shop"],  # not even as an abbreviation
        ["--resync-period=5"],
        ["--resync-period=10ms"],
        ["--max-concurrent-reconciles=0"],
        ["--metrics-bind-address=8080"],
        ["--health-probe-bind-address=:70000"],
        ["--leader-elect=maybe"],
        ["--log-level=loud"],
        ["--kubeconfig"],
    ],
    ids=" ".join,
)
def test_what_is_wrong_is_said_in_one_line(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        parsed(*flags)
    assert left.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("database-operator: ")
