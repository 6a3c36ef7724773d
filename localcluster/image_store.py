"""The images in a node's containerd: imported from archives, each once."""

import importlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from localcluster.archive import write_image
from localcluster.errors import ClusterError
from localcluster.host import write_atomically
from localcluster.node import PAUSE_IMAGE
from localcluster.progress import Progress
from localcluster.run import run

IMPORT_SECONDS = 600.0


class ImageStore:
    """containerd's images and leftovers, through ctr in the node's mount namespace."""

    def __init__(self, root: Path, init_pid: int) -> None:
        self._ctr = ["nsenter", "--target", str(init_pid), "--mount", "--", "ctr", "--namespace", "k8s.io"]
        self._record = root / "imported.json"

    def import_archive(self, name: str, archive: Path) -> bool:
        """Imports an archive of `docker save` or OCI format unless this very file is what was last imported as `name`; whether it did."""
        try:
            found = archive.stat()
        except FileNotFoundError:
            raise ClusterError(
                f"there is no image archive {archive}", "a newer one may have taken its place meanwhile: try again"
            ) from None
        mark = [str(archive), str(found.st_size), str(found.st_mtime_ns)]
        try:
            imported: dict[str, list[str]] = msgspec.json.decode(self._record.read_bytes())
        except (OSError, msgspec.DecodeError):
            imported = {}
        if imported.get(name) == mark:
            return False
        with archive.open("rb") as content:  # through standard input: the node may not see the folder it lies in
            run([*self._ctr, "images", "import", "-"], stdin=content, seconds=IMPORT_SECONDS)
        imported[name] = mark
        write_atomically(self._record, msgspec.json.encode(imported))
        return True

    def import_pause(self, pause: Path) -> None:
        """Imports the image of every pod's sandbox."""
        archive = pause.parent / "pause.tar"
        if not archive.exists():
            write_image(archive, PAUSE_IMAGE, {"pause": pause.read_bytes()}, ["/pause"])
        self.import_archive(PAUSE_IMAGE, archive)

    def references(self) -> list[str]:
        """The references of all images, without those that are only digests."""
        return sorted(line for line in run([*self._ctr, "images", "list", "-q"]).split() if not line.startswith("sha256:"))

    def remove_containers(self) -> bool:
        """Removes what containerd remembers of containers that died with an earlier node; whether there were any."""
        left = run([*self._ctr, "containers", "list", "-q"]).split()
        if left:
            run([*self._ctr, "containers", "delete", *left])
        return bool(left)


def archives(references: Iterable[str] | None, progress: Progress) -> dict[str, Path]:
    """The archive of each image (all that are known with None), pulled or built when it is not there."""
    wanted: Sequence[str] | None = None if references is None else list(references)
    if wanted is not None and not wanted:
        return {}
    try:
        module = importlib.import_module("localcluster.images")
    except ModuleNotFoundError as error:
        if error.name != "localcluster.images":
            raise
        if wanted is None:
            return {}
        raise ClusterError(f"there is no recipe for the image {wanted[0]}", "load an archive of it with Cluster.load_image") from None
    found: dict[str, Path] = module.ensure(wanted, progress)
    return found
