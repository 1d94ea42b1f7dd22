"""``%%distribute xgboost`` and ``lightgbm``: assignments that become parameters, flags for the data.

Thin over ``XGBEstimator`` and ``LightGBMEstimator``: parameters, faults, progress are theirs.
"""

from __future__ import annotations

import argparse
import ast
import importlib
from typing import TYPE_CHECKING, Any, ClassVar

from IPython.core.error import UsageError

from heliostat_magics._base import Magic
from heliostat_magics._frames import columns, columns_of, frames, is_frame
from heliostat_magics._parser import MagicParser, at_least

if TYPE_CHECKING:
    from collections.abc import Mapping

    from heliostat_magics._parser import Scope

__all__ = ["LightGBMMode", "XGBoostMode", "read_parameters"]

_ALLOWED = (ast.Import, ast.ImportFrom, ast.FunctionDef)


class _BoostMode(Magic):
    """Train one model on the runtime's workers."""

    mode: ClassVar[str]
    module: ClassVar[str]
    estimator: ClassVar[str]
    scaling: ClassVar[str]
    known: ClassVar[str]

    def parser(self, line: str) -> MagicParser:
        """Make the parser."""
        del line
        parser = MagicParser(
            f"%%distribute {self.mode}",
            "--data TABLE --label COLUMN [OPTIONS]",
            f"Train with {self.estimator} on the runtime's workers. Each assignment in the cell is a\n"
            "parameter; functions and imports may stand there too, and variables can be used.\n\n"
            f"  %%distribute {self.mode} --data train --label y --out model\n"
            "  n_estimators = 200\n"
            "  max_depth = depth + 1",
        )
        parser.add("--data", required=True, metavar="TABLE", complete=frames, help="rows to train on")
        parser.add("--eval", metavar="TABLE", complete=frames, help="rows to evaluate on")
        parser.add(
            "--label", required=True, metavar="COLUMN", complete=columns("--data"), help="column to predict"
        )
        parser.add(
            "--features",
            metavar="COLUMNS",
            complete=columns("--data"),
            help="columns to learn from, with commas (default: all others)",
        )
        parser.add("-o", "--out", metavar="NAME", default="model", help="variable for the estimator (model)")
        parser.add("--verbose", type=at_least(1), metavar="N", help="print the metrics of every Nth round")
        group = "scaling"
        parser.add(
            "--workers", type=at_least(1), metavar="N", group=group, help="processes that train together"
        )
        parser.add("--cpus", type=at_least(1), metavar="N", group=group, help="CPUs, and so threads, of each")
        parser.add(
            "--gpu", action=argparse.BooleanOptionalAction, group=group, help="one GPU for each, or none"
        )
        return parser

    def run(self, arguments: argparse.Namespace, cell: str | None) -> Any:
        """Train, and keep the estimator."""
        if not arguments.out.isidentifier():
            message = f"{arguments.out!r} cannot be the name of a variable"
            raise UsageError(message)
        data, evaluated = self._table("--data", arguments.data), self._table("--eval", arguments.eval)
        parameters = read_parameters(cell or "", self.namespace)
        library = importlib.import_module(self.module)
        scaling = {
            "num_workers": arguments.workers,
            "num_cpu_per_worker": arguments.cpus,
            "use_gpu": arguments.gpu,
        }
        given = {name: value for name, value in scaling.items() if value is not None}
        own = [name for name in ("n_estimators", "objective") if name in parameters]
        arguments_of = {name: parameters.pop(name) for name in own}
        estimator = getattr(library, self.estimator)(
            **arguments_of,
            params=parameters or None,
            scaling_config=getattr(library, self.scaling)(**given) if given else None,
        )
        if arguments.features is not None:
            features = [name.strip() for name in arguments.features.split(",") if name.strip()]
        else:
            features = [name for name in columns_of(data) if name != arguments.label]
        estimator.fit(
            data,
            input_cols=features or None,
            label_col=arguments.label,
            eval_set=evaluated,
            verbose_eval=arguments.verbose,
        )
        self.shell.user_ns[arguments.out] = estimator
        print(f"The trained {self.estimator} is in {arguments.out}.")

    def body_offers(self, scope: Scope, body: str) -> list[str] | None:
        """Names of parameters at the beginning of a line."""
        line = body.rpartition("\n")[2]
        return [f"{name} = " for name in self.known.split()] if line == scope.fragment and line else None

    def _table(self, flag: str, name: str | None) -> Any:
        if name is None:
            return None
        value = self.namespace.get(name)
        if value is None or not is_frame(value):
            message = f"{flag} {name}: there is no table in a variable {name!r}"
            raise UsageError(message)
        return value


class XGBoostMode(_BoostMode):
    """``%%distribute xgboost``."""

    mode, module = "xgboost", "heliostat.modeling.distributors.xgboost"
    estimator, scaling = "XGBEstimator", "XGBScalingConfig"
    known = (
        "n_estimators objective max_depth eta subsample min_child_weight reg_lambda max_bin eval_metric seed"
    )


class LightGBMMode(_BoostMode):
    """``%%distribute lightgbm``."""

    mode, module = "lightgbm", "heliostat.modeling.distributors.lightgbm"
    estimator, scaling = "LightGBMEstimator", "LightGBMScalingConfig"
    known = (
        "n_estimators objective num_leaves learning_rate max_depth min_data_in_leaf lambda_l2 max_bin metric"
    )


def read_parameters(cell: str, variables: Mapping[str, Any]) -> dict[str, Any]:
    """Run a cell of assignments, and return what it assigned. The user's variables stay as they are.

    Raises
    ------
    UsageError
        The cell has a statement of another kind, or none.
    """
    try:
        tree = ast.parse(cell)
    except SyntaxError as error:
        message = f"line {error.lineno} of the cell cannot be read: {error.msg}; write name = value"
        raise UsageError(message) from error
    names: list[str] = []
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        if isinstance(node, ast.AnnAssign) and node.value is not None:
            targets = [node.target]
        found = [target.id for target in targets if isinstance(target, ast.Name)]
        docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if not (found or docstring or isinstance(node, _ALLOWED)):
            said = ast.unparse(node)[:60]
            message = f"line {node.lineno} of the cell is no parameter: {said}; write name = value"
            raise UsageError(message)
        names += found
    space = dict(variables)
    exec(compile(tree, "<parameters>", "exec"), space)  # noqa: S102 - the user's own cell
    return {name: space[name] for name in names if not name.startswith("_")}
