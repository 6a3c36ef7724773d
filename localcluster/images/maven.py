"""Artifacts from the machine's configured Maven client."""

from pathlib import Path

from localcluster.images import store

PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1"

PROGRAMS = {"mvn": "maven"}


def fetch(artifact: str, target: Path) -> Path:
    """``group:name:version:type`` as ``artifact.<type>`` in the folder ``target``."""
    _, name, version, kind = artifact.split(":")
    argv = ["mvn", "--batch-mode", "--quiet", f"{PLUGIN}:copy", f"-Dartifact={artifact}", f"-DoutputDirectory={target}"]
    checked_in = store.folder() / "maven"
    store.checked([*argv, f"-Dmaven.repo.local={checked_in}", "-Dmdep.useBaseVersion=true"], f"fetching {artifact} by Maven", cwd=target)
    return (target / f"{name}-{version}.{kind}").rename(target / f"artifact.{kind}")
