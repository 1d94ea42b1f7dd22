"""Stage sources, shards and the table sink, on a real runtime; stages in a directory and on S3."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import heliostat
from heliostat._stages import open_location
from heliostat.exceptions import ConfigurationError, DataError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.s3 import S3Server


@pytest.fixture(scope="module", autouse=True)
def runtime(tmp_path_factory: pytest.TempPathFactory, s3: S3Server) -> Iterator[Any]:
    """A runtime of two CPUs with a warehouse of its own, and the stages ``@local`` and ``@cloud``."""
    directory = tmp_path_factory.mktemp("stages")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in s3.environment.items():
            patch.setenv(name, value)
        patch.setenv("HELIOSTAT_STAGES", f"local={directory / 'local'}, cloud=s3://{s3.bucket}/stage")
        patch.setenv("HELIOSTAT_WAREHOUSE", str(directory / "warehouse.duckdb"))
        patch.setenv("TMPDIR", str(directory))
        started = heliostat.init(cpus=2)
        import ray

        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.execution_options.preserve_order = True
        yield started
        heliostat.get_active_session().close()
        heliostat.shutdown()


@pytest.fixture(params=["local", "cloud"])
def stage(request: pytest.FixtureRequest) -> str:
    """A place of this test on a stage."""
    return f"@{request.param}/{abs(hash(request.node.name)) % 10**8}"


def _write(place: str, **files: bytes) -> None:
    for name, content in files.items():
        open_location(place).join(name.replace("__", "/").replace("_", ".")).write_bytes(content)


def _png(array: Any) -> bytes:
    import io

    from PIL import Image

    target = io.BytesIO()
    Image.fromarray(array).save(target, "png")
    return target.getvalue()


def _rows(source: Any, **options: Any) -> list[dict[str, Any]]:
    import ray

    return list(ray.data.read_datasource(source, **options).take_all())


def test_binary_files_with_both_spellings(stage: str) -> None:
    """Bytes come verbatim with the name below the location, and a path that can be opened."""
    from heliostat.ray.datasource import SFStageBinaryFileDataSource

    odd = "b c#1?%20.bin"
    open_location(stage).join("img", odd).write_bytes(b"\x00odd")
    _write(stage, img__a_gz=b"\x1f\x8b not gzip", img2__c_bin=b"2", other__d_bin=b"3")
    rows = _rows(SFStageBinaryFileDataSource(stage_location=f"{stage}/img/", include_paths=True))
    assert {row["file_name"]: row["file_binary"] for row in rows} == {
        odd: b"\x00odd",
        "a.gz": b"\x1f\x8b not gzip",
    }
    assert {open_location(row["path"]).read_bytes() for row in rows} == {b"\x00odd", b"\x1f\x8b not gzip"}
    prefix = _rows(SFStageBinaryFileDataSource(stage_location=f"{stage}/img"))
    assert sorted(row["file_name"] for row in prefix) == ["img/a.gz", f"img/{odd}", "img2/c.bin"]
    some = SFStageBinaryFileDataSource(stage_location=stage + "/", file_pattern=["*.gz", "other/*"])
    assert sorted(row["file_name"] for row in _rows(some)) == ["img/a.gz", "other/d.bin"]


def test_images_have_the_documented_columns(stage: str) -> None:
    """Images are arrays; grey ones have two dimensions; names come as asked for."""
    from heliostat.ray.datasource import SFStageImageDataSource

    grey, colour = np.arange(12, dtype=np.uint8).reshape(3, 4), np.zeros((3, 4, 3), np.uint8)
    _write(stage, g_png=_png(grey), c_png=_png(colour))
    place = f"{stage}/"
    plain = _rows(SFStageImageDataSource(stage_location=place, file_pattern="g.*"))
    assert list(plain[0]) == ["image"]
    np.testing.assert_array_equal(plain[0]["image"], grey)
    rows = _rows(
        SFStageImageDataSource(
            stage_location=place, image_size=(2, 2), image_mode="RGB", include_paths="file_name"
        )
    )
    assert {row["file_name"].rpartition("/")[2]: row["image"].shape for row in rows} == {
        "g.png": (2, 2, 3),
        "c.png": (2, 2, 3),
    }
    with pytest.raises(ConfigurationError, match="image_size"):
        SFStageImageDataSource(stage_location=place, image_size=(0, 2))


def test_text_and_csv(stage: str) -> None:
    """Text has a row for each line, or for each file; CSV has its columns."""
    from heliostat.ray.datasource import SFStageCSVDataSource, SFStageTextDataSource

    _write(stage, a_txt="één\nzwei".encode(), b_csv=b"x,y\n1,u\n2,v\n")
    lines = _rows(SFStageTextDataSource(stage_location=f"{stage}/", file_pattern="*.txt"))
    assert lines == [{"text": "één", "file_name": "a.txt"}, {"text": "zwei", "file_name": "a.txt"}]
    whole = _rows(SFStageTextDataSource(stage_location=f"{stage}/a", whole_files=True))
    assert [row["text"] for row in whole] == ["één\nzwei"]
    table = _rows(SFStageCSVDataSource(stage_location=f"{stage}/", file_pattern="*.csv"))
    assert table == [{"x": 1, "y": "u"}, {"x": 2, "y": "v"}]


def test_csv_files_that_differ_are_refused(stage: str) -> None:
    """One set of columns and types holds for all files; whatever differs is named with its file."""
    from pyarrow.csv import ConvertOptions

    from heliostat.ray.datasource import SFStageCSVDataSource

    def rows(**options: Any) -> list[dict[str, Any]]:
        source = SFStageCSVDataSource(stage_location=f"{stage}/", **options)
        return _rows(source, override_num_blocks=1)

    # What the first file leaves open the next one says; the order of columns is of no matter.
    _write(stage, a_csv=b"x,y\n,u\n", b_csv=b"y,x\nv,2\n")
    assert rows() == [{"x": None, "y": "u"}, {"x": 2, "y": "v"}]
    bad: dict[bytes, str] = {
        b"x\n1\n": r"c\.csv has no column 'y', which .*a\.csv has",
        b"x,y,z\n1,u,1\n": r"a\.csv has no column 'z', which .*c\.csv has",
        b"y,x\nu,1.5\n": r"column 'x' of .*c\.csv cannot be read: .*int64: invalid value '1.5'",
        b"x,y\n" + b"1,u\n" * 300_000 + b"k,u\n": r"column 'x' of .*c\.csv .*invalid value 'k'",
        b"x,y\n1\n": r"c\.csv cannot be read: .*Expected 2 columns, got 1",
        b"": r"c\.csv cannot be read: Empty CSV file",
    }
    for content, says in bad.items():
        _write(stage, c_csv=content)
        with pytest.raises(DataError, match=says):
            rows()
    _write(stage, d__x_csv=b"x,x\n1,2\n")
    with pytest.raises(DataError, match=r"x\.csv has more than one column 'x'"):
        SFStageCSVDataSource(stage_location=f"{stage}/d/")
    open_location(stage).join("d").delete()
    _write(stage, c_csv=b"y,x\nu,1.5\n")
    floats = ConvertOptions(column_types={"x": pa.float64()})
    assert [row["x"] for row in rows(arrow_csv_args={"convert_options": floats})] == [None, 2, 1.5]
    assert floats.column_types == {"x": pa.float64()}


def test_parquet_reads_the_columns_that_are_asked_for(stage: str, s3: S3Server) -> None:
    """Of a wide file on S3, a narrow read fetches a small part."""
    import ray

    from heliostat.ray.datasource import SFStageParquetDataSource

    wide = {f"c{i}": np.random.default_rng(i).random(20_000) for i in range(20)}
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(wide), sink)
    content = sink.getvalue().to_pybytes()
    _write(stage, p_parquet=content)
    source = SFStageParquetDataSource(stage_location=f"{stage}/", file_pattern="*.parquet")
    before = s3.bytes_sent()
    table = ray.data.read_datasource(source).select_columns(["c3"]).to_pandas()
    np.testing.assert_array_equal(table["c3"], wide["c3"])
    if stage.startswith("@cloud"):
        assert 0 < s3.bytes_sent() - before < len(content) / 3


def test_parquet_files_that_cannot_be_read_are_named(stage: str) -> None:
    """Files that drift, are cut off, damaged inside or gone fail the read by name; paths can be opened."""
    from heliostat.ray.datasource import SFStageParquetDataSource

    def content(**columns: Any) -> bytes:
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table(columns), sink, compression="none", use_dictionary=False)
        return bytes(sink.getvalue().to_pybytes())

    good = content(n=range(1000), s=["x" * 20] * 1000)
    _write(stage, a_parquet=good, b_parquet=good)
    source = SFStageParquetDataSource(stage_location=f"{stage}/", include_paths=True)
    paths = {row["path"] for row in _rows(source)}
    assert sorted(open_location(path).name for path in paths) == ["a.parquet", "b.parquet"]
    damaged = good[:4] + b"\xff" * 60 + good[64:]  # where a page says how long it is
    for bad, says in (
        (content(n=range(10)), r"b\.parquet has no column 's', which .*a\.parquet has"),
        (content(n=[1.5], s=["x"]), r"column 'n' is of type double in .*b\.parquet"),
        (good[:-100], r"b\.parquet cannot be read"),
        (damaged, r"b\.parquet cannot be read"),
        (b"", r"b\.parquet cannot be read"),
    ):
        _write(stage, b_parquet=bad)
        with pytest.raises(DataError, match=says):
            _rows(SFStageParquetDataSource(stage_location=f"{stage}/"), override_num_blocks=1)
    open_location(stage).join("b.parquet").delete()
    with pytest.raises(DataError, match=r"b\.parquet is not there"):
        _rows(source)
    _write(stage, a_parquet=b"PAR1 but no more PAR1")
    with pytest.raises(DataError, match=r"a\.parquet cannot be read"):
        SFStageParquetDataSource(stage_location=f"{stage}/")
    with pytest.raises(ConfigurationError, match="include_paths='file_name'"):
        SFStageParquetDataSource(stage_location=f"{stage}/", include_paths="file_name")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"stage_location": "@local/none/"}, DataError, "no files"),
        ({"stage_location": "@local/", "file_pattern": "*.nope"}, DataError, "'\\*.nope'"),
        ({"stage_location": "@local/", "file_pattern": []}, ConfigurationError, "not a pattern"),
        ({"stage_location": ""}, ConfigurationError, "empty"),
        ({"stage_location": "@local/../up"}, ConfigurationError, "out of"),
        ({"stage_location": "@local/", "database": "db"}, ConfigurationError, "needs a schema"),
        ({"stage_location": "/tmp/", "schema": "s"}, ConfigurationError, "no stage"),
        ({"stage_location": "local/", "database": "db", "schema": "s"}, DataError, "no files"),
        ({"stage_location": "@local/", "file_cache_config": {"size": 1}}, ConfigurationError, "'size'"),
    ],
)
def test_what_cannot_be_read_is_refused_before_the_read(
    arguments: dict[str, Any], error: type[Exception], says: str
) -> None:
    """A bad location, pattern or setting is an error when the source is made."""
    from heliostat.ray.datasource import SFStageBinaryFileDataSource

    _write("@local/there", a_bin=b"1")
    with pytest.raises(error, match=says):
        SFStageBinaryFileDataSource(**arguments)


def test_a_file_that_is_broken_or_gone_is_named(stage: str) -> None:
    """A corrupt image, and an object that vanished after it was listed, fail the read by name."""
    from heliostat.ray.datasource import SFStageBinaryFileDataSource, SFStageImageDataSource

    _write(stage, bad_png=b"no image")
    with pytest.raises(DataError, match=r"bad\.png"):
        _rows(SFStageImageDataSource(stage_location=f"{stage}/"))
    source = SFStageBinaryFileDataSource(stage_location=f"{stage}/")
    open_location(stage).join("bad.png").delete()
    with pytest.raises(DataError, match=r"no file .*bad.png"):
        _rows(source)


def test_a_stage_that_was_dropped_is_not_read_from_the_cache(
    stage: str, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What workers have in the cache is not served once the stage is gone, or its name leads nowhere."""
    from heliostat.ray.datasource import SFStageBinaryFileDataSource

    def source() -> Any:
        return SFStageBinaryFileDataSource(stage_location=f"{stage}/", use_file_cache=True)

    _write(stage, a_bin=b"kept")
    for entry in open_location(stage).list():
        if path := entry.location.local_path:
            os.utime(path, (1000, 1000))  # local files are cached when they are some seconds old
    opened = source()
    assert [row["file_binary"] for row in _rows(opened)] == [b"kept"]
    fetched = s3.objects_fetched()
    assert [row["file_binary"] for row in _rows(opened)] == [b"kept"]
    assert s3.objects_fetched() == fetched
    with monkeypatch.context() as patch:
        patch.setenv("HELIOSTAT_STAGES", "")
        with pytest.raises(DataError, match="no files"):
            source()
    open_location(stage).delete()
    with pytest.raises(DataError, match=r"no file .*a\.bin"):
        _rows(opened)
    with pytest.raises(DataError, match="no files"):
        source()


