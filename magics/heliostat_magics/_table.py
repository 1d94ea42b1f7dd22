"""Every magic of Heliostat, by name. A new one is a line here and a module."""

from __future__ import annotations

from heliostat_magics._base import Registration

__all__ = ["MAGICS"]

MAGICS: tuple[Registration, ...] = (
    Registration("cancel", "heliostat_magics.jobs:CancelMagic", "Stop a training, a query, a cell on ranks."),
    Registration("connect", "heliostat_magics.connect:ConnectMagic", "Data, wherever it is, as a connector."),
    Registration(
        "connections", "heliostat_magics.connections:ConnectionsMagic", "Databases by name, and connectors."
    ),
    Registration(
        "dataset",
        "heliostat_magics.dataset:DatasetMagic",
        "Versioned datasets: list, create, show, compare, delete.",
        ("line", "cell"),
    ),
    Registration("jobs", "heliostat_magics.jobs:JobsMagic", "What long work runs, and what became of it."),
    Registration("logs", "heliostat_magics.jobs:LogsMagic", "The last lines of the log of long work."),
    Registration(
        "resources", "heliostat_magics.resources:ResourcesMagic", "What is used now, and what each cell used."
    ),
    Registration(
        "distribute",
        "heliostat_magics.distribute:DistributeMagic",
        "Run the cell on many processes of the runtime.",
        kinds=("cell",),
    ),
    Registration(
        "pull",
        "heliostat_magics.transfer:PullMagic",
        "Bring variables of the ranks to the notebook.",
    ),
    Registration(
        "push",
        "heliostat_magics.transfer:PushMagic",
        "Send variables of the notebook to the ranks.",
    ),
    Registration(
        "ranks",
        "heliostat_magics.ranks:RanksMagic",
        "Show and steer the processes behind %%distribute.",
    ),
    Registration(
        "resize",
        "heliostat_magics.resize:ResizeMagic",
        "Bring the runtime behind this notebook to another size.",
    ),
    Registration(
        "runtime",
        "heliostat_magics.runtime:RuntimeMagic",
        "Show or steer the Ray runtime behind this notebook.",
    ),
    Registration(
        "sql",
        "heliostat_magics.sql:SqlMagic",
        "Run SQL on the session, on variables, or on a database by name.",
        ("cell", "line"),
        expand=False,
        alias="hsql",
    ),
)
