"""The parts that need no cluster."""

import ipaddress
import os
import platform
import signal
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import msgspec
import pytest

from localcluster import ClusterError, binaries, golang, host, image_store, paths, pki, provisioner
from localcluster.archive import write_image
from localcluster.components import PROVISIONER
from localcluster.control_plane import check_name
from localcluster.node import Subnets
from localcluster.processes import Processes, Record, recorded
from localcluster.progress import Progress

QUIET = Progress(quiet=True)


@pytest.mark.parametrize("name", ["local", "a", "a-b-2", "x" * 32])
def test_names_that_can_name_a_cluster(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a/b", "..", "x" * 33, "a b"])
def test_names_that_cannot(name: str) -> None:
    with pytest.raises(ClusterError, match="cannot name a cluster"):
        check_name(name)


def test_a_subnet_is_divided_without_overlap() -> None:
    subnets = Subnets("10.99.0.0/16")
    assert (subnets.pods, subnets.services, subnets.machine, subnets.node, subnets.link) == (
        "10.99.0.0/18",
        "10.99.128.0/17",
        "10.99.64.1",
        "10.99.64.2",
        "dbop10-99",
    )
    for address in (subnets.machine, subnets.node):
        assert not any(ipaddress.ip_address(address) in ipaddress.ip_network(part) for part in (subnets.pods, subnets.services))


ROUTES = [ipaddress.IPv4Network("10.244.0.0/24"), ipaddress.IPv4Network("10.246.1.0/24"), ipaddress.IPv4Network("192.168.0.0/16")]


@pytest.mark.parametrize(
    ("wanted", "taken", "gives"),
    [(None, ["10.245.0.0/16"], "10.247.0.0/16"), ("10.99.0.0/16", [], "10.99.0.0/16"), (None, [], "10.245.0.0/16")],
    ids=["passes over routes and other clusters", "takes the one named", "takes the first free one"],
)
def test_a_free_subnet(monkeypatch: pytest.MonkeyPatch, wanted: str | None, taken: list[str], gives: str) -> None:
    monkeypatch.setattr(host, "routes", lambda: ROUTES)
    assert str(host.free_subnet(wanted, taken)) == gives


@pytest.mark.parametrize(
    ("wanted", "taken", "message"),
    [
        ("10.244.0.0/16", [], r"taken by 10\.244\.0\.0/24: name another"),
        ("10.99.0.0/16", ["10.99.0.0/16"], r"taken by 10\.99\.0\.0/16"),
        ("10.99.0.0/24", [], "not a /16"),
        ("here", [], "not an IPv4 subnet"),
        (None, ["10.0.0.0/8"], "is free: name one with --subnet"),
    ],
)
def test_a_subnet_that_is_refused(monkeypatch: pytest.MonkeyPatch, wanted: str | None, taken: list[str], message: str) -> None:
    monkeypatch.setattr(host, "routes", lambda: ROUTES)
    with pytest.raises(ClusterError, match=message):
        host.free_subnet(wanted, taken)


def test_the_machines_routes_are_seen() -> None:
    assert ipaddress.IPv4Network("127.0.0.0/8") in host.routes()


def test_raised_sysctls_are_restored_by_the_last_cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in (("vm/max_map_count", "65530"), ("fs/inotify/max_user_instances", "8192")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(value)
    monkeypatch.setattr(host, "PROC_SYS", tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for cluster in ("one", "two"):
        (paths.clusters() / cluster).mkdir()
        host.raise_sysctls(cluster)
    assert (tmp_path / "vm/max_map_count").read_text() == "262144"
    assert (tmp_path / "fs/inotify/max_user_instances").read_text() == "8192", "what is high enough is left alone"
    host.restore_sysctls("one")
    assert (tmp_path / "vm/max_map_count").read_text() == "262144"
    host.restore_sysctls("two")
    assert (tmp_path / "vm/max_map_count").read_text() == "65530"


def test_what_the_machine_lacks_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match=r"GiB are free at .* 999999 GiB are needed for a test: free some"):
        host.require_disk(tmp_path, 999999, "for a test")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(ClusterError, match=r"needs root .*: run it with sudo"):
        host.require_root()
    monkeypatch.setattr(host, "KERNEL_MINIMUM", (99, 0))
    with pytest.raises(ClusterError, match=r"Linux .* is too old: use 99\.0 or newer"):
        host.require_kernel()


def test_packages_that_cannot_be_installed_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(host.PACKAGES, "no-such-program", "no-such-package")
    apt = tmp_path / "apt-get"
    apt.write_text("#!/bin/sh\necho 'E: Unable to locate package' >&2\nexit 100\n")
    apt.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(ClusterError, match=r"no-such-package cannot be installed \(E: Unable to locate package\): connect"):
        host.require_packages(QUIET)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            ['go: download k8s.io/api: Get "https://proxy": dial tcp: lookup proxy: no such host'],
            "Go modules cannot be downloaded .*: connect to the network, or set GOPROXY",
        ),
        (["write /tmp/x: no space left on device"], "the disk is full"),
        (["", "main.go:1: syntax error", ""], "go build failed: main.go:1: syntax error"),
    ],
)
def test_a_failed_build_is_explained(lines: list[str], message: str) -> None:
    with pytest.raises(ClusterError, match=message):
        binaries._explain(lines)


