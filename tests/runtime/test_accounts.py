"""What cells used: with real work in real processes, and with GPU figures from samples."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from tests.support.messages import sample
from tests.support.nvml import NoGpus
from tests.support.puppet import Puppet, wait_until_done

from heliostat._messages.usage import CellAccount, Gpu, GpuProcess, ProcessUse
from heliostat._supervisor.accounts import KEPT, Accounts
from heliostat._supervisor.sampler import Sampler
from heliostat._supervisor.tree import Group

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from heliostat._messages.usage import Sample

MIB = 2**20


class Cells:
    """An owner with a worker, and the accounts of its cells; nothing is sampled unless asked."""

    def __init__(self, owner: Puppet, supervisor: Puppet, directory: Path) -> None:
        self.owner, self.supervisor = owner, supervisor
        self.sampler = Sampler(owner.owner, supervisor.pid, directory, ray_use=lambda: None, gpus=NoGpus())
        self.accounts = Accounts(self.sampler.readings)

    def run(self, cell_id: str, code: str) -> CellAccount:
        """Run a cell in the owner, with its account."""
        self.accounts.begin(cell_id, time.time())
        self.owner.run(code)
        account = self.accounts.end(cell_id, time.time())
        assert account is not None
        return account


@pytest.fixture
def cells(tmp_path: Path) -> Iterator[Cells]:
    """Cells of real processes."""
    with Puppet() as owner, Puppet() as supervisor:
        yield Cells(owner, supervisor, tmp_path)


def test_short_cell_is_counted_without_any_sample(cells: Cells) -> None:
    """0.2 CPU-seconds between two samples are 0.2 in the account, and the cell after has none of them."""
    first = cells.run("a", "burn(0.2)")
    second = cells.run("b", "pass")
    assert first.cpu_seconds == pytest.approx(0.2, abs=0.04)
    assert second.cpu_seconds <= 0.03
    assert first.ended_at is not None
    assert first.ended_at - first.started_at >= 0.2
    assert first.gpu_seconds is None
    assert first.peak_gpu_memory_bytes is None


def test_process_that_came_and_went_inside_a_cell_counts(cells: Cells) -> None:
    """A command that a cell starts and waits for is in its account."""
    account = cells.run("a", "start('tool', BURN.format(0.3)).wait()")
    assert account.cpu_seconds >= 0.3


def test_worker_counts_from_its_first_instruction_and_after_its_end(cells: Cells) -> None:
    """A worker that starts and dies during a cell keeps its last known figure in the account."""
    cells.accounts.begin("a", time.time())
    worker = cells.supervisor.run(
        "children.append(start('ray::t', BURN.format(0.3) + SLEEP))\nresult = children[-1].pid"
    )
    used = wait_until_done(worker, 0.3)
    cells.accounts.observe(cells.sampler.sample(time.time()))
    assert worker in {process.pid for process in cells.sampler.sample(time.time()).processes}
    cells.supervisor.run("children[-1].kill(); children[-1].wait()")
    account = cells.accounts.end("a", time.time())
    assert account is not None
    # Clock ticks are 10 ms, the owner's own work in between is less.
    assert account.cpu_seconds == pytest.approx(used, abs=0.03)


def test_what_a_worker_did_before_a_cell_is_not_the_cells(cells: Cells) -> None:
    """Work of a known worker before a cell begins is left out of its account."""
    worker = cells.supervisor.run(
        "children.append(start('ray::t', BURN.format(0.3) + SLEEP))\nresult = children[-1].pid"
    )
    wait_until_done(worker, 0.3)
    assert any(group.cpu_seconds >= 0.3 for group in cells.sampler.readings() if group.role == "worker")
    assert cells.run("a", "pass").cpu_seconds <= 0.05


def test_overlapping_cells_each_get_what_ran_while_they_ran(cells: Cells) -> None:
    """Work that two cells share is counted for both, the rest for the one that ran."""
    cells.accounts.begin("long", time.time())
    cells.owner.run("burn(0.2)")
    short = cells.run("short", "burn(0.2)")
    long = cells.accounts.end("long", time.time())
    assert long is not None
    assert short.cpu_seconds == pytest.approx(0.2, abs=0.04)
    assert long.cpu_seconds == pytest.approx(0.4, abs=0.06)


def test_peak_memory_is_seen_although_it_was_given_back(cells: Cells) -> None:
    """200 MiB held for a moment between two samples are in the peak, and not in the next cell's."""
    peak = cells.run("a", "x = bytearray(b'x') * (200 * 2**20); del x").peak_memory_bytes
    after = cells.run("b", "pass").peak_memory_bytes
    assert peak is not None
    assert after is not None
    assert 200 <= (peak - after) / MIB + 5 < 225


