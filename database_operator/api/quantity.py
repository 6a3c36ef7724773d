"""Kubernetes quantities (``500m``, ``1.5Gi``, ``2e3``), exact.

The grammar and the rounding are those of ``k8s.io/apimachinery/pkg/api/resource``: binary suffixes Ki to Ei, decimal
ones n to E, or a decimal exponent; a value between two whole units is rounded up.
"""

import math
import re
from decimal import Decimal, localcontext
from fractions import Fraction

_GRAMMAR = re.compile(r"(?P<number>[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))(?P<suffix>[KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]{1,3})?")
_DECIMAL = {"n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}
_LENGTH = 64  # characters; longer ones are no quantity a person wrote
_DIGITS = 2 * _LENGTH  # so that no product below is ever rounded
MEBIBYTE = 1024**2


def parse(text: str) -> Decimal:
    """The exact value, in the quantity's own unit (bytes, cores). Raises ``ValueError`` naming the text."""
    match = _GRAMMAR.fullmatch(text) if len(text) <= _LENGTH else None
    if match is None:
        raise ValueError(f"{text[:_LENGTH]!r} is not a quantity such as 500m, 2, 512Mi or 10Gi")
    number, suffix = Decimal(match["number"]), match["suffix"] or ""
    with localcontext(prec=_DIGITS):
        if suffix in _BINARY:
            return number * Decimal(1024) ** _BINARY[suffix]
        return number.scaleb(_DECIMAL[suffix] if suffix in _DECIMAL else int(suffix[1:] or 0))


def whole_bytes(text: str) -> int:
    """Bytes, rounded up as the scheduler does. Raises ``ValueError``."""
    return math.ceil(parse(text))


def mebibytes(text: str) -> int:
    """Whole MiB that fit: rounded down, so that a setting derived from a limit stays under it. Raises ``ValueError``."""
    return math.floor(parse(text)) // MEBIBYTE


def millicores(text: str) -> int:
    """Thousandths of a CPU, rounded up. Raises ``ValueError``."""
    return math.ceil(Fraction(parse(text)) * 1000)
