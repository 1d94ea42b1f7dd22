"""Each format of files, each with what can be wrong: one error that names the file or the column."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from pyarrow import feather

from heliostat.data import DataConnector
from heliostat.data._sources._files import FilesSource
from heliostat.data.arrow_ingestor import ArrowIngestor
from heliostat.exceptions import DataError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TABLE = pa.table({"a": range(2000), "b": [f"x{row}" for row in range(2000)]})
FORMATS = ("parquet", "csv", "tsv", "json", "arrow")
TEXT = ("csv", "tsv", "json")


def _write(table: pa.Table, path: Path) -> None:
    kind = path.suffix[1:]
    if kind == "parquet":
        pq.write_table(table, path, row_group_size=500)
    elif kind == "arrow":
        feather.write_feather(table, path)
    elif kind == "json":
        path.write_text("".join(f"{json.dumps(row)}\n" for row in table.to_pylist()))
    else:
        pa_csv.write_csv(table, path, pa_csv.WriteOptions(delimiter="\t" if kind == "tsv" else ","))


VERBS: dict[str, Callable[[DataConnector], Any]] = {
    "count": lambda c: c.count(),
    "to_arrow": lambda c: c.to_arrow(),
    "one column": lambda c: c.to_arrow(["a"]),
    "to_pandas": lambda c: c.to_pandas(),
    "to_torch_dataset": lambda c: list(c.to_torch_dataset(batch_size=100)),
    "to_tf_dataset": lambda c: list(c.to_tf_dataset(batch_size=100)),
    "to_huggingface_dataset": lambda c: c.to_huggingface_dataset(),
    "streaming": lambda c: list(c.to_huggingface_dataset(streaming=True)),
}
FAULTS = ("lacks", "more", "type", "truncated", "empty", "gone")


def _spoil(path: Path, fault: str) -> None:
    other = {
        "lacks": TABLE.drop_columns(["b"]),
        "more": TABLE.append_column("c", TABLE["a"]),
        "type": TABLE.set_column(0, "a", TABLE["b"]),
    }
    if fault in other:
        _write(other[fault], path)
    elif fault == "gone":
        path.unlink()
    else:
        content = path.read_bytes()
        # In the middle of a line: of lines that are whole, nobody can tell that there were more.
        cut = content.find(b"\n", len(content) // 2) + 3
        path.write_bytes(b"" if fault == "empty" else content[:cut])


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("kind", FORMATS)
def test_the_second_file_is_wrong(tmp_path: Path, kind: str, fault: str) -> None:
    """No verb passes rows on as whole, and each names the file; columns that differ are named too."""
    paths = [tmp_path / f"{number}.{kind}" for number in range(2)]
    for path in paths:
        _write(TABLE, path)
    connector = DataConnector.from_sources(None, [str(tmp_path)])
    if fault == "gone":  # after it was looked up
        source = connector.source
        assert isinstance(source, FilesSource)
        connector = DataConnector(ArrowIngestor.from_source(source._found()))
    _spoil(paths[1], fault)
    for name, verb in VERBS.items():
        if (name, fault) == ("count", "type") and kind in TEXT:
            continue  # lines are counted, and not read as values
        with pytest.raises(DataError, match=rf"1\.{kind}") as raised:
            verb(connector)
        assert raised.value.file.startswith(str(tmp_path)), name
        if fault in ("lacks", "more"):
            assert raised.value.column == {"lacks": "b", "more": "c"}[fault]
    rows: list[int] = []
    with pytest.raises(DataError):
        rows.extend(batch.num_rows for batch in connector.to_reader())
    assert sum(rows) >= len(TABLE) or fault == "truncated" or kind in TEXT


@pytest.mark.parametrize("kind", FORMATS)
def test_a_column_that_is_not_there(tmp_path: Path, kind: str) -> None:
    """It is named before anything is read, with the columns that are there."""
    _write(TABLE, tmp_path / f"0.{kind}")
    connector = DataConnector.from_sources(None, [str(tmp_path)])
    verbs: tuple[Callable[[], Any], ...] = (
        lambda: connector.to_arrow(["gone"]),
        lambda: connector.to_reader(["a", "gone"]),
        lambda: connector.to_torch_dataset(batch_size=1, columns=["gone"]),
        lambda: connector.to_torch_dataset(batch_size=1, feature_cols=["a"], label_col="gone"),
        lambda: connector.to_tf_dataset(batch_size=1, columns=["gone"]),
    )
    for verb in verbs:
        with pytest.raises(DataError, match=r"no column 'gone'.*[Cc]olumns.*: a, b"):
            verb()


@pytest.mark.parametrize("kind", FORMATS)
def test_no_rows(tmp_path: Path, kind: str) -> None:
    """Files without rows are tables without rows, where the format can say so; loaders refuse them."""
    _write(TABLE.slice(0, 0), tmp_path / f"0.{kind}")
    connector = DataConnector.from_sources(None, [str(tmp_path)])
    if kind == "json":  # nothing says which columns there are
        with pytest.raises(DataError, match=r"0\.json"):
            connector.to_arrow()
        return
    assert connector.to_arrow().num_rows == connector.count() == len(connector.to_pandas()) == 0
    assert connector.columns == ["a", "b"]
    for verb in (connector.to_torch_dataset, connector.to_tf_dataset):
        with pytest.raises(DataError, match="no rows"):
            verb(batch_size=1)
