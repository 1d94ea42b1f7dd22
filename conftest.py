"""Runs the Python code of README and docs as tests, one namespace for each document."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from typing import Any

from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser

# Warehouse, stages and caches of each test process are its own, and never the user's.
_data = tempfile.mkdtemp(prefix="heliostat-tests-")
atexit.register(shutil.rmtree, _data, ignore_errors=True)
os.environ |= {"XDG_CACHE_HOME": f"{_data}/cache", "XDG_DATA_HOME": f"{_data}/data"}


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