OLD_GO = """#!/bin/sh
case "$1" in
version) echo go version go1.19.8 linux/amd64;;
mod) {download};;
esac
"""


def _old_go(monkeypatch: pytest.MonkeyPatch, folder: Path, download: str) -> Path:
    """A Go 1.19 on PATH, and a module that wants 1.25.1."""
    go = folder / "go"
    go.write_text(OLD_GO.format(download=download))
    go.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    module = folder / "module"
    module.mkdir()
    (module / "go.mod").write_text("module m\n\ngo 1.25.1\n")
    return module


def test_a_go_that_is_too_old_fetches_the_toolchain_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    toolchain = tmp_path / "toolchain"
    (toolchain / "bin").mkdir(parents=True)
    (toolchain / "bin/go").write_text("#!/bin/sh\necho go version go1.25.1 linux/amd64\n")
    (toolchain / "bin/go").chmod(0o444)
    toolchain.chmod(0o555)
    machine = golang.ARCHITECTURES[platform.machine()]
    wanted = f'[ "$4" = golang.org/toolchain@v0.0.1-go1.25.1.linux-{machine} ] && echo \'{{"Dir": "{toolchain}"}}\''
    module = _old_go(monkeypatch, tmp_path, wanted)
    found = golang.go(module, Progress(quiet=True))
    assert subprocess.run([found, "version"], capture_output=True, text=True, check=True).stdout == "go version go1.25.1 linux/amd64\n"
    (tmp_path / "go").unlink()
    assert golang.go(module, Progress(quiet=True)) == found


def test_a_go_that_cannot_be_had_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    module = _old_go(monkeypatch, tmp_path, "echo dial tcp: no such host >&2; exit 1")
    with pytest.raises(ClusterError, match=r"Go 1\.25\.1 cannot be fetched \(dial tcp: no such host\): install Go 1\.25\.1 or newer"):
        golang.go(module, Progress(quiet=True))
    assert list((tmp_path / "cache/database-operator/go").iterdir()) == []