def test_shards_keep_bytes_and_order(stage: str) -> None:
    """Shards hold the bytes verbatim in order; each is one task and one block."""
    import ray

    from heliostat.ray.datasource import SFStageShardDataSource
    from heliostat.ray.stage_sharding import generate_shards

    contents = {f"f{i:03d}.gz": os.urandom(40_000 + i) for i in range(60)}
    place = open_location(stage).join("in")
    for name, content in contents.items():
        place.join(name).write_bytes(content)
    shards = generate_shards(f"{stage}/in/", f"{stage}/out", target_shard_size_mb=0.5)
    assert len(shards) == 5
    data = ray.data.read_datasource(SFStageShardDataSource(stage_location=f"{stage}/out/")).materialize()
    assert data.num_blocks() == len(shards)
    rows = data.take_all()
    assert [row["bytes"] for row in rows] == list(contents.values())
    assert open_location(rows[7]["path"]).name == "f007.gz"
    narrow = _rows(SFStageShardDataSource(stage_location=f"{stage}/out/", columns=["path"]))
    assert list(narrow[0]) == ["path"]
    # Made anew, without a moment in which both or none are seen.
    generate_shards(f"{stage}/in/f00", f"{stage}/out", include_paths=False)
    assert [e.location.name for e in open_location(stage).join("out").list()] == [
        "_shard.shards.json",
        *_arrow(stage),
    ]
    again = _rows(SFStageShardDataSource(stage_location=f"{stage}/out/"))
    assert [row["bytes"] for row in again] == list(contents.values())[:10]


