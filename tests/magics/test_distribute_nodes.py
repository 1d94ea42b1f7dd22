"""Ranks on a further node: reached, interrupted, and lost with it."""

from __future__ import annotations

import ast

import psutil
from tests.magics.ranks import on_ranks, press, rank_kernel


def test_ranks_on_every_node() -> None:
    """Ranks of two nodes share a cell and heed Stop; the loss of a node says which rank and why."""
    with rank_kernel("cpus=2); r.resize(cpus=2, nodes=2", 2) as kernel:
        body = "import os, ray\nnode, n = ray.get_runtime_context().get_node_id(), 41\n(os.getppid(), node)"
        assert on_ranks(kernel, body, "-o found").status == "ok"
        (_, here), (raylet, there) = ast.literal_eval(kernel.run("print(found)").stdout)
        assert here != there
        for wait in ("while True: pass", "import time; time.sleep(60)"):
            seconds, name, _ = press(kernel, f"n += 1\n{wait}")
            assert name == "KeyboardInterrupt"
            assert seconds < 2
        assert on_ranks(kernel, "print(n)").stdout.count("43") == 1, "both have it, and equal lines fold"

        request = kernel.client.execute("%%distribute\nprint('go')\nimport time; time.sleep(60)")
        kernel.iopub(lambda m: m["msg_type"] == "stream" and "go" in m["content"]["text"], request)
        psutil.Process(raylet).kill()
        error = kernel.reply(request)["content"]
        assert error["ename"] == "RankError"
        assert "Rank 1 " in error["evalue"]
        assert f"its node {there[:8]} was lost" in error["evalue"]
        again = on_ranks(kernel, "print(rank, 'n' in dir())")
        assert again.status == "ok", again.error
        assert "0 True" in again.stdout
        assert "1 False" in again.stdout
