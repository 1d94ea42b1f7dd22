"""Entry of a Ray worker: Ray's own, after the slow import has been put aside.

Run by path, so the folder of this file leads ``sys.path``; it is replaced by the folder of
Ray's entry, which is what Ray's workers have there.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path


def main() -> None:
    """Run Ray's worker in this process with the arguments given."""
    from heliostat._cluster.fast_import import defer_grammar, import_ray

    defer_grammar()
    entry = Path(import_ray().__file__).parent / "_private" / "workers" / "default_worker.py"
    sys.path.insert(0, str(entry.parent))
    sys.argv[0] = str(entry)
    runpy.run_path(str(entry), run_name="__main__")


if __name__ == "__main__":
    del sys.path[0]
    main()
