"""Brings up PyTorch's process group on all ranks of a group, when one of them is not in it."""

from __future__ import annotations

import ast
import time
from typing import TYPE_CHECKING

from heliostat._ranks._run import Ended
from heliostat._ranks._scope import HELPER
from heliostat.exceptions import MissingDependencyError, RankError

if TYPE_CHECKING:
    from heliostat._ranks._group import RankGroup
    from heliostat._ranks._run import Run

__all__ = ["join"]

_FORM_SECONDS = 120.0


def join(group: RankGroup) -> bool:
    """Form the group anew unless it is complete; returns whether it was formed now.

    Raises
    ------
    MissingDependencyError
        PyTorch is not installed where the ranks run.
    RankError
        It could not be formed.
    """
    group.wait_ready()
    if all(rank.grouped for rank in group.ranks):
        return False
    found = group.run("", [0], quiet=True, expressions={"at": f"{HELPER}.free_port()"})
    _wait(group, found)
    text = (found.outcomes[0].expressions or {})["at"]["data"]["text/plain"]
    host, port = ast.literal_eval(text)
    joining = group.run(f"{HELPER}.join_group({host!r}, {port}, {group.group_timeout})", quiet=True)
    _wait(group, joining)
    return True


def _wait(group: RankGroup, run: Run) -> None:
    deadline = time.monotonic() + _FORM_SECONDS
    try:
        while not run.finished.wait(0.1):
            bad = [each for each in run.outcomes.values() if each.how is not Ended.OK]
            if bad or time.monotonic() > deadline:
                group.stop_run(run)
                run.finished.wait(2.0)
                break
    except KeyboardInterrupt:
        group.stop_run(run)
        raise
    failed = {rank: each for rank, each in run.outcomes.items() if each.how is not Ended.OK}
    if not failed and not run.pending:
        return
    first = next((each for each in failed.values() if each.how is Ended.FAILED), None)
    if first is not None and first.ename in ("ModuleNotFoundError", "ImportError"):
        message = f"%%distribute torch needs PyTorch on every rank: {first.evalue}."
        raise MissingDependencyError(message, "Install it: pip install 'heliostat[torch]'", package="torch")
    said = f"{first.ename}: {first.evalue}" if first is not None else "the ranks did not meet"
    message = f"The process group could not be formed: {said}."
    raise RankError(message, "Try %ranks restart.", ranks=sorted({*failed, *run.pending}))
