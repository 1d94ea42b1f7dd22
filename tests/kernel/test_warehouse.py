"""Two real kernels on one warehouse."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from tests.kernel.support import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kernel.conftest import StartKernel

SESSION = "from heliostat import get_active_session\nsession = get_active_session()\n"


def test_two_kernels_share_a_warehouse(start_kernel: StartKernel, tmp_path: Path) -> None:
    """Both read; who writes beside a writer waits, then is told its pid, until that is killed."""
    setting = {"HELIOSTAT_WAREHOUSE": str(tmp_path / "w.duckdb"), "HELIOSTAT_WAREHOUSE_WAIT": "1"}
    first, second = start_kernel(**setting), start_kernel(**setting)
    made = first.run(f"{SESSION}session.save_as_table({{'a': [1, 2]}}, 't')\nrows = session.table('t')")
    assert made.status == "ok", made.error
    assert second.run(f"{SESSION}rows = session.table('t')").status == "ok"
    count = "rows.count('*').fetchall()[0][0]"
    assert first.run(count).text == second.run(count).text == "2"
    # Each in turn: nobody has to close anything.
    assert second.run("session.save_as_table({'a': [3]}, 't', mode='append')").status == "ok"
    assert first.run(count).text == "3"
    assert first.run("session.sql('BEGIN'); session.sql('INSERT INTO t VALUES (4)')").status == "ok"
    refused = second.run("session.save_as_table({'a': [5]}, 't', mode='append')")
    assert refused.error.startswith("WarehouseBusyError")
    assert f"process {first.pid} " in refused.error
    assert 1 <= refused.seconds < 10
    waiting = second.begin("session.save_as_table({'a': [6]}, 't', mode='append')")
    os.kill(first.pid, signal.SIGKILL)
    assert second.reply(waiting)["content"]["status"] == "ok"
    assert second.run("sorted(rows.fetchall())").text == "[(1,), (2,), (3,), (6,)]"
    wait_until(lambda: not first.manager.is_alive(), 10, "the first kernel is gone")
