"""Directories of files that several ranks write together, and that appear whole or not at all.

On a filesystem that renames, the files are written aside, and the directory takes its name at the
end. An object store cannot do that; there a marker, written last, says that all is there.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heliostat._location import Location, told

if TYPE_CHECKING:
    from collections.abc import Iterator

MARKER = ".complete"


@dataclass(frozen=True)
class Committed:
    """A directory in the making; every rank makes the same one."""

    final: Location

    @property
    def aside(self) -> Location:
        """Where ranks write before the commit."""
        if self.final.local_path is None:
            return self.final
        parent, _, name = self.final.path.rpartition("/")
        return Location(self.final.filesystem, f"{parent}/.heliostat-{name}.part", self.final.url)

    def add(self, filesystem: Any, path: str) -> int:
        """Copy the files below ``path`` in; returns how many. Any rank may call it.

        Raises
        ------
        DataError
            They cannot be written.
        """
        import pyarrow.fs as pa_fs

        with told(self.final, "written"):
            selector = pa_fs.FileSelector(path, recursive=True)
            infos = filesystem.get_file_info(selector)
            if self.final.local_path is not None:
                self.final.filesystem.create_dir(self.aside.path, recursive=True)
                for info in infos:
                    if not info.is_file:
                        below = info.path[len(path.rstrip("/")) + 1 :]
                        self.final.filesystem.create_dir(f"{self.aside.path}/{below}", recursive=True)
            files = [info for info in infos if info.is_file]
            if files:
                pa_fs.copy_files(
                    path,
                    self.aside.path,
                    source_filesystem=filesystem,
                    destination_filesystem=self.final.filesystem,
                )
            return len(files)

    def commit(self) -> None:
        """Let the directory appear. One rank calls it, when all have added. Raises DataError."""
        with told(self.final, "written"):
            if self.final.local_path is not None:
                self.final.filesystem.create_dir(self.aside.path, recursive=True)
                Path(self.aside.path).rename(self.final.local_path)
            else:
                self.final.join(MARKER).write_bytes(b"")

    def discard(self) -> None:
        """Remove what was added and not committed."""
        with contextlib.suppress(Exception):
            self.aside.delete()


@contextlib.contextmanager
def as_directory(location: Location) -> Iterator[Path]:
    """Have the files of ``location`` in a directory of this machine; do not change them.

    Raises
    ------
    DataError
        They cannot be read.
    """
    import tempfile

    if location.local_path is not None:
        yield location.local_path
        return
    with tempfile.TemporaryDirectory(prefix="heliostat-checkpoint-") as directory:
        download(location, Path(directory))
        yield Path(directory)


def download(location: Location, directory: Path) -> list[str]:
    """Copy the files of ``location`` into ``directory``; returns their names. Raises DataError."""
    names = []
    for entry in location.list():
        name = entry.location.path[len(location.path.rstrip("/")) + 1 :]
        if name == MARKER:
            continue
        target = directory / (name or entry.location.name)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(entry.location.read_bytes())
        names.append(name)
    return names
