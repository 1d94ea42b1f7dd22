"""The file cache of a node, before a real S3 server and before a directory."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import pyarrow.fs as pa_fs
import pytest
from tests.support.owner import wait_for

from heliostat._file_cache import FileCacheConfig, cached_filesystem
from heliostat._file_cache._store import Store, TooLargeError, entry_key
from heliostat.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.s3 import S3Server


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    """Settings of a cache of this test alone, which is looked after at each write."""
    return {"cache_dir": str(tmp_path / "cache"), "evict_interval_sec": 0}


def _bucket(s3: S3Server, secret: str = "secret") -> Any:
    return pa_fs.S3FileSystem(
        endpoint_override=s3.endpoint, region="us-east-1", access_key="key", secret_key=secret
    )


def _put(filesystem: Any, path: str, content: bytes) -> None:
    with filesystem.open_output_stream(path) as file:
        file.write(content)


def _get(filesystem: Any, path: str) -> bytes:
    with filesystem.open_input_stream(path) as file:
        content: bytes = file.read()
    return content


def _fill(content: bytes) -> Callable[[IO[bytes]], None]:
    def write(file: IO[bytes]) -> None:
        file.write(content)

    return write


def _entries(settings: dict[str, Any]) -> list[Path]:
    return sorted(FileCacheConfig.of(settings).directory.glob("??/*"))


def test_a_second_read_comes_from_disk(s3: S3Server, settings: dict[str, Any]) -> None:
    """What was read is served from disk, in other processes too, while the source has not changed."""
    plain = _bucket(s3)
    path = f"{s3.bucket}/cache/second"
    _put(plain, path, os.urandom(300_000))
    cached = cached_filesystem(plain, None, settings)
    first = _get(cached, path)
    sent = s3.bytes_sent()
    assert _get(cached, path) == first
    program = (
        "import pickle, sys; filesystem, path = pickle.load(sys.stdin.buffer)\n"
        "sys.stdout.buffer.write(filesystem.open_input_stream(path).read())"
    )
    asked = pickle.dumps((cached, path))
    other = subprocess.run([sys.executable, "-c", program], input=asked, capture_output=True, check=True)
    assert other.stdout == first
    assert s3.bytes_sent() - sent < 10_000


def test_a_changed_object_is_read_anew(s3: S3Server, settings: dict[str, Any]) -> None:
    """A new content of the same length at the same second is noticed; one that is gone is an error."""
    plain = _bucket(s3)
    path = f"{s3.bucket}/cache/changed"
    cached = cached_filesystem(plain, None, settings)
    for content in (b"first", b"other"):
        _put(plain, path, content)
        assert _get(cached, path) == content
    plain.delete_file(path)
    with pytest.raises(FileNotFoundError):
        _get(cached, path)


def test_who_may_not_read_is_not_served(s3: S3Server, settings: dict[str, Any]) -> None:
    """What another reader brought into the cache is refused to one whom the source refuses."""
    path = f"{s3.bucket}/cache/secret"
    _put(_bucket(s3), path, b"for some")
    assert _get(cached_filesystem(_bucket(s3), None, settings), path) == b"for some"
    assert len(_entries(settings)) == 1
    with s3.asking_for_credentials(), pytest.raises(OSError, match=r"(?i)access.denied|forbidden|403"):
        _get(cached_filesystem(_bucket(s3, "wrong"), None, settings), path)


def test_parts_of_a_file_are_cached_alone(s3: S3Server, settings: dict[str, Any]) -> None:
    """A read here and there fetches no more than its parts, and the same parts come from disk."""
    plain = _bucket(s3)
    path = f"{s3.bucket}/cache/parts"
    content = os.urandom(1_000_000)
    _put(plain, path, content)
    cached = cached_filesystem(plain, None, settings)
    sent = s3.bytes_sent()
    for _ in range(2):
        with cached.open_input_file(path) as file:
            assert file.read_at(1000, 500_000) == content[500_000:501_000]
            assert file.size() == len(content)
    assert s3.bytes_sent() - sent < 10_000
    assert len(_entries(settings)) == 1


def test_local_files_are_cached_when_asked(tmp_path: Path, settings: dict[str, Any]) -> None:
    """Files of a mounted disk are cached only on demand, and a change of size or time is noticed."""
    local = pa_fs.LocalFileSystem()
    assert cached_filesystem(local, None, settings) is local
    assert cached_filesystem(local, use_file_cache=False) is local
    cached = cached_filesystem(local, use_file_cache=True, file_cache_config=settings)
    path = tmp_path / "file"
    for seconds, content in ((1000, b"one"), (2000, b"two")):
        path.write_bytes(content)
        os.utime(path, (seconds, seconds))
        assert [_get(cached, str(path)) for _ in range(2)] == [content] * 2
    assert len(_entries(settings)) == 2
    path.write_bytes(b"now")
    assert _get(cached, str(path)) == b"now"
    assert len(_entries(settings)) == 2  # it could change again within a tick of the clock


_READ_WITHOUT_PRIVILEGES = """
import ctypes, struct, sys
header, nothing = struct.pack("Ii", 0x20080522, 0), bytes(24)
assert ctypes.CDLL(None).capset(header, nothing) == 0  # also root is stopped by the mode of a file now
import pickle
cached, path = pickle.load(sys.stdin.buffer)
for open_ in (cached.open_input_stream, cached.open_input_file):
    try:
        print(open_(path).read())
    except PermissionError:
        print("refused")
