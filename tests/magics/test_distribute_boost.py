"""``%%distribute xgboost`` and ``lightgbm``: what becomes parameters, what is refused, one training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from IPython.core.error import UsageError
from tests.kernel.support import Place, StartedKernel, new_manager

from heliostat_magics.distribute_boost import read_parameters

if TYPE_CHECKING:
    from tests.magics.support import Cells


def test_assignments_become_parameters() -> None:
    """Variables, functions and imports can be used; nothing of the user's is changed."""
    variables = {"depth": 3}
    cell = '"""Notes."""\nimport math\ndef f(x): return x\n'
    cell += "max_depth = depth + 1\neta: float = f(math.sqrt(4))\n_x = 1"
    assert read_parameters(cell, variables) == {"max_depth": 4, "eta": 2.0}
    assert variables == {"depth": 3}


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        (
            "%%distribute xgboost --data df --label y\nprint(1)",
            "line 1 of the cell is no parameter: print(1)",
        ),
        ("%%distribute lightgbm --data df --label y\nx = = 1", "line 1 of the cell cannot be read"),
        ("%%distribute xgboost --data nope --label y\nx = 1", "no table in a variable 'nope'"),
        ("%%distribute xgboost --data df\nx = 1", "--label"),
        ("%%distribute xgboost --data df --label y --worker 2\nx = 1", "did you mean --workers?"),
        ("%%distribute xgboost --data df --label y -o a.b\nx = 1", "cannot be the name of a variable"),
    ],
)
def test_refuses_by_name(cells: Cells, cell: str, said: str) -> None:
    """What is wrong is said before anything is trained."""
    cells.run("import pyarrow as pa; df = pa.table({'a': [1.0], 'y': [2.0]})")
    ran = cells.run(cell)
    assert isinstance(ran.error, UsageError), ran.error
    assert said in str(ran.error)


def test_completes_tables_columns_and_parameters(cells: Cells) -> None:
    """Tab knows the variables that are tables, their columns, and names of parameters."""
    cells.run("import pyarrow as pa; train = pa.table({'a': [1.0], 'y': [2.0]})")
    assert cells.complete("%%distribute xgboost --data ") == ["train"]
    assert cells.complete("%%distribute xgboost --data train --label ") == ["a", "y"]
    assert cells.complete("%%distribute xgboost --data train --features a,") == ["a,y"]
    assert cells.complete("%%distribute lightgbm --data train\nnum_l") == ["num_leaves = "]


def test_trains_on_the_runtime() -> None:
    """A cell trains with its parameters on the flags' data, and keeps the estimator."""
    place = Place()
    kernel = StartedKernel(new_manager(place), place.environment(), place.path)
    try:
        kernel.run("%runtime start --cpus 1", timeout=90)
        kernel.run("import pyarrow as pa; numbers = list(range(100))")
        kernel.run("train = pa.table({'a': numbers, 'y': [n % 7 for n in numbers]})")
        ran = kernel.run(
            "%%distribute xgboost --data train --eval train --label y --features a --workers 1 -o fitted\n"
            "n_estimators = 3\nmax_depth = 2",
            timeout=90,
        )
        assert ran.error == "", ran.error
        assert "XGBEstimator is in fitted" in ran.stdout
        assert kernel.run("fitted.get_booster().num_boosted_rounds()").text == "3"
    finally:
        kernel.end()
        place.remove()