def _arrow(stage: str) -> list[str]:
    found = [entry.location.name for entry in open_location(stage).join("out").list()]
    return [name for name in found if name.endswith(".arrow")]


def test_shards_that_are_not_whole_are_refused() -> None:
    """A set with a shard missing is refused; a pack that fails leaves the old set as it was."""
    from heliostat.ray.datasource import SFStageShardDataSource
    from heliostat.ray.stage_sharding import generate_shards

    stage = "@local/whole"
    _write(stage, in__a=b"1", in__b=b"2")
    shards = generate_shards(f"{stage}/in/", f"{stage}/out", target_shard_size_mb=0.000001)
    assert len(shards) == 2
    with pytest.raises(DataError, match="already"):
        generate_shards(f"{stage}/in/", f"{stage}/out", overwrite=False)
    with pytest.raises(ConfigurationError, match="outside of src"):
        generate_shards(f"{stage}/", f"{stage}/out", force_cleanup=True)
    unreadable = open_location(stage).join("in", "c")
    Path(unreadable.path).symlink_to("/proc/self/mem")
    with pytest.raises(DataError, match="in/c"):
        generate_shards(f"{stage}/in/", f"{stage}/out")
    Path(unreadable.path).unlink()
    assert len(_arrow(stage)) == 2
    assert len(_rows(SFStageShardDataSource(stage_location=f"{stage}/out/"))) == 2
    generate_shards(f"{stage}/in/", f"{stage}/out", file_prefix="z", include_paths=False)
    with pytest.raises(DataError, match=r"out/z-.*arrow has no column 'path', which .*shard-.* has"):
        _rows(SFStageShardDataSource(stage_location=f"{stage}/out/"))
    both = SFStageShardDataSource(stage_location=f"{stage}/out/", columns=["bytes"])
    assert sorted(row["bytes"] for row in _rows(both)) == [b"1", b"1", b"2", b"2"]
    open_location(shards[1]).delete()
    with pytest.raises(DataError, match="not complete"):
        SFStageShardDataSource(stage_location=f"{stage}/out/")


