"""``database-agent <engine> <verb> ...``: what runs inside database pods. One module an engine, found by its name."""

import importlib
import multiprocessing
import pkgutil
import sys
from pathlib import Path

import agent
from agent import environment

USAGE = "usage: database-agent <engine> <verb> [argument ...] | install DIR | check | version"


def engines() -> list[str]:
    """The engines this agent serves: the packages beside this module."""
    return sorted(module.name for module in pkgutil.iter_modules(agent.__path__) if module.ispkg)


def _fail(message: str) -> int:
    print(message, file=sys.stderr)
    return 2


def _install(arguments: list[str]) -> int:
    from agent.install import bundle, install

    if len(arguments) != 1:
        return _fail(USAGE)
    try:
        count = install(bundle(), Path(arguments[0]))
    except (OSError, RuntimeError) as error:
        print(f"database-agent install: {error}", file=sys.stderr)
        return 1
    print(f"installed {count} files into {arguments[0]}")
    return 0


def _version() -> int:
    from database_operator import __version__

    print(__version__)
    return 0


def _check() -> int:
    """Import every module of the agent: the image's build fails by it where the bundle lacks one, or a file read on import."""
    for module in pkgutil.walk_packages(agent.__path__, "agent."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    print(f"engines: {', '.join(engines())}")
    return 0


def main(argv: list[str] | None = None) -> int:
    """The exit status: the engine's own, or 2 where the words are not understood."""
    environment.restore()
    multiprocessing.freeze_support()  # Patroni spawns a child from this same program; that child ends here
    words = sys.argv[1:] if argv is None else argv
    if not words:
        return _fail(USAGE)
    first, *rest = words
    if first == "install":
        return _install(rest)
    if first == "version" and not rest:
        return _version()
    if first == "check" and not rest:
        return _check()
    if first not in engines():
        return _fail(f"database-agent: unknown engine {first!r}; {USAGE}")
    main_of_engine = importlib.import_module(f"agent.{first}").main
    return int(main_of_engine(rest))


if __name__ == "__main__":
    sys.exit(main())
