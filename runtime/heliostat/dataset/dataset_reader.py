"""Reading a version: a ``DataConnector`` that also knows the files and the feature columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from heliostat.data.data_connector import DataConnector
from heliostat.data.data_source import DatasetInfo
from heliostat.dataset._resolve import version_files
from heliostat.exceptions import DataError, RefusedCallError

if TYPE_CHECKING:
    from heliostat.dataset._catalog import Identifier
    from heliostat.dataset._resolve import DatasetFiles
    from heliostat.dataset.dataset_version import DatasetVersion

__all__ = ["DatasetReader"]


class DatasetReader(DataConnector):
    """Reads one version, in all the ways of ``DataConnector``. Got from ``Dataset.read``.

    All columns are read, labels and excluded ones too; ``to_snowpark_dataframe`` can leave them out.
    """

    @classmethod
    def from_dataframe(cls, df: Any, ingestor_class: Any = None, **kwargs: Any) -> DatasetReader:
        """Refuse: a reader reads a version. Raises RefusedCallError, which is a RuntimeError too."""
        message = "Creating a DatasetReader from a DataFrame is not supported."
        raise RefusedCallError(message, "Use DataConnector.from_dataframe.")

    @classmethod
    def of_version(cls, session: Any, identifier: Identifier, version: DatasetVersion) -> DatasetReader:
        """Make the reader of a version."""
        excluded = [*version.label_cols, *version.exclude_cols]
        info = DatasetInfo(".".join(identifier), version.name, version.url(), excluded)
        reader = cls(cls.DEFAULT_INGESTOR_CLASS.from_sources(session, [info]))
        reader._session, reader._identifier, reader._version = session, identifier, version
        return reader

    _session: Any
    _identifier: Identifier
    _version: DatasetVersion

    def files(self) -> list[str]:
        """List the paths of the version's Parquet files on ``filesystem()``."""
        return list(self._found().files)

    def filesystem(self) -> Any:
        """Return the fsspec filesystem that ``files()`` are on."""
        from fsspec.implementations.arrow import ArrowFSWrapper
        from fsspec.implementations.local import LocalFileSystem

        filesystem = self._found().filesystem
        return LocalFileSystem() if filesystem.type_name == "local" else ArrowFSWrapper(filesystem)

    def to_snowpark_dataframe(self, only_feature_cols: bool = False) -> Any:
        """Return the rows as the session's DataFrame, a lazy DuckDB relation.

        Parameters
        ----------
        only_feature_cols:
            Leave out label and excluded columns.

        Raises
        ------
        DataError
            No column is left.
        """
        found = self._found()
        left_out = {*self._version.label_cols, *self._version.exclude_cols} if only_feature_cols else set()
        columns = [name for name in found.columns if name not in left_out]
        if not columns:
            message = f"All columns of the version {self._version.name!r} are labels or excluded."
            raise DataError(message, "Call it without only_feature_cols.", columns=found.columns)
        return self._session_relation(found, columns)

    to_relation = to_snowpark_dataframe

    def _session_relation(self, found: DatasetFiles, columns: list[str]) -> Any:
        names = ", ".join('"' + name.replace('"', '""') + '"' for name in columns)
        if found.filesystem.type_name == "local":
            files = ", ".join("'" + path.replace("'", "''") + "'" for path in found.files)
            query = f"SELECT {names} FROM read_parquet([{files}], hive_partitioning = false)"  # noqa: S608
            return self._session.sql(query)
        import pyarrow.dataset as pa_dataset

        rows = pa_dataset.dataset(list(found.files), filesystem=found.filesystem, format="parquet")
        return self._session.relation_of(rows).select(names)

    def _found(self) -> DatasetFiles:
        return version_files(self._identifier, self._version.name)
