"""Names of places, on real directories and on a real S3 server."""

from __future__ import annotations

import io
import os
import pickle
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from heliostat._stage_files import StageFiles
from heliostat._stages import Location, open_location, open_stage, stages
from heliostat.exceptions import ConfigurationError, DataError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BUCKET = "heliostat-test"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """A real S3 server with an empty bucket."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    address = f"http://{host}:{port}"
    import pyarrow.fs as pa_fs

    maker = pa_fs.S3FileSystem(
        endpoint_override=address,
        region="us-east-1",
        access_key="key",
        secret_key="secret",
        allow_bucket_creation=True,
    )
    maker.create_dir(BUCKET)
    yield address
    server.stop()


@pytest.fixture(params=["local", "s3"])
def stage(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Location:
    """The stage ``@work`` in a directory, and in a bucket."""
    if request.param == "s3":
        monkeypatch.setenv("AWS_ENDPOINT_URL", request.getfixturevalue("endpoint"))
        monkeypatch.setenv("AWS_REGION", "us-east-1")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        target = f"s3://{BUCKET}/{tmp_path.name}"
    else:
        target = str(tmp_path / "work")
    monkeypatch.setenv("HELIOSTAT_STAGES", f"work={target}, other=/nowhere")
    return open_stage("@WORK")


def test_files_are_written_found_read_and_deleted(stage: Location) -> None:
    """A file that was written can be listed by prefix, read, and removed, in both kinds of stage."""
    assert stage.list() == []
    for name in ("img/1.png", "img/deep/2 %?.png", "img2/3.png"):
        stage.join(name).write_bytes(name.encode())
    assert [e.location.url for e in stage.list("img/")] == ["@work/img/1.png", "@work/img/deep/2 %?.png"]
    assert [e.location.name for e in stage.list("img")] == ["1.png", "2 %?.png", "3.png"]
    assert [e.size for e in stage.join("img").list()] == [9, 17]
    assert all(e.modified for e in stage.list())
    found = open_location("@work/img/deep/2 %?.png")
    assert found.read_bytes() == b"img/deep/2 %?.png"
    assert stage.join("img").is_directory()
    found.delete()
    assert not found.exists()
    stage.join("img").delete()
    assert [e.location.url for e in stage.list()] == ["@work/img2/3.png"]


def test_a_failed_write_leaves_what_was_there(stage: Location) -> None:
    """When the writer raises, the old file stays and nothing else is left."""
    place = stage.join("a/model.bin")
    place.write_bytes(b"old")
    with pytest.raises(ZeroDivisionError), place.open_output() as file:
        file.write(b"new" + bytes(1 // (file.write(b"new") - 3)))
    assert place.read_bytes() == b"old"
    raw = stage.filesystem.get_file_info([f"{stage.path}/a/model.bin", f"{stage.path}/a"])
    assert raw[0].size == 3
    import pyarrow.fs as pa_fs

    assert len(stage.filesystem.get_file_info(pa_fs.FileSelector(f"{stage.path}/a"))) == 1


def test_a_killed_writer_leaves_what_was_there(tmp_path: Path) -> None:
    """A process killed while it writes leaves the old file, and one that is not listed, and is collected."""
    place = open_location(tmp_path / "model.bin")
    place.write_bytes(b"old")
    code = (
        "import sys\nfrom heliostat._stages import open_location\n"
        "with open_location(sys.argv[1]).open_output() as file:\n"
        "    file.write(b'new' * 100000); file.flush(); print('half', flush=True); input()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, place.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "half\n"
        os.kill(writer.pid, signal.SIGKILL)
    assert place.read_bytes() == b"old"
    (left,) = [path for path in tmp_path.iterdir() if path.name != "model.bin"]
    beside = [sys.executable, "-m", "heliostat", "collect", "@garbage"]
    environment = {**os.environ, "HELIOSTAT_STAGES": f"garbage={tmp_path}"}

    def collect(*options: str) -> str:
        done = subprocess.run(
            [*beside, *options], env=environment, capture_output=True, text=True, check=True, timeout=60
        )
        return done.stdout.strip()

    assert collect() == "Nothing to clean up."  # it may be that of a writer at work
    assert collect("--older-than", "0", "--dry-run") == f"@garbage/{left.name}"
    assert left.exists()
    assert collect("--older-than", "0") == f"@garbage/{left.name}"
    assert list(tmp_path.iterdir()) == [tmp_path / "model.bin"]
    assert [e.location.name for e in open_location(tmp_path).list()] == ["model.bin"]


def test_a_place_travels_to_another_process(stage: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pickled place opens where the variables that describe it are not set."""
    stage.join("x").write_bytes(b"1")
    data = pickle.dumps(stage.join("x"))
    for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "HELIOSTAT_STAGES"):
        monkeypatch.delenv(name, raising=False)
    assert pickle.loads(data).read_bytes() == b"1"
    assert "secret" not in repr(pickle.loads(data))


@pytest.mark.parametrize(
    "path", ["@s/../x", "@s/a/../../x", "s/../../x", "@s//../x", "@../x", "@/x", "@", ""]
)
def test_no_path_leads_out_of_a_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    """A path that leaves its stage, or names none, is refused before anything is opened."""
    monkeypatch.setenv("HELIOSTAT_STAGES", f"s={tmp_path / 's'}")
    with pytest.raises(ConfigurationError, match=r"leads out of|does not begin with|is empty"):
        open_location(path)
    with pytest.raises(ConfigurationError, match="leads out of @s"):
        open_location("@s/a").join("../../x")
    assert open_location("@s/a/../b").url == "@s/b"


