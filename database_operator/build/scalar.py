"""Values in YAML files of servers."""

from typing import Any

import msgspec

# JSON leaves them as they are; YAML takes them for line breaks, or not at all (yaml.org/spec/1.2.2, 5.1 and 5.4)
_NOT_IN_YAML = {code: f"\\u{code:04x}" for code in (*range(0x7F, 0xA0), 0x2028, 0x2029, 0xFEFF, 0xFFFE, 0xFFFF)}


def scalar(value: Any) -> str:
    """``value`` on one line: JSON, which YAML reads as the same, with escapes for what YAML alone would read otherwise."""
    return msgspec.json.encode(value).decode().translate(_NOT_IN_YAML)
