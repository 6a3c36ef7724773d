"""Writes ``docs/reference/tests.md``; ``--check`` compares it and ends with 1 if it is stale or a row has neither test nor reason."""

import sys

from tests.proofs.collect import PROJECT
from tests.proofs.page import page, problems

PAGE = PROJECT / "docs/reference/tests.md"


def main(arguments: list[str]) -> int:
    if arguments not in ([], ["--check"]):
        print("usage: python -m tests.proofs [--check]", file=sys.stderr)
        return 2
    found = problems()
    for problem in found:
        print(problem, file=sys.stderr)
    if not arguments:
        PAGE.write_text(page())
    elif not PAGE.is_file() or PAGE.read_text() != page():
        print(f"{PAGE.relative_to(PROJECT)} is out of date: run scripts/generate", file=sys.stderr)
        return 1
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