def test_peak_memory_from_samples(cells: Cells) -> None:
    """A peak that a sample saw counts, also below an older peak of the same process."""
    cells.run("before", "x = bytearray(b'x') * (300 * 2**20); del x")
    cells.accounts.begin("a", time.time())
    cells.owner.run("x = bytearray(b'x') * (200 * 2**20)")
    cells.accounts.observe(cells.sampler.sample(time.time()))
    cells.owner.run("del x")
    account = cells.accounts.end("a", time.time())
    assert account is not None
    assert account.peak_memory_bytes is not None
    assert 200 * MIB < account.peak_memory_bytes < 260 * MIB


def test_cells_of_a_dead_kernel_are_closed(cells: Cells) -> None:
    """When the owner dies its running cells end, with what is known of them."""
    cells.accounts.begin("a", 100.0)
    cells.owner.run("burn(0.2)")
    cells.accounts.observe(cells.sampler.sample(101.0))
    cells.owner.kill()
    cells.accounts.close(102.0)
    (account,) = cells.accounts.cells()
    assert account.ended_at == 102.0
    assert account.cpu_seconds == pytest.approx(0.2, abs=0.04)
    assert account.peak_memory_bytes is not None
    assert cells.accounts.end("a", 103.0) is None


def nobody() -> list[Group]:
    """Read no process."""
    return []


def test_end_of_an_unknown_cell_is_no_account() -> None:
    """A cell that was never begun has no account."""
    accounts = Accounts(nobody)
    assert accounts.end("a", 1.0) is None
    assert accounts.cells() == []


def test_cell_begun_again_is_another_account() -> None:
    """Running a cell twice gives two accounts, the first ended where the second begins."""
    accounts = Accounts(nobody)
    accounts.begin("a", 1.0)
    accounts.begin("a", 2.0)
    assert [(cell.started_at, cell.ended_at) for cell in accounts.cells()] == [(1.0, 2.0), (2.0, None)]


def test_clock_that_was_set_back_gives_no_negative_time() -> None:
    """A cell never ends before it began."""
    accounts = Accounts(nobody)
    accounts.begin("a", 10.0)
    account = accounts.end("a", 5.0)
    assert account is not None
    assert account.ended_at == 10.0


def test_only_the_last_cells_are_kept() -> None:
    """The oldest accounts give way after a thousand."""
    accounts = Accounts(nobody)
    for number in range(KEPT + 5):
        accounts.begin(str(number), float(number))
        accounts.end(str(number), number + 0.5)
    kept = accounts.cells()
    assert (len(kept), kept[0].cell_id, kept[-1].cell_id) == (KEPT, "5", str(KEPT + 4))


def test_pid_used_again_counts_as_a_new_process() -> None:
    """A worker whose figure fell is another one under an old pid, and counts from its start."""
    figures = [Group(7, "ray::a", "worker", 50.0, 1), Group(7, "ray::b", "worker", 0.5, 1)]
    accounts = Accounts(lambda: [figures.pop(0)])
    accounts.begin("a", 1.0)
    account = accounts.end("a", 2.0)
    assert account is not None
    assert account.cpu_seconds == 0.5