def test_a_build_is_kept_whole_or_not_at_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GOCACHE", subprocess.run(["go", "env", "GOCACHE"], capture_output=True, text=True, check=True).stdout.strip())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    module = tmp_path / "modules/pause"
    module.mkdir(parents=True)
    (module / "go.mod").write_text("module pause\n\ngo 1.25.0\n")
    (module / "main.go").write_text("package main\n\nfunc main() { oops }\n")
    monkeypatch.setattr(binaries, "GO_MODULES", tmp_path / "modules")
    with pytest.raises(ClusterError, match=r"go build failed: .*undefined: oops"):
        binaries.ensure(["pause"], QUIET)
    built = tmp_path / "database-operator/bin"
    assert [entry.name for entry in built.iterdir()] == [".lock"]
    (module / "main.go").write_text("package main\n\nfunc main() {}\n")
    program = binaries.ensure(["pause"], QUIET)["pause"]
    assert subprocess.run([program], check=True).returncode == 0
    assert binaries.ensure(["pause"], QUIET)["pause"] == program


def test_kubebuilder_assets_are_taken_for_a_control_plane_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "etcd").write_text("#!/bin/sh\n")
    (tmp_path / "etcd").chmod(0o755)
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    assert binaries.ensure(["etcd"], QUIET, assets=True) == {"etcd": tmp_path / "etcd"}
    assert binaries.ensure(["etcd"], QUIET)["etcd"].parent.name.startswith("etcd-")


def sleeper(processes: Processes) -> Record:
    return processes.start("sleeper", ["sleep", "60"])


def test_a_process_is_started_found_paused_and_killed(tmp_path: Path) -> None:
    processes = Processes(tmp_path)
    record = sleeper(processes)
    assert Processes(tmp_path).running("sleeper") == record
    processes.kill("sleeper")
    assert processes.running("sleeper") is None
    with pytest.raises(ClusterError, match="sleeper does not run"):
        processes.signal("sleeper", signal.SIGSTOP)


@pytest.mark.parametrize("change", [{"started": 1}, {"executable": "/usr/bin/other"}])
def test_a_pid_that_is_somebody_elses_is_left_alone(tmp_path: Path, change: dict[str, Any]) -> None:
    processes = Processes(tmp_path)
    record = sleeper(processes)
    (tmp_path / "run/sleeper.json").write_bytes(msgspec.json.encode(msgspec.structs.replace(record, **change)))
    processes.kill_all()
    assert recorded([record.pid]) == [record]
    (tmp_path / "run/sleeper.json").write_bytes(msgspec.json.encode(record))
    processes.kill_all()
    assert recorded([record.pid]) == []


def test_what_is_started_does_not_take_our_umask(tmp_path: Path) -> None:
    """containerd would make the root of every container by it, and pods that are not root could not enter."""
    processes = Processes(tmp_path)
    old = os.umask(0o077)
    try:
        record = sleeper(processes)
    finally:
        os.umask(old)
    assert "Umask:\t0022" in Path(f"/proc/{record.pid}/status").read_text()
    processes.kill("sleeper")


def test_a_program_that_ends_at_once_is_reported_by_its_last_line(tmp_path: Path) -> None:
    processes = Processes(tmp_path)
    with pytest.raises(ClusterError, match=r"broken did not start: .*No such file"):
        processes.start("broken", ["sleep"], wrapper=["setpriv", "--reset-env", "--", "/no/such/program"])