def test_wrong_credentials_are_told(monkeypatch: pytest.MonkeyPatch, s3: S3Server) -> None:
    """An S3 server that refuses the key makes an error with its address and without the secret."""
    from heliostat.ray.datasource import SFStageBinaryFileDataSource

    _write("@cloud/secret", a_bin=b"1")
    with s3.asking_for_credentials():
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wr0ngsecret")
        with pytest.raises(DataError, match="@cloud/secret") as refused:
            SFStageBinaryFileDataSource(stage_location="@cloud/secret/")
    assert "wr0ngsecret" not in str(refused.value)


def _dataset(count: int, **columns: Any) -> Any:
    import ray

    return ray.data.range(count, override_num_blocks=4).map_batches(
        lambda batch: {"x": batch["id"], **{name: make(batch["id"]) for name, make in columns.items()}}
    )


def test_the_sink_writes_all_rows_of_all_workers() -> None:
    """A table is made, appended to and replaced, from several blocks."""
    from heliostat.ray.datasink import SnowflakeTableDatasink

    session = heliostat.get_active_session()
    left = session.path.parent / "sinks" / "of-a-killed-process"
    left.mkdir(parents=True)
    (left / "lock").touch()
    with pytest.raises(DataError, match=r"no table 'raw.numbers'"):
        _dataset(10).write_datasink(SnowflakeTableDatasink(table_name="numbers", schema="raw"))
    sink = SnowflakeTableDatasink(table_name="db.raw.numbers", auto_create_table=True)
    for _ in range(2):
        _dataset(1000, y=lambda ids: ids / 2).write_datasink(sink)
    found = session.table("raw.numbers").aggregate("count(*), sum(x), sum(y)").fetchall()
    assert found == [(2000, 999_000, 499_500.0)]
    _dataset(10).write_datasink(
        SnowflakeTableDatasink(table_name="raw.numbers", database="db", schema="ignored", override=True)
    )
    assert session.table("raw.numbers").count("*").fetchall() == [(10,)]
    assert not left.exists()


def test_a_write_that_fails_changes_nothing() -> None:
    """When one block fails, or the rows do not fit, the table is as it was and no file is left."""
    from heliostat.ray.datasink import SnowflakeTableDatasink

    session = heliostat.get_active_session()
    sink = SnowflakeTableDatasink(table_name="kept", auto_create_table=True)
    _dataset(8).write_datasink(sink)

    def fail_late(ids: Any) -> Any:
        if ids.max() == 999:
            message = "the last block"
            raise ValueError(message)
        return ids

    with pytest.raises(Exception, match="the last block"):
        _dataset(1000, y=fail_late).write_datasink(sink)
    with pytest.raises(DataError, match="could not be saved"):
        _dataset(8, y=lambda ids: ids).write_datasink(sink)
    with pytest.raises(DataError, match="'image'"):
        _dataset(8, image=lambda ids: np.zeros((len(ids), 2, 2))).write_datasink(sink)
    assert session.table("kept").count("*").fetchall() == [(8,)]
    assert list((session.path.parent / "sinks").iterdir()) == []
