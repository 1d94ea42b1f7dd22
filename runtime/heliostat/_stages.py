"""Names of places: ``@stage/path``, paths and URLs, turned into something to read and write.

A stage is a name for a directory or for a prefix of an object store. Unless ``HELIOSTAT_STAGES``
says where a stage is, it is the directory ``stages/<name>`` in the user's data directory, made
when the first file is written. Names of stages are the same in upper and lower case.
"""

from __future__ import annotations

import os
import re
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from heliostat._location import Entry, Location, inner_parts
from heliostat._paths import data_directory
from heliostat._settings import setting
from heliostat.exceptions import ConfigurationError

__all__ = ["Entry", "Location", "open_location", "open_stage", "stages"]

_VARIABLE = "HELIOSTAT_STAGES"
_NAME = re.compile(r"[a-z0-9_$-]+(\.[a-z0-9_$-]+){0,2}")
_SCHEME = re.compile(r"(?P<scheme>[a-zA-Z][a-zA-Z0-9+.-]*)://(?P<rest>.*)", re.DOTALL)
_S3 = ("s3", "s3a", "s3n")
_S3_VARIABLES = (
    ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
    ("AWS_REGION", "AWS_DEFAULT_REGION"),
    ("AWS_ACCESS_KEY_ID",),
    ("AWS_SECRET_ACCESS_KEY",),
    ("AWS_SESSION_TOKEN",),
)
_ARROW = ("abfs", "abfss", "gcs", "gs", "hdfs", "viewfs")


def open_location(location: str | os.PathLike[str]) -> Location:
    """Turn the name of a place into the place. Nothing is read or made.

    Parameters
    ----------
    location:
        ``@stage/path``, a path, ``file://``, ``s3://bucket/key``, or a URL that Arrow or fsspec
        knows. ``stage/path`` without the ``@`` is a stage if one of that name is there, and else
        a path.

    Raises
    ------
    ConfigurationError
        The name cannot be understood, leads out of its stage, or could mean two places.
    """
    text = os.fspath(location)
    if not text:
        message = "The location is empty."
        raise ConfigurationError(message, "Pass @stage/path, a path, or a URL.")
    if text.startswith("@"):
        return open_stage(text)
    if _SCHEME.fullmatch(text):
        return _of_url(text)
    first = text.partition("/")[0]
    if not text.startswith(("/", "~")) and first.lower() in stages():
        if Path(first).exists():
            message = f"{text!r} could be in the stage @{first} or in the directory {Path(first).absolute()}."
            raise ConfigurationError(message, f"Write '@{text}' or './{text}'.", location=text)
        return open_stage(text)
    return _of_path(text)


def open_stage(location: str) -> Location:
    """Turn ``@stage/path`` or ``stage/path`` into the place.

    Raises
    ------
    ConfigurationError
        The name of the stage is not one, or the path leads out of the stage.
    """
    name, _, path = location.removeprefix("@").partition("/")
    folded = name.lower()
    if not _NAME.fullmatch(folded):
        message = f"{location!r} does not begin with the name of a stage."
        action = "Write @stage/path; names have letters, digits, '_', '$', '-', and up to two dots."
        raise ConfigurationError(message, action, location=location)
    root = _root(folded)
    parts = inner_parts(path, f"@{folded}")
    return Location(root.filesystem, root.path, f"@{folded}").join(*parts)


def stages() -> dict[str, str]:
    """Return the stages that are there, by name, each with its directory or URL."""
    found = {}
    default = data_directory() / "stages"
    if default.is_dir():
        found = {path.name: str(path) for path in sorted(default.iterdir()) if path.is_dir()}
    return {**found, **_configured()}


def _root(name: str) -> Location:
    target = _configured().get(name)
    if target is None:
        return _of_path(str(data_directory() / "stages" / name))
    return _of_url(target) if _SCHEME.fullmatch(target) else _of_path(target)