"""


def test_a_local_file_that_may_not_be_read_any_more_is_refused(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    """What the same user brought into the cache is refused once the file's mode forbids it."""
    path = tmp_path / "file"
    path.write_bytes(b"content")
    os.utime(path, (1000, 1000))
    cached = cached_filesystem(pa_fs.LocalFileSystem(), use_file_cache=True, file_cache_config=settings)
    answers = []
    for mode in (0o400, 0):
        path.chmod(mode)
        told = subprocess.run(
            [sys.executable, "-c", _READ_WITHOUT_PRIVILEGES],
            input=pickle.dumps((cached, str(path))),
            capture_output=True,
            check=True,
        )
        answers.append(told.stdout.decode().split())
    assert answers == [["b'content'"] * 2, ["refused"] * 2]
    assert len(_entries(settings)) == 2  # as a whole, and as a part


def test_what_was_not_used_for_longest_goes(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Above the limit, entries go in the order of their last use; one larger than all is not kept."""
    store = Store(FileCacheConfig.of(settings))
    monkeypatch.setattr(Store, "_limit", lambda *_: 1000.0)
    keys = [entry_key(str(index)) for index in range(5)]
    for at, key in enumerate(keys[:4]):
        store.put(key, 240, _fill(b"x" * 240)).close()
        os.utime(store._path(key), (at, at))
    used = store.get(keys[0])
    assert used is not None
    used.close()
    store.put(keys[4], 240, _fill(b"x" * 240)).close()
    assert [key in {path.name for path in _entries(settings)} for key in keys] == [
        True,
        False,
        False,
        True,
        True,
    ]
    with pytest.raises(TooLargeError):
        store.put(entry_key("large"), 1001, lambda _: None)


_WRITE = """
import os, pickle, signal, sys
from heliostat._file_cache._store import entry_key
store, name = pickle.load(sys.stdin.buffer)
def fill(content, file):
    file.write(content[:20_000])
    file.flush()
    if name == 3 and content[0] == 20:
        os.kill(os.getpid(), signal.SIGKILL)
    file.write(content[20_000:])
for number in range(60):
    content = bytes([number]) * 50_000
    with store.put(entry_key(f"{name} {number}"), 50_000, lambda file: fill(content, file)) as file:
        assert file.read() == content
"""


@pytest.mark.parametrize("interval", [0, 3600])
def test_several_processes_stay_below_the_limit(settings: dict[str, Any], interval: int) -> None:
    """However many write at once, and one dies, the directory never holds more, between evictions too."""
    directory = FileCacheConfig.of(settings).directory
    directory.parent.mkdir(parents=True)
    percent = 100 * 600_000 / shutil.disk_usage(directory.parent).total
    store = Store(FileCacheConfig.of({**settings, "max_disk_pct": percent, "evict_interval_sec": interval}))
    writers = [subprocess.Popen([sys.executable, "-c", _WRITE], stdin=subprocess.PIPE) for _ in range(4)]
    for name, writer in enumerate(writers):
        assert writer.stdin is not None
        writer.stdin.write(pickle.dumps((store, name)))
        writer.stdin.close()
    most = 0
    while any(writer.poll() is None for writer in writers):
        with (store.directory / "book").open("a") as book:
            fcntl.flock(book, fcntl.LOCK_EX)  # nobody takes room meanwhile
            files = [*(store.directory / "writing").iterdir(), *store.directory.glob("??/*")]
            sizes: dict[int, int] = {}  # one that got its name between the two looks counts once
            for path in files:
                with contextlib.suppress(FileNotFoundError):
                    sizes[path.stat().st_ino] = path.stat().st_size
            most = max(most, sum(sizes.values()))
    assert [writer.returncode for writer in writers] == [0, 0, 0, -signal.SIGKILL]
    assert 450_000 < most <= 600_000
    # What the killed one left goes as well, and its room is free again.
    for number in range(20):
        store.put(entry_key(f"after {number}"), 50_000, _fill(bytes(50_000))).close()
    assert sum(path.stat().st_size for path in _entries(settings)) <= 600_000
    assert list((store.directory / "writing").iterdir()) == []


def test_a_killed_writer_leaves_nothing_half(settings: dict[str, Any]) -> None:
    """After ``kill -9`` in the middle of a write there is no entry, and the next writer makes it whole."""
    config = FileCacheConfig.of(settings)
    store, key = Store(config), entry_key("killed")
    program = (
        "import pickle, sys, time; store, key = pickle.load(sys.stdin.buffer)\n"
        "def fill(file):\n file.write(b'half'); file.flush(); print('half', flush=True); time.sleep(60)\n"
        "store.put(key, 8, fill)"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(pickle.dumps((store, key)))
    process.stdin.close()
    assert process.stdout.readline() == b"half\n"
    assert store.get(key) is None
    done: list[bytes] = []

    def write() -> None:
        with store.put(key, 8, _fill(b"complete")) as file:
            done.append(file.read())

    waiting = threading.Thread(target=write)
    waiting.start()
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    waiting.join(20)
    assert done == [b"complete"]
    assert list((config.directory / "writing").iterdir()) == []


def test_several_who_want_the_same_fetch_it_once(settings: dict[str, Any]) -> None:
    """Readers that come at the same time wait for one of them."""
    store, key, fetched = Store(FileCacheConfig.of(settings)), entry_key("shared"), []
    begun = threading.Event()

    def fill(file: Any) -> None:
        fetched.append(1)
        begun.wait(20)
        file.write(b"content")

    threads = [threading.Thread(target=lambda: store.put(key, 7, fill).close()) for _ in range(4)]
    for thread in threads:
        thread.start()
    wait_for(lambda: fetched, 10)
    begun.set()
    for thread in threads:
        thread.join(20)
    assert fetched == [1]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"max_disk": 5}, "'max_disk'"),
        ({"max_disk_pct": 0}, "max_disk_pct"),
        ({"max_disk_pct": 101}, "max_disk_pct"),
        ({"max_disk_pct": "50"}, "not a number"),
        ({"evict_interval_sec": -1}, "evict_interval_sec"),
        ({"disk_subdir": "../up"}, "disk_subdir"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(given: dict[str, Any], says: str) -> None:
    """An unknown key and a value out of range are errors that name the setting."""
    with pytest.raises(ConfigurationError, match=says):
        cached_filesystem(pa_fs.LocalFileSystem(), use_file_cache=True, file_cache_config=given)


def test_the_cache_is_private_and_its_size_a_setting(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody else can look into the cache; the environment sets its share of the disk."""
    store = Store(FileCacheConfig.of(settings))
    assert store.directory.stat().st_mode & 0o777 == 0o700
    monkeypatch.setenv("MLRS_FILE_CACHE_MAX_DISK_PCT", "7")
    assert FileCacheConfig().max_disk_pct == 7
    taken = Path(settings["cache_dir"]) / "taken"
    taken.symlink_to("/tmp")
    with pytest.raises(ConfigurationError, match="not one of yours"):
        _ = Store(FileCacheConfig.of({**settings, "disk_subdir": "taken"})).directory
