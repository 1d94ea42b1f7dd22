"""Ranks that reserve CPUs, GPUs and memory, on a machine with two stand-in GPUs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tests.magics.ranks import on_ranks, rank_kernel
from tests.support.nvml import build_fake_nvml, fake_nvml_environment

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_each_rank_holds_what_it_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has a GPU of its own and sees no other, %ranks lists it, and the runtime has given it out."""
    figures = tmp_path / "figures"
    figures.write_text(
        "gpu uuid=GPU-a name=Fake_H100 total=80000000000 used=0\n"
        "gpu uuid=GPU-b name=Fake_H100 total=80000000000 used=0\n"
    )
    for name, value in fake_nvml_environment(build_fake_nvml(tmp_path), figures).items():
        monkeypatch.setenv(name, value)
    with rank_kernel("cpus=2, gpus=2", 2, "--cpus 1 --gpus 1 --memory 200MiB") as kernel:
        listed = kernel.run("%ranks")
        head, *rows = listed.stdout.splitlines()
        assert head.split() == ["rank", "state", "pid", "node", "devices", "memory", "runs"]
        for number, row in enumerate(rows):
            rank, state, pid, node, *rest = row.split()
            assert (rank, state, node) == (str(number), "idle", "127.0.0.1")
            os.kill(int(pid), 0)
            assert "MiB" in rest
        body = "import os\nprint(os.environ['CUDA_VISIBLE_DEVICES'])"
        assert sorted(on_ranks(kernel, body).stdout.splitlines()) == ["[rank 0] 0", "[rank 1] 1"]
        free = kernel.run(
            "import ray\nleft = ray.available_resources()\nprint(left.get('CPU'), left.get('GPU'))"
        )
        assert free.stdout.strip() == "None None"
