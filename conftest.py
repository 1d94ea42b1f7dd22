"""Runs the Python code of README and docs as tests, one namespace for each document."""

from __future__ import annotations

import sys
from typing import Any

from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser


def _stop_runtime(namespace: dict[str, Any]) -> None:
    heliostat = namespace.get("heliostat") or sys.modules.get("heliostat")
    shutdown = getattr(heliostat, "shutdown", None)
    if shutdown is not None:
        shutdown()


pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser(), SkipParser()],
    patterns=["README.md", "docs/*.md", "docs/**/*.md"],
    teardown=_stop_runtime,
).pytest()
