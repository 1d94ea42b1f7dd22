"""The real ``snowflake-ml-python``, in an environment of its own, takes our reader as its own."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
PYTHON = ROOT / ".venv-snowflake" / "bin" / "python"

_PROGRAM = """
import json, pickle, sys
from snowflake.ml.data import DataConnector
from snowflake.snowpark import Session
session = Session.builder.config("local_testing", True).create()
paths = json.loads(sys.argv[1])
answer = {"reader": DataConnector.DEFAULT_INGESTOR_CLASS.__module__}
try:
    connector = DataConnector.from_sources(session, paths)
    answer["rows"] = len(connector.to_pandas()), len(connector.to_pandas(limit=3))
    batches = connector._ingestor.to_batches
    answer["plain"] = [len(b["x"]) for b in batches(400, shuffle=False, drop_last_batch=False)]
    answer["whole"] = [len(b["x"]) for b in batches(400)]
    shuffled = [x for b in batches(400, drop_last_batch=False) for x in b["x"].tolist()]
    answer["all"] = sorted(shuffled) == list(range(1000)) and shuffled != sorted(shuffled)
    first = next(iter(batches(400, shuffle=False)))
    answer["types"] = {name: [str(values.dtype), list(values.shape)] for name, values in first.items()}
    answer["sources"] = connector.data_sources
except Exception as error:
    answer["error"] = f"{type(error).__name__}: {error}"
print(json.dumps(answer))
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two Parquet files of 500 rows each."""
    folder = tmp_path_factory.mktemp("snowflake")
    paths = []
    for part in range(2):
        ids = range(part * 500, part * 500 + 500)
        columns = {
            "x": pa.array(ids, pa.int64()),
            "price": pa.array([i / 4 for i in ids]).cast(pa.decimal128(12, 2)),
            "vector": pa.array([[float(i), 1.0] for i in ids]),
            "name": pa.array([f"n{i}" for i in ids]),
        }
        paths.append(str(folder / f"{part}.parquet"))
        pq.write_table(pa.table(columns), paths[-1])
    return paths


def _ask(paths: list[str], **environment: str) -> dict[str, Any]:
    assert PYTHON.exists(), "scripts/setup.sh test makes the environment of snowflake-ml-python"
    done = subprocess.run(
        [PYTHON, "-W", "ignore", "-c", _PROGRAM, json.dumps(paths)],
        env={**os.environ, "PYTHONPATH": str(ROOT / "runtime"), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def test_its_connector_takes_our_reader(files: list[str]) -> None:
    """With the documented switches set, its connector reads files through us, without a patch."""
    answer = _ask(files, IN_SPCS_ML_RUNTIME="1", USE_OPTIMIZED_DATA_INGESTOR="true")
    assert "error" not in answer
    assert answer["reader"] == "heliostat.data._snowflake_ml"
    assert answer["rows"] == [1000, 3]
    assert answer["plain"] == [400, 400, 200]
    assert answer["whole"] == [400, 400]
    assert answer["all"] is True
    assert answer["types"] == {
        "x": ["int64", [400]],
        "price": ["float64", [400]],
        "vector": ["float64", [400, 2]],
        "name": ["object", [400]],
    }
    assert answer["sources"] == files


def test_what_it_cannot_read_is_told(files: list[str]) -> None:
    """A file that is not there is an error with its name."""
    answer = _ask([files[0] + ".gone"], IN_SPCS_ML_RUNTIME="1", USE_OPTIMIZED_DATA_INGESTOR="1")
    assert answer["error"].startswith("DataError")
    assert ".gone" in answer["error"]


def test_without_the_switch_it_keeps_its_own(files: list[str]) -> None:
    """Outside of the runtime nothing changes."""
    assert _ask(files)["reader"].startswith("snowflake.ml.")