def _configured() -> dict[str, str]:
    """What HELIOSTAT_STAGES says: ``name=directory,name=s3://bucket/prefix``."""
    found = {}
    for part in filter(None, (p.strip() for p in setting(_VARIABLE).split(","))):
        name, equals, target = (piece.strip() for piece in part.partition("="))
        folded = name.removeprefix("@").lower()
        if not equals or not target or not _NAME.fullmatch(folded):
            message = f"{_VARIABLE} has the part {part!r}, which does not say where a stage is."
            raise ConfigurationError(
                message, f"Write {_VARIABLE}='name=/directory,other=s3://bucket/prefix'."
            )
        found[folded] = target
    return found


def _of_path(text: str) -> Location:
    import pyarrow.fs as pa_fs

    if "\0" in text:
        message = f"The path {text!r} holds a null character."
        raise ConfigurationError(message, "Remove it.", path=text)
    path = os.path.abspath(Path(text).expanduser())  # noqa: PTH100 - Path keeps ".."
    return Location(pa_fs.LocalFileSystem(), path, path)


def _of_url(url: str) -> Location:
    scheme = url.partition("://")[0].lower()
    if scheme == "file":
        parsed = urlsplit(url)
        if parsed.netloc not in ("", "localhost"):
            message = f"{url} names a file of another machine, {parsed.netloc}."
            raise ConfigurationError(message, "Write file:///path.", url=url)
        return _of_path(unquote(parsed.path))
    if scheme in _S3:
        return _of_s3(url)
    try:
        filesystem, path = _of_library(scheme, url)
    except (ImportError, OSError, ValueError) as error:
        message = f"{url} cannot be opened: {error}"
        raise ConfigurationError(
            message, "Pass a path, or a URL that Arrow or fsspec knows.", url=url
        ) from error
    return Location(filesystem, path.rstrip("/"), url.rstrip("/"))


def _of_library(scheme: str, url: str) -> tuple[Any, str]:
    import pyarrow.fs as pa_fs

    if scheme in _ARROW:
        filesystem, path = pa_fs.FileSystem.from_uri(url)
        return filesystem, path
    from fsspec.core import url_to_fs

    other, path = url_to_fs(url)
    return pa_fs.PyFileSystem(pa_fs.FSSpecHandler(other)), path


def _of_s3(url: str) -> Location:
    # By hand: "?", "#" and "%" are characters of a key like any other.
    bucket, _, key = url.partition("://")[2].partition("/")
    if not bucket:
        message = f"{url} names no bucket."
        raise ConfigurationError(message, "Write s3://bucket/key.", url=url)
    key = key.rstrip("/")
    filesystem = _s3(bucket, tuple(next(filter(None, map(os.environ.get, n)), None) for n in _S3_VARIABLES))
    path = f"{bucket}/{key}" if key else bucket
    return Location(filesystem, path, f"s3://{path}")


@lru_cache(maxsize=32)
def _s3(bucket: str, settings: tuple[str | None, ...]) -> Any:
    """Make the filesystem; what the environment says is passed on, so that it is pickled with it.

    A worker was started before a notebook set its variables. What lies in ``~/.aws`` is found
    by each process itself.
    """
    import pyarrow.fs as pa_fs

    endpoint, region, key, secret, token = settings
    try:
        if region is None and endpoint is None:
            region = pa_fs.resolve_s3_region(bucket)
        pair = {"access_key": key, "secret_key": secret, "session_token": token} if key and secret else {}
        return pa_fs.S3FileSystem(
            endpoint_override=endpoint, region=region, connect_timeout=5, request_timeout=60, **pair
        )
    except (OSError, ValueError) as error:
        message = f"The bucket s3://{bucket} cannot be opened: {error}"
        action = "Check AWS_REGION, AWS_ENDPOINT_URL and the credentials."
        raise ConfigurationError(message, action, bucket=bucket) from error
