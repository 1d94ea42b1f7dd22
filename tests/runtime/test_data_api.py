"""Names, parameters and defaults that code written for Snowflake's runtime passes."""

from __future__ import annotations

import importlib
import inspect
from dataclasses import MISSING, fields
from typing import Any

import pytest

import heliostat.data
import heliostat.dataset
from heliostat.data import data_connector, data_ingestor, data_source, sharded_data_connector
from heliostat.data.arrow_ingestor import ArrowIngestor

REQUIRED = inspect.Parameter.empty
WHERE = {"database": None, "schema": None, "file_pattern": None}
BATCHES = {"shuffle": False, "drop_last_batch": True}

# Of each call: parameters that may be passed by position, in order, then those by name; with defaults.
CALLS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "data.DataConnector.from_dataframe": ({"df": REQUIRED, "ingestor_class": None}, {}),
    "data.DataConnector.from_sql": ({"query": REQUIRED, "session": None, "ingestor_class": None}, {}),
    "data.DataConnector.from_dataset": ({"ds": REQUIRED, "ingestor_class": None}, {}),
    "data.DataConnector.from_ray_dataset": ({"ray_ds": REQUIRED, "ingestor_class": None}, {}),
    "data.DataConnector.from_sources": (
        {"session": REQUIRED, "sources": REQUIRED, "ingestor_class": None},
        {},
    ),
    "data.DataConnector.to_pandas": ({"self": REQUIRED, "limit": None}, {}),
    "data.DataConnector.to_torch_dataset": ({"self": REQUIRED}, {"batch_size": None, **BATCHES}),
    "data.DataConnector.to_torch_datapipe": ({"self": REQUIRED}, {"batch_size": REQUIRED, **BATCHES}),
    "data.DataConnector.to_tf_dataset": ({"self": REQUIRED}, {"batch_size": REQUIRED, **BATCHES}),
    "data.DataConnector.to_ray_dataset": ({"self": REQUIRED}, {}),
    "data.DataConnector.to_huggingface_dataset": (
        {"self": REQUIRED},
        {"streaming": False, "limit": None, "batch_size": 1024, "shuffle": False, "drop_last_batch": False},
    ),
    "data.ShardedDataConnector.from_dataframe": ({"df": REQUIRED, "ingestor_class": None, "equal": True}, {}),
    "data.ShardedDataConnector.from_dataset": ({"ds": REQUIRED, "ingestor_class": None, "equal": True}, {}),
    "data.ShardedDataConnector.from_sources": (
        {"sources": REQUIRED, "ingestor_class": None, "equal": True},
        {},
    ),
    "data.ShardedDataConnector.from_ray_dataset": (
        {"ray_ds": REQUIRED, "ingestor_class": None, "equal": True},
        {},
    ),
    "data.ShardedDataConnector.get_shard": ({"self": REQUIRED}, {}),
    "data.DataIngestor.from_sources": ({"session": REQUIRED, "sources": REQUIRED}, {}),
    "data.DataIngestor.from_ray_dataset": ({"ray_ds": REQUIRED}, {}),
    "data.DataIngestor.to_batches": (
        {"self": REQUIRED, "batch_size": REQUIRED, "shuffle": True, "drop_last_batch": True},
        {},
    ),
    "data.DataIngestor.to_pandas": ({"self": REQUIRED, "limit": None}, {}),
    "data.arrow_ingestor.ArrowIngestor": (
        {"session": REQUIRED, "data_sources": REQUIRED, "format": None},
        {},
    ),
    "dataset.create_from_dataframe": (
        dict.fromkeys(("session", "name", "version", "input_dataframe"), REQUIRED),
        {},
    ),
    "dataset.load_dataset": (dict.fromkeys(("session", "name", "version"), REQUIRED), {}),
    "dataset.Dataset": (
        {**dict.fromkeys(("session", "database", "schema", "name"), REQUIRED), "selected_version": None},
        {},
    ),
    "dataset.Dataset.create": ({"session": REQUIRED, "name": REQUIRED, "exist_ok": False}, {}),
    "dataset.Dataset.load": ({"session": REQUIRED, "name": REQUIRED}, {}),
    "dataset.Dataset.list_versions": ({"self": REQUIRED, "detailed": False}, {}),
    "dataset.Dataset.select_version": ({"self": REQUIRED, "version": REQUIRED}, {}),
    "dataset.Dataset.create_version": (
        {
            "self": REQUIRED,
            "version": REQUIRED,
            "input_dataframe": REQUIRED,
            "shuffle": False,
            "exclude_cols": None,
            "label_cols": None,
            "properties": None,
            "partition_by": None,
            "comment": None,
        },
        {},
    ),
    "dataset.Dataset.delete_version": ({"self": REQUIRED, "version_name": REQUIRED}, {}),
    "dataset.Dataset.delete": ({"self": REQUIRED}, {}),
    "dataset.DatasetVersion.url": ({"self": REQUIRED}, {}),
    "dataset.DatasetVersion.list_files": ({"self": REQUIRED, "subdir": None}, {}),
    "dataset.DatasetReader.files": ({"self": REQUIRED}, {}),
    "dataset.DatasetReader.filesystem": ({"self": REQUIRED}, {}),
    "dataset.DatasetReader.to_snowpark_dataframe": ({"self": REQUIRED, "only_feature_cols": False}, {}),
    "ray.datasource.SFStageBinaryFileDataSource": (
        {},
        {"stage_location": REQUIRED, **WHERE, "local_path": None, "include_paths": False},
    ),
    "ray.datasource.SFStageImageDataSource": (
        {},
        {"stage_location": REQUIRED, **WHERE, "image_size": None, "image_mode": None, "include_paths": False},
    ),
    "ray.datasource.SFStageTextDataSource": ({}, {"stage_location": REQUIRED, **WHERE}),
    "ray.datasource.SFStageCSVDataSource": ({}, {"stage_location": REQUIRED, **WHERE}),
    "ray.datasource.SFStageParquetDataSource": ({}, {"stage_location": REQUIRED, **WHERE}),
    "ray.datasource.SFStageShardDataSource": (
        {},
        {
            "stage_location": REQUIRED,
            **WHERE,
            "file_pattern": "*.arrow",
            "columns": None,
            "use_file_cache": None,
        },
    ),
    "ray.datasink.SnowflakeTableDatasink": (
        {},
        {
            "table_name": REQUIRED,
            "database": None,
            "schema": None,
            "auto_create_table": False,
            "override": False,
        },
    ),
    "ray.stage_sharding.generate_shards": (
        {"src": REQUIRED, "dest": REQUIRED},
        {
            "file_pattern": None,
            "target_shard_size_mb": 256,
            "include_paths": True,
            "force_cleanup": False,
            "file_prefix": "shard",
            "overwrite": True,
            "database": None,
            "schema": None,
        },
    ),
}