CLAIM: dict[str, Any] = {
    "metadata": {"name": "data", "namespace": "shop", "uid": "u1"},
    "spec": {"storageClassName": "standard", "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "2Gi"}}},
    "status": {"phase": "Pending"},
}


def claim(
    spec: dict[str, Any] | None = None, status: dict[str, Any] | None = None, metadata: dict[str, Any] | None = None
) -> dict[str, Any]:
    return {
        "metadata": CLAIM["metadata"] | (metadata or {}),
        "spec": CLAIM["spec"] | (spec or {}),
        "status": CLAIM["status"] | (status or {}),
    }


@pytest.mark.parametrize(
    ("found", "volume", "growth"),
    [
        (claim(), True, False),
        (claim(metadata={"deletionTimestamp": "now"}), False, False),
        (claim(spec={"storageClassName": ""}), False, False),
        (claim(spec={"selector": {}}), True, False),
        (claim(spec={"selector": {"matchLabels": {"a": "b"}}}), False, False),
        (claim(spec={"volumeName": "v"}, status={"phase": "Bound", "capacity": {"storage": "2Gi"}}), False, False),
        (claim(spec={"volumeName": "v"}, status={"phase": "Bound", "capacity": {"storage": "1Gi"}}), False, True),
        (claim(spec={"volumeName": "v"}, status={"phase": "Lost", "capacity": {"storage": "1Gi"}}), False, False),
    ],
)
def test_what_a_claim_wants(found: dict[str, Any], volume: bool, growth: bool) -> None:
    assert (provisioner.wants_volume(found), provisioner.wants_growth(found)) == (volume, growth)


@pytest.mark.parametrize(
    ("change", "removed"),
    [
        ({}, True),
        ({"status": {"phase": "Bound"}}, False),
        ({"metadata": {"annotations": {provisioner.PROVISIONED_BY: "other"}}}, False),
        ({"metadata": {}}, False),
        ({"spec": {"persistentVolumeReclaimPolicy": "Retain"}}, False),
    ],
)
def test_which_volumes_are_removed(change: dict[str, Any], removed: bool) -> None:
    released = {
        "metadata": {"annotations": {provisioner.PROVISIONED_BY: PROVISIONER}},
        "spec": {"persistentVolumeReclaimPolicy": "Delete"},
        "status": {"phase": "Released"},
    }
    assert provisioner.wants_removal(released | change) is removed


def test_a_volume_is_local_and_bound_to_its_claim() -> None:
    storage_class = {"metadata": {"name": "standard"}, "reclaimPolicy": "Retain"}
    spec = provisioner.volume(CLAIM, storage_class, Path("/v/pvc-u1"), "node1")["spec"]
    assert spec["local"] == {"path": "/v/pvc-u1"}
    assert spec["claimRef"]["uid"] == "u1"
    assert spec["persistentVolumeReclaimPolicy"] == "Retain"
    assert spec["capacity"] == {"storage": "2Gi"}


def test_secrets_are_readable_by_their_owner_only(tmp_path: Path) -> None:
    pki.create(tmp_path / "pki", "https://127.0.0.1:1", ["127.0.0.1"])
    modes = {file.name: file.stat().st_mode & 0o777 for file in (tmp_path / "pki").iterdir()}
    assert modes and set(modes.values()) == {0o600}
    tokens = [row.split(",")[0] for row in (tmp_path / "pki/tokens.csv").read_text().splitlines()]
    assert len(set(tokens)) == len(pki.USERS) and all(len(token) == 48 for token in tokens)


def test_an_image_is_written(tmp_path: Path) -> None:
    write_image(tmp_path / "image.tar", "localhost/x:1", {"bin/x": b"x"}, ["/bin/x"])
    with tarfile.open(tmp_path / "image.tar") as tar:
        content = tar.extractfile("manifest.json")
        assert content is not None
        assert msgspec.json.decode(content.read())[0]["RepoTags"] == ["localhost/x:1"]
        layer = tar.extractfile("layer.tar")
        assert layer is not None
        with tarfile.open(fileobj=layer) as files:  # a folder without an entry has the mode that its unpacker likes
            assert [(entry.name, entry.isdir(), entry.mode) for entry in files] == [("bin", True, 0o755), ("bin/x", False, 0o755)]


def test_no_images_are_asked_for_when_none_are_wanted() -> None:
    assert image_store.archives((), QUIET) == {}


@pytest.mark.parametrize("command", [["kubeconfig"], ["status"]])
def test_the_command_line_names_cause_and_remedy(command: list[str]) -> None:
    argv = [sys.executable, "-m", "localcluster", *command, "--name", "no-such"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: there is no cluster no-such")
    assert "localcluster up --name no-such" in done.stderr
    assert len(done.stderr.splitlines()) == 1