def test_names_without_a_sign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``name/path`` is a stage if there is one, a path if there is none, refused if both are there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.delenv("HELIOSTAT_STAGES", raising=False)
    assert open_location("made/a").path == str(tmp_path / "made/a")
    open_location("@made/a").write_bytes(b"1")
    assert open_location("made/a").path == str(tmp_path / "data/heliostat/stages/made/a")
    assert stages() == {"made": str(tmp_path / "data/heliostat/stages/made")}
    (tmp_path / "made").mkdir()
    with pytest.raises(ConfigurationError, match=r"'@made/a' or './made/a'"):
        open_location("made/a")
    assert open_location("./made/a").path == str(tmp_path / "made/a")
    assert open_location((tmp_path / "a b").as_uri()).path == str(tmp_path / "a b")


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("file://host/x", "another machine"),
        ("s3:///key", "names no bucket"),
        ("nothing://x/y", "nothing"),
        ("@a.b.c.d/x", "does not begin"),
        ("a\0b", "null character"),
    ],
)
def test_what_cannot_be_understood_is_refused(location: str, message: str) -> None:
    """The error says what is wrong with the name."""
    with pytest.raises(ConfigurationError, match=message):
        open_location(location)


def test_errors_name_the_place(stage: Location) -> None:
    """Reading or deleting what is not there says which file it was."""
    with pytest.raises(DataError, match="There is no file @work/no"):
        stage.join("no").read_bytes()
    with pytest.raises(DataError, match="There is no file @work/no"):
        stage.join("no").delete()
    stage.join("d/f").write_bytes(b"")
    with pytest.raises(DataError, match="is a directory"):
        stage.join("d").write_bytes(b"")
    assert stage.list("no") == []


def test_settings_that_say_nothing_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken part of HELIOSTAT_STAGES is quoted."""
    monkeypatch.setenv("HELIOSTAT_STAGES", "a=/x,b")
    with pytest.raises(ConfigurationError, match="the part 'b'"):
        open_location("@a/x")


def test_files_are_copied_opened_and_listed(stage: Location, tmp_path: Path) -> None:
    """Session.file has Snowpark's verbs; a file that is there stays unless it is told otherwise."""
    files = StageFiles()
    for name in ("a.txt", "b.txt", "c.bin"):
        tmp_path.joinpath(name).write_text(name)
    put = files.put(tmp_path / "*.txt", "@work/in")
    assert [(each.source, each.target_size, each.status) for each in put] == [
        ("a.txt", 5, "UPLOADED"),
        ("b.txt", 5, "UPLOADED"),
    ]
    tmp_path.joinpath("a.txt").write_text("another")
    (kept,) = files.put(str(tmp_path / "a.txt"), "@work/in")
    assert (kept.status, kept.source_size, kept.target_size) == ("SKIPPED", 7, 5)
    assert files.put(tmp_path / "a.txt", "@work/in", overwrite=True)[0].status == "UPLOADED"
    files.put(tmp_path / "c.bin", "@work/in/deep")
    assert [(entry.name, entry.size) for entry in files.list("@work")] == [
        ("@work/in/a.txt", 7),
        ("@work/in/b.txt", 5),
        ("@work/in/deep/c.bin", 5),
    ]
    assert [each.file for each in files.get("@work/in", tmp_path / "out")] == ["a.txt", "b.txt", "deep/c.bin"]
    assert (tmp_path / "out" / "a.txt").read_text() == "another"
    assert files.get("@work/in/a.txt", tmp_path / "one")[0].file == "a.txt"
    some = files.get("@work/in", tmp_path / "some", pattern=r".*\.bin")
    assert [each.file for each in some] == ["deep/c.bin"]
    tmp_path.joinpath("a[1].txt").write_text("brackets")
    assert files.put(tmp_path / "a[1].txt", "@work/odd")[0].source == "a[1].txt"
    with files.get_stream("@work/in/a.txt") as stream:
        stream.seek(3)
        assert stream.read() == b"ther"
    assert files.put_stream(io.BytesIO(b"new"), "@work/new.bin").target_size == 3
    with pytest.raises(ConfigurationError, match=r"@work/new\.bin is there already"):
        files.put_stream(io.BytesIO(b"other"), "@work/new.bin")
    with pytest.raises(DataError, match="no file @work/none"):
        files.get("@work/none", tmp_path)
    with pytest.raises(DataError, match="no file @work/none"):
        files.get_stream("@work/none")
    with pytest.raises(DataError, match=r"no file .*none"):
        files.put(tmp_path / "none", "@work/in")
    with pytest.raises(DataError, match="matches 'x'"):
        files.get("@work/in", tmp_path, pattern="x")
    with pytest.raises(ConfigurationError, match="no regular expression"):
        files.get("@work/in", tmp_path, pattern="*.bin")
    with pytest.raises(ConfigurationError, match="auto_compress=True"):
        files.put(tmp_path / "a.txt", "@work/in", auto_compress=True)
