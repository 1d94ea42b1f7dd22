"""First process of a Ray worker: skip what a worker without a runtime environment never needs.

Ray starts a worker twice over: a set-up process imports all of Ray, only to replace itself by
the real worker, which imports it again. Where there is no runtime environment to set up, this
becomes the worker at once, and the worker is there in half the time. Anything else is left to
Ray's own set-up.
"""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

_CONTEXT = "--serialized-runtime-env-context="
_LANGUAGE = "--language="


def has_environment(context: str, executable: str) -> bool:
    """Whether Ray's JSON description of a runtime environment asks for anything."""
    fields = dict(json.loads(context or "{}"))
    if fields.get("py_executable") == executable:
        del fields["py_executable"]
    return any(fields.values())


def main(argv: list[str]) -> None:
    """Become the worker, or hand over to Ray's set-up. ``argv`` is without the program."""
    context = next((a.removeprefix(_CONTEXT) for a in argv if a.startswith(_CONTEXT)), "")
    language = next((a.removeprefix(_LANGUAGE) for a in argv if a.startswith(_LANGUAGE)), "")
    rest = [a for a in argv if not a.startswith((_CONTEXT, _LANGUAGE))]
    if language == "PYTHON" and rest and not has_environment(context, sys.executable):
        from heliostat._cluster import worker_main

        sys.argv = rest
        worker_main.main()
        return
    from heliostat._cluster.fast_import import import_ray

    setup = Path(import_ray().__file__).parent / "_private" / "workers" / "setup_worker.py"
    sys.argv = [str(setup), *argv]
    runpy.run_path(str(setup), run_name="__main__")


if __name__ == "__main__":
    del sys.path[0]
    main(sys.argv[1:])