def _found(path: str) -> Any:
    parts = path.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module("heliostat." + ".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for name in parts[length:]:
            found = getattr(found, name)
        return found
    pytest.fail(f"there is no {path}")


@pytest.mark.parametrize("call", CALLS)
def test_calls_take_what_is_documented(call: str) -> None:
    """Each parameter has its name, its place and its default; there may be more, all of them optional."""
    positional, named = CALLS[call]
    parameters = inspect.signature(_found(call)).parameters
    by_place = [p for p in parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert [(p.name, p.default) for p in by_place[: len(positional)]] == list(positional.items())
    for name, default in named.items():
        assert parameters[name].default == default, name
    more = [p for name, p in parameters.items() if name not in {**positional, **named}]
    assert all(p.default is not REQUIRED or p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL) for p in more)


def test_names_are_where_code_imports_them_from() -> None:
    """Classes and functions have the module paths that are documented."""
    assert data_connector.DataConnector is heliostat.data.DataConnector
    assert data_connector.DataConnector.DEFAULT_INGESTOR_CLASS is ArrowIngestor
    assert data_ingestor.DataIngestor is heliostat.data.DataIngestor
    assert sharded_data_connector.ShardedDataConnector is heliostat.data.ShardedDataConnector
    assert issubclass(heliostat.dataset.DatasetReader, heliostat.data.DataConnector)
    for name in ("name", "created_on", "comment", "label_cols", "exclude_cols"):
        assert isinstance(inspect.getattr_static(heliostat.dataset.DatasetVersion, name), property)
    for name in ("fully_qualified_name", "selected_version", "read"):
        assert isinstance(inspect.getattr_static(heliostat.dataset.Dataset, name), property)


def test_descriptions_of_sources_have_the_documented_fields() -> None:
    """They are frozen, and what is optional may be left out."""
    for kind, expected in (
        (data_source.DataFrameInfo, {"sql": MISSING, "query_id": None}),
        (
            data_source.DatasetInfo,
            {"fully_qualified_name": MISSING, "version": MISSING, "url": None, "exclude_cols": None},
        ),
    ):
        assert {field.name: field.default for field in fields(kind)} == expected
        assert hash(kind("a", "b")) == hash(kind("a", "b"))
