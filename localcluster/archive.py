"""Image archives made of a few files, without any image tool."""

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from localcluster.host import write_atomically


def write_image(archive: Path, reference: str, files: Mapping[str, bytes], entrypoint: Sequence[str]) -> None:
    """Writes an image of one layer with `files` (path -> content, all executable), in the format of `docker save`."""
    layer = _tar({name: (content, 0o755) for name, content in files.items()})
    history = [{"created_by": "localcluster"}]
    config = {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine),
        "os": "linux",
        "config": {"Entrypoint": list(entrypoint), "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
        "history": history,
    }
    manifest = [{"Config": "config.json", "RepoTags": [reference], "Layers": ["layer.tar"]}]
    parts = {"manifest.json": json.dumps(manifest).encode(), "config.json": json.dumps(config).encode(), "layer.tar": layer}
    write_atomically(archive, _tar({name: (content, 0o644) for name, content in parts.items()}), mode=0o644)


def _tar(files: Mapping[str, tuple[bytes, int]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for folder in sorted({str(parent) for name in files for parent in PurePosixPath(name).parents} - {"."}):
            entry = tarfile.TarInfo(folder)  # else whoever unpacks it chooses the mode
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        for name, (content, mode) in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            entry.mode = mode
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
