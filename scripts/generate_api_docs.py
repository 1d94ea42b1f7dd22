"""Write the OpenAPI document of the supervisor's API, ``docs/supervisor-api.json``.

It comes from the table of routes that the supervisor serves. ``--check`` only compares, for
``make check``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from heliostat._supervisor.routes import Operations, document, routes

TARGET = Path(__file__).resolve().parent.parent / "docs" / "supervisor-api.json"


def generate() -> str:
    """Write out the whole file."""
    # The table only names the operations; none is called.
    operations = Operations.__new__(Operations)
    return json.dumps(document(routes(operations)), indent=1, ensure_ascii=False) + "\n"


def main() -> None:
    """Write the file, or with ``--check`` say whether it is what would be written."""
    text = generate()
    if "--check" not in sys.argv[1:]:
        TARGET.write_text(text)
    elif not TARGET.exists() or TARGET.read_text() != text:
        sys.exit(f"{TARGET.name} is not what the table of routes says: run `make types`.")


if __name__ == "__main__":
    main()
