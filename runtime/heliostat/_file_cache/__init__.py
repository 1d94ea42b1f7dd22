"""Files of stages and object stores, kept on the disk of the node that read them.

One cache for all processes of a user on a node. Each read first asks the source, with the
reader's own credentials, which version of the file there is; a version is served from disk only
if it is that one. So nothing stale is served, and nothing that the reader may not read.
"""

from __future__ import annotations

from heliostat._file_cache._config import FileCacheConfig
from heliostat._file_cache._filesystem import cached_filesystem

__all__ = ["FileCacheConfig", "cached_filesystem"]
