"""The container images of the local cluster, as archives in the user's cache: pulled where a registry answers, else built from packages."""

import shutil
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from localcluster.errors import ClusterError
from localcluster.host import locked, require_disk
from localcluster.images import base, maven, operator, store
from localcluster.images.catalog import CATALOG, Recipe

__all__ = ["ensure"]

_GIB = 4  # measured: the largest image takes 1.3 GiB while it is built and archived
_unreached: set[str] = set()  # registries that did not answer in this run


def ensure(names: Iterable[str] | None, progress: Callable[[str], None]) -> dict[str, Path]:
    """Image reference -> archive for ``ctr images import``, for ``names`` or, with None, for all that are not made on request alone.

    What is in the cache is not made again; the operator's own image is made again when its inputs have changed.
    ``ClusterError`` is one line: not root, no disk, a package archive that does not answer, an image without a recipe where no
    registry answers.
    """
    usual = [name for name, recipe in CATALOG.items() if not recipe.on_request]
    wanted = list(dict.fromkeys([*usual, operator.reference()] if names is None else names))
    found = {name: archive for name in wanted if (archive := _cached(name))}
    if len(found) < len(wanted):
        with locked(store.folder() / ".lock", "another build of images", seconds=1800):
            store.tidy()
            for name in wanted:
                found[name] = _cached(name) or _make(name, progress)
    return {name: found[name] for name in wanted}


def archive_path(reference: str, kind: str) -> Path:
    """``kind`` is ``pulled`` or the digest of what the image was built from."""
    return store.folder() / f"{reference.replace('/', '_').replace(':', '-')}-{kind}.tar"


def _cached(reference: str) -> Path | None:
    if reference == operator.reference():
        kinds = [operator.digest()]
    else:
        kinds = ["pulled", *([CATALOG[reference].digest()] if reference in CATALOG else [])]
    return next((path for kind in kinds if (path := archive_path(reference, kind)).is_file()), None)


def _make(reference: str, progress: Callable[[str], None]) -> Path:
    store.require_tools(progress)
    require_disk(store.folder(), _GIB, f"to make {reference}")
    start = time.monotonic()
    if reference == operator.reference():
        kind = operator.build_offline(progress)
    elif _pulled(reference, progress):
        kind = "pulled"
    elif reference in CATALOG:
        kind = CATALOG[reference].digest()
        _build(reference, CATALOG[reference], progress)
    else:
        known = ", ".join([*CATALOG, operator.reference()])
        raise ClusterError(
            f"{reference} is not pulled ({_registry(reference)} is not reached or has no such image) and has no recipe",
            f"these have one: {known}",
        )
    archive = archive_path(reference, kind)
    store.save(reference, archive)
    if reference != operator.reference():
        store.remove(reference)
    _forget_older(archive)
    progress(f"{reference}: {archive.stat().st_size / 2**20:.0f} MiB, {time.monotonic() - start:.0f} s")
    return archive


def _forget_older(archive: Path) -> None:
    """An image's former archives go once the new one is whole."""
    stem = archive.name.rpartition("-")[0]
    for path in archive.parent.glob(f"{stem}-*.tar"):
        if path != archive and path.name.rpartition("-")[0] == stem:
            path.unlink()


def _registry(reference: str) -> str:
    return reference.partition("/")[0]


def _pulled(reference: str, progress: Callable[[str], None]) -> bool:
    registry = _registry(reference)
    if registry in _unreached:
        return False
    if store.pull(reference, progress):
        return True
    _unreached.add(registry)
    progress(f"{registry} gives no images here: they are built from packages")
    return False


def _build(reference: str, recipe: Recipe, progress: Callable[[str], None]) -> None:
    base.ensure(recipe.suite, progress)
    progress(f"building {reference} from packages")
    with tempfile.TemporaryDirectory(prefix="context-", dir=store.scratch()) as scratch:
        context = Path(scratch)
        for name, path in recipe.context().items():
            if path.is_dir():
                shutil.copytree(path, context / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(path, context / name)
        if recipe.artifact:
            store.require_tools(progress, maven.PROGRAMS)
            maven.fetch(recipe.artifact, context)
        # what comes from the project itself changes often, so its build keeps the steps before it
        store.build(reference, context, base.sources(recipe.suite), {"SUITE": recipe.suite, **recipe.arguments}, layers=bool(recipe.extra))
