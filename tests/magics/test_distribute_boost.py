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
    """Cells train with their parameters and flags by either library, and keep the estimator."""
    place = Place()
    kernel = StartedKernel(new_manager(place), place.environment(), place.path)
    try:
        kernel.run("%runtime start --cpus 1", timeout=90)
        kernel.run("import pyarrow as pa; numbers = list(range(100))")
        kernel.run("train = pa.table({'a': numbers, 'y': [n % 7 for n in numbers]})")
        kernel.run("test = train.slice(50); depth = 1")
        cell = "%%distribute xgboost --data train --eval test --label y --features a --workers 1 --cpus 1"
        ran = kernel.run(
            f"{cell} --no-gpu --verbose 2 -o fitted\nn_estimators = 3\nmax_depth = depth + 1", timeout=90
        )
        assert ran.error == "", ran.error
        assert "XGBEstimator is in fitted" in ran.stdout
        assert "eval-rmse" in ran.stdout
        shown = "fitted.get_booster().num_boosted_rounds(), fitted.get_booster().feature_names"
        assert kernel.run(shown).text == "(3, ['a'])"
        assert kernel.run("fitted.report.workers, fitted.report.cpus_per_worker").text == "(1, 1)"
        ran = kernel.run(
            "%%distribute lightgbm --data train --eval test --label y --features a --workers 1\n"
            "n_estimators = 4\nmin_data_in_leaf = depth\nobjective = 'regression'",
            timeout=90,
        )
        assert ran.error == "", ran.error
        assert "LightGBMEstimator is in model" in ran.stdout
        assert kernel.run("model.get_booster().num_trees()").text == "4"
        assert kernel.run("list(model.get_eval_results()['eval'])").text == "['l2']"
        small = kernel.run("%%distribute xgboost --data train --label y --workers 2\nn_estimators = 3")
        assert "%resize cpus=2" in small.error
        wrong = kernel.run("%%distribute lightgbm --data train --label y\nnum_leafs = 3", timeout=60)
        assert "'num_leafs'" in wrong.error
    finally:
        kernel.end()
        place.remove()
