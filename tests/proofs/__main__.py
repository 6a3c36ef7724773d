"""Writes ``docs/reference/tests.md``; ``--check`` compares it and ends with 1 if it is stale or a row has neither test nor reason.

``--mend`` first takes the reasons out of the catalogue that tests have overtaken.
"""

import sys

from tests.proofs.collect import PROJECT
from tests.proofs.page import CATALOGUE, _catalogue, mended, page, problems

PAGE = PROJECT / "docs/reference/tests.md"


def main(arguments: list[str]) -> int:
    if arguments not in ([], ["--check"], ["--mend"]):
        print("usage: python -m tests.proofs [--check | --mend]", file=sys.stderr)
        return 2
    if arguments == ["--mend"]:
        catalogue = PROJECT / CATALOGUE
        catalogue.write_text(mended(catalogue.read_text()))
        _catalogue.cache_clear()
    found = problems()
    for problem in found:
        print(problem, file=sys.stderr)
    if arguments != ["--check"]:
        PAGE.write_text(page())
    elif not PAGE.is_file() or PAGE.read_text() != page():
        print(f"{PAGE.relative_to(PROJECT)} is out of date: run scripts/generate", file=sys.stderr)
        return 1
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
