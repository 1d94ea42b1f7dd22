"""What ``ray.train.get_dataset_shard`` gives: this rank's rows, with the calls that Ray's iterator has.

Ray Data runs tasks on CPUs to iterate, and the ranks hold all of them; here the rank itself reads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from heliostat.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import pyarrow as pa


class RankRows:
    """Rows of one rank; can be iterated as often as there are epochs."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def count(self) -> int:
        """Return how many rows the rank has."""
        return int(self._table.num_rows)

    def iter_rows(self) -> Iterator[dict[str, Any]]:
        """Give one row after the other."""
        for batch in self._table.to_batches():
            yield from batch.to_pylist()

    def iter_batches(
        self,
        *,
        batch_size: int | None = 256,
        batch_format: str | None = "default",
        drop_last: bool = False,
        local_shuffle_buffer_size: int | None = None,
        local_shuffle_seed: int | None = None,
        **_: Any,
    ) -> Iterator[Any]:
        """Give batches as NumPy arrays by column, pandas frames or Arrow tables.

        With a ``local_shuffle_buffer_size`` of any size all of the rank's rows are shuffled.

        Raises
        ------
        ConfigurationError
            There is no such format.
        """
        convert = _FORMATS.get(batch_format or "pyarrow")
        if convert is None:
            message = f"batch_format={batch_format!r} is not known."
            raise ConfigurationError(message, f"Pass one of {', '.join(_FORMATS)}.")
        table = self._table
        if local_shuffle_buffer_size is not None:
            import numpy as np

            table = table.take(np.random.default_rng(local_shuffle_seed).permutation(table.num_rows))
        size = batch_size or max(table.num_rows, 1)
        for start in range(0, table.num_rows, size):
            if not (drop_last and start + size > table.num_rows):
                yield convert(table.slice(start, size))

    def iter_torch_batches(
        self,
        *,
        dtypes: Any = None,
        device: Any = "auto",
        collate_fn: Callable[[Mapping[str, Any]], Any] | None = None,
        **options: Any,
    ) -> Iterator[Any]:
        """Give batches as tensors by column; options are those of ``iter_batches``."""
        import torch

        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        for batch in self.iter_batches(**options):
            if collate_fn is not None:
                yield collate_fn(batch)
                continue
            made = {}
            for name, values in batch.items():
                dtype = dtypes.get(name) if isinstance(dtypes, dict) else dtypes
                made[name] = torch.as_tensor(values.copy(), dtype=dtype).to(device)
            yield made


def _numpy(table: pa.Table) -> dict[str, Any]:
    return {name: table[name].to_numpy(zero_copy_only=False) for name in table.column_names}


_FORMATS: dict[str, Callable[[Any], Any]] = {
    "default": _numpy,
    "numpy": _numpy,
    "pandas": lambda table: table.to_pandas(),
    "pyarrow": lambda table: table,
}
