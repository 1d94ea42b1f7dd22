"""A table of the warehouse as a sink of Ray Data: ``ds.write_datasink(SnowflakeTableDatasink(...))``."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ray.data.block import BlockAccessor
from ray.data.datasource import Datasink

from heliostat.exceptions import ConfigurationError, DataError

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pyarrow as pa
    from ray.data.datasource import WriteResult

    from heliostat._session import SaveMode, Session

__all__ = ["SnowflakeTableDatasink"]

_DIRECTORY_VARIABLE = "HELIOSTAT_SPILL_DIR"


@dataclass(frozen=True)
class _Written:
    """What one write task left in the directory for rows on their way."""

    path: str
    rows: int
    size: int


class SnowflakeTableDatasink(Datasink):  # type: ignore[misc]
    """Writes to a table of the active session's warehouse: all rows or none.

    Workers write their rows to a private directory beside the warehouse; when all are done, one
    statement takes them into the table. A write that fails, or whose process dies, changes nothing.

    Parameters
    ----------
    table_name:
        Name of the table, with or without schema and database.
    database, schema:
        Used if the name does not have them. The warehouse is one database, whatever its name.
    auto_create_table:
        Make the table if it is not there, with the columns of the rows.
    override:
        Replace the rows that the table has; else they are appended, by the names of the columns.

    Raises
    ------
    ConfigurationError
        The name is not one of a table.
    DataError
        From ``write_datasink``: the table is not there, or the rows do not fit into it.
    """

    def __init__(
        self,
        *,
        table_name: str,
        database: str | None = None,
        schema: str | None = None,
        auto_create_table: bool = False,
        override: bool = False,
    ) -> None:
        parts = [part.strip('"') for part in table_name.split(".")]
        if not all(parts) or len(parts) > 3:
            message = f"table_name={table_name!r} is not the name of a table."
            raise ConfigurationError(message, 'Write "table", "schema.table" or "database.schema.table".')
        del database
        qualifier = parts[-2] if len(parts) > 1 else schema
        self._schema = None if qualifier is None or qualifier.lower() in ("main", "public") else qualifier
        self._table = parts[-1] if self._schema is None else f"{self._schema}.{parts[-1]}"
        self._auto_create_table = auto_create_table
        self._override = override
        self._directory = ""
        self._rows_schema: pa.Schema | None = None
        self._lock: IO[bytes] | None = None

    def __getstate__(self) -> dict[str, Any]:
        # The lock is the driver's.
        return {**self.__dict__, "_lock": None}

    def on_write_start(self, schema: pa.Schema | None = None) -> None:
        """Check the table, and make the directory for rows on their way."""
        session = _session()
        if not self._auto_create_table and not self._exists(session):
            message = f"There is no table {self._table!r} in {session.path}."
            raise DataError(message, "Pass auto_create_table=True, or make it first.", table=self._table)
        base = Path(os.environ.get(_DIRECTORY_VARIABLE) or session.path.parent) / "sinks"
        try:
            base.mkdir(mode=0o700, parents=True, exist_ok=True)
            _sweep(base)
            directory = base / uuid.uuid4().hex
            directory.mkdir(mode=0o700)
            self._lock = (directory / "lock").open("wb")
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        except OSError as error:
            message = f"The directory {base}, for rows on their way, cannot be written: {error.strerror}."
            raise ConfigurationError(
                message, f"Set {_DIRECTORY_VARIABLE} to one that can be, on all nodes."
            ) from error
        self._directory = str(directory)
        self._rows_schema = schema if hasattr(schema, "names") else None

    def write(self, blocks: Iterable[Any], ctx: Any) -> _Written | None:
        """Write the rows of one task to a file of its own; called on the workers."""
        del ctx
        import pyarrow as pa
        import pyarrow.parquet as pq

        # An attempt that is repeated has another name, and only what is returned counts.
        path = Path(self._directory) / f"{uuid.uuid4().hex}.parquet"
        tables = [table for table in map(_table_of, blocks) if table.num_rows]
        if not tables:
            return None
        try:
            table = pa.concat_tables(tables, promote_options="permissive")
            pq.write_table(table, path, compression="zstd")
        except pa.ArrowException as error:
            message = f"The rows do not fit into one table: {error}."
            raise DataError(message, "Give each column one type.", table=self._table) from error
        except OSError as error:
            message = f"The rows could not be written to {self._directory}: {error}."
            action = f"Set {_DIRECTORY_VARIABLE} to a directory with room, which all nodes share."
            raise DataError(message, action, table=self._table) from error
        return _Written(str(path), table.num_rows, path.stat().st_size)

    def on_write_complete(self, write_result: WriteResult[Any]) -> None:
        """Take all rows into the table at once."""
        written = [each for each in write_result.write_returns if each is not None]
        for each in written:
            _require_there(each, self._table)
        session = _session()
        mode: SaveMode = "overwrite" if self._override else "append"
        if self._schema is not None and self._auto_create_table:
            session.sql(f"CREATE SCHEMA IF NOT EXISTS {_quoted(self._schema)}")
        try:
            if written:
                _save(session, [each.path for each in written], self._table, mode)
            elif self._rows_schema is not None and (self._override or not self._exists(session)):
                session.save_as_table(self._rows_schema.empty_table(), self._table, mode)
            elif self._override and self._exists(session):
                session.sql(f"DELETE FROM {'.'.join(map(_quoted, self._table.split('.')))}")  # noqa: S608 - quoted
        finally:
            self._end()

    def on_write_failed(self, error: Exception) -> None:
        """Remove the rows on their way; the table is as it was."""
        del error
        self._end()

    def _exists(self, session: Session) -> bool:
        return self._table.lower() in map(str.lower, session.tables())

    def _end(self) -> None:
        if self._directory:
            shutil.rmtree(self._directory, ignore_errors=True)
        if self._lock is not None:
            self._lock.close()
            self._lock = None


def _session() -> Session:
    from heliostat.context import get_active_session

    return get_active_session()


def _save(session: Session, paths: list[str], table: str, mode: SaveMode) -> None:
    # Blocks may differ where one has only nulls; the types are those that hold all of them.
    rows = session.sql("SELECT * FROM read_parquet(?, union_by_name = true)", [paths])
    session.save_as_table(rows, table, mode)


def _table_of(block: Any) -> Any:
    """A block as a plain table. Raises DataError for a column that a table cannot have."""
    import pyarrow as pa

    table = BlockAccessor.for_block(block).to_arrow()
    for field in table.schema:
        if isinstance(field.type, pa.BaseExtensionType):
            message = f"The column {field.name!r} holds arrays ({field.type}), which a table cannot."
            raise DataError(message, "Drop it, or turn it into bytes or lists first.", column=field.name)
    return table


def _require_there(written: _Written, table: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        if Path(written.path).stat().st_size == written.size:
            return
    message = f"Rows for the table {table!r} were written by another node and are not seen here."
    action = f"Set {_DIRECTORY_VARIABLE} to a directory that all nodes share."
    raise DataError(message, action, table=table)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _sweep(base: Path) -> None:
    """Remove what processes that are gone left."""
    for directory in base.iterdir():
        with contextlib.suppress(OSError), (directory / "lock").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(directory, ignore_errors=True)