def gpu(
    utilization: float | None,
    role: str | None = "worker",
    held: int | None = 100,
    *,
    used: int | None = 1000,
    index: int = 0,
) -> Gpu:
    """Make a GPU with one process on it; none for the role ``hidden``."""
    process = GpuProcess(pid=11, memory_bytes=held, role=role, name=None)
    return Gpu(
        index=index,
        uuid=f"GPU-{index}",
        name="X",
        mig=False,
        utilization_percent=utilization,
        memory_used_bytes=used,
        memory_limit_bytes=8000,
        temperature_celsius=None,
        power_watts=None,
        power_limit_watts=None,
        processes=[] if role == "hidden" else [process],
    )


def sampled(at: float, *gpus: Gpu) -> Sample:
    """Make a sample with these GPUs and one worker."""
    worker = ProcessUse(pid=11, name="ray::a", role="worker", cpu_seconds=0, cpu_percent=None, memory_bytes=1)
    empty = sample(at)
    return type(empty)(at=at, host=empty.host, processes=[worker], gpus=list(gpus), ray=None)


def gpu_account(began: float, ended: float, *samples: Sample) -> tuple[float | None, int | None]:
    """Account of one cell; GPU-seconds and peak GPU memory after all samples."""
    accounts = Accounts(nobody)
    pending = list(samples)
    for at, act in ((began, accounts.begin), (ended, accounts.end)):
        while pending and pending[0].at <= at:
            accounts.observe(pending.pop(0))
        act("a", at)
    for left in pending:
        accounts.observe(left)
    (account,) = accounts.cells()
    return account.gpu_seconds, account.peak_gpu_memory_bytes


def test_gpu_seconds_are_utilisation_times_time() -> None:
    """Two GPUs at 50 and 100 percent for two seconds are three GPU-seconds; memory is summed."""
    both = gpu(50.0), gpu(100.0, index=1, held=300)
    assert gpu_account(10, 12, *(sampled(at, *both) for at in (10.0, 11.0, 12.0, 13.0))) == (3.0, 400)


def test_gpu_seconds_of_a_cell_between_two_samples() -> None:
    """A cell shorter than the interval gets its part of it, once the sample after it is there."""
    samples = [sampled(10.0, gpu(80.0)), sampled(11.0, gpu(80.0)), sampled(12.0, gpu(80.0))]
    assert gpu_account(10.25, 10.75, *samples) == (0.4, 100)


def test_gpus_of_others_are_not_counted() -> None:
    """A GPU on which no process is ours is not the cell's, however busy."""
    samples = [sampled(at, gpu(100.0, role=None)) for at in (10.0, 11.0, 12.0)]
    assert gpu_account(10, 12, *samples) == (0.0, 0)


def test_busy_gpu_without_visible_processes_is_ours() -> None:
    """Where the driver hides processes, as in containers, use and memory are the GPU's."""
    samples = [sampled(at, gpu(100.0, role="hidden")) for at in (10.0, 11.0)]
    assert gpu_account(10, 11, *samples) == (1.0, 1000)


def test_unknown_utilisation_is_not_zero() -> None:
    """If the driver refuses utilisation (MIG), GPU-seconds are unknown and memory is still known."""
    samples = [sampled(at, gpu(None)) for at in (10.0, 11.0)]
    assert gpu_account(10, 11, *samples) == (None, 100)


def test_unknown_memory_of_a_process_is_that_of_a_gpu_of_its_own() -> None:
    """If a process's memory is not available, the GPU's counts when nobody else is on it."""
    samples = [sampled(at, gpu(100.0, held=None)) for at in (10.0, 11.0)]
    assert gpu_account(10, 11, *samples) == (1.0, 1000)


def test_gap_between_samples_is_not_filled() -> None:
    """What the GPUs did while nobody looked, for longer than a pause, is not made up."""
    samples = [sampled(10.0, gpu(100.0)), sampled(100.0, gpu(100.0)), sampled(101.0, gpu(100.0))]
    assert gpu_account(10, 101, *samples) == (1.0, 100)
