"""The agent's bundle: which engines it holds, how it is copied into a pod, what environment it starts programs with."""

import os
import runpy
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from agent import __main__ as agent_main
from agent import environment
from agent.install import PROGRAM, bundle, install
from database_operator.api.spec import EngineType

PROJECT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("given", "clean"),
    [
        ({"A": "b"}, {"A": "b"}),
        ({"LD_LIBRARY_PATH": "/bundle"}, {}),
        ({"LD_LIBRARY_PATH": "/bundle", "LD_LIBRARY_PATH_ORIG": "/lib/x"}, {"LD_LIBRARY_PATH": "/lib/x"}),
        ({"LD_LIBRARY_PATH": "/bundle", "LD_LIBRARY_PATH_ORIG": ""}, {}),
    ],
)
def test_programs_of_the_image_find_their_own_libraries(given: dict[str, str], clean: dict[str, str]) -> None:
    made = environment.clean_environment(given)
    assert made == clean | {"PYINSTALLER_RESET_ENVIRONMENT": "1"}
    assert environment.clean_environment(made) == made


def test_restore_changes_the_process_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment.os, "environ", {"LD_LIBRARY_PATH": "/bundle", "LD_LIBRARY_PATH_ORIG": "/lib/x"})
    for _ in range(2):
        environment.restore()
        assert os.environ == {"LD_LIBRARY_PATH": "/lib/x", "PYINSTALLER_RESET_ENVIRONMENT": "1"}


def made_bundle(folder: Path) -> Path:
    (folder / "_internal/deep").mkdir(parents=True)
    (folder / PROGRAM).write_bytes(b"program")
    (folder / PROGRAM).chmod(0o700)
    (folder / "_internal/deep/data").write_bytes(b"x" * 100_000)
    (folder / "_internal/deep/data").chmod(0o600)
    (folder / "_internal/libx.so").symlink_to("deep/data")
    (folder / "_internal/linked").symlink_to("deep")
    return folder


def test_install_copies_all_for_any_user_and_again(tmp_path: Path) -> None:
    source, target = made_bundle(tmp_path / "source"), tmp_path / "target"
    target.mkdir()
    (target / f".{PROGRAM}.new").write_bytes(b"left by a kill")
    for _ in range(2):
        assert install(source, target) == 4
        assert (target / "_internal/libx.so").read_bytes() == b"x" * 100_000
        assert (target / "_internal/linked").readlink() == Path("deep")
        modes = {path.name: path.stat().st_mode & 0o777 for path in target.rglob("*") if path.is_file() and not path.is_symlink()}
        assert modes == {PROGRAM: 0o755, "data": 0o644}


def test_the_program_appears_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = made_bundle(tmp_path / "source"), tmp_path / "target"
    names: list[str] = []
    replace = Path.replace
    monkeypatch.setattr(Path, "replace", lambda self, to: (names.append(Path(to).name), replace(self, to))[1])
    install(source, target)
    assert names[-1] == PROGRAM
    assert len(names) == 4


def test_the_sources_are_no_bundle() -> None:
    with pytest.raises(RuntimeError, match="runs from its sources"):
        bundle()


def test_the_agent_serves_every_engine() -> None:
    assert agent_main.engines() == sorted(engine.value.lower() for engine in EngineType)


def analysis(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the bundle's spec asks PyInstaller for."""
    asked: dict[str, Any] = {}

    def note(scripts: list[str], **keywords: Any) -> types.SimpleNamespace:
        asked.update(keywords)
        return types.SimpleNamespace(binaries=[], datas=[], pure=[], scripts=scripts)

    hooks = types.ModuleType("PyInstaller.utils.hooks")
    for name in ("collect_data_files", "collect_submodules", "copy_metadata"):
        setattr(hooks, name, lambda *arguments, **keywords: [])
    monkeypatch.setitem(sys.modules, "PyInstaller.utils.hooks", hooks)
    ignore = {name: lambda *arguments, **keywords: None for name in ("PYZ", "EXE", "COLLECT")}
    runpy.run_path(str(PROJECT / "agent/bundle.spec"), {"SPECPATH": str(PROJECT / "agent"), "Analysis": note, **ignore})
    return asked


@pytest.mark.parametrize("engine", [engine.value.lower() for engine in EngineType])
def test_the_bundle_holds_every_module_of_each_engine(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    modules = analysis(monkeypatch)["hiddenimports"]
    folder = PROJECT / "agent" / engine
    expected = {f"agent.{engine}"} | {f"agent.{engine}.{path.stem}" for path in folder.glob("*.py") if path.stem != "__init__"}
    assert expected <= set(modules)


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        ([], 2, "usage: database-agent"),
        (["oracle", "run"], 2, "unknown engine 'oracle'"),
        (["../etc", "run"], 2, "unknown engine"),
        (["install"], 2, "usage: database-agent"),
        (["install", "/nowhere"], 1, "runs from its sources"),
        (["version"], 0, ""),
    ],
)
def test_words(words: list[str], status: int, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment.os, "environ", dict(os.environ))
    assert agent_main.main(words) == status
    assert said in capsys.readouterr().err
