"""Objects between the notebook and its ranks: they travel through Ray's object store."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from heliostat._ranks._facts import RESULT_OF
from heliostat._ranks._scope import HELPER
from heliostat._ranks._targets import spell
from heliostat.exceptions import RankError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from heliostat._ranks._group import RankGroup
    from heliostat._ranks._run import Run

__all__ = ["Objects"]


class Objects:
    """Binds and reads variables of the ranks of a group, one exchange at a time."""

    def __init__(self, group: RankGroup) -> None:
        self._group = group
        self._turn = threading.Lock()

    def push(
        self, variables: Mapping[str, Any], ranks: Sequence[int] | None = None, *, copy: bool = False
    ) -> None:
        """Bind variables on ranks. Arrays lie in the object store once a node, and are read-only there.

        ``copy`` gives each rank arrays of its own. Returns when all ranks have them.
        """
        import ray

        chosen = self._chosen(ranks)
        references = [ray.put(value) for value in variables.values()]
        self.exchange([(number, "receive", (list(variables), copy, *references)) for number in chosen])

    def scatter(self, name: str, values: Sequence[Any]) -> None:
        """Bind a variable to another value on each rank."""
        import ray

        self._group.wait_ready()
        self.exchange(
            [(number, "receive", ([name], False, ray.put(value))) for number, value in enumerate(values)]
        )

    def sizes(self, names: Sequence[str], ranks: Sequence[int]) -> int:
        """Bytes of variables on ranks, in all. Raises RankError for one that is not there."""
        expressions = {"size": f"{HELPER}.size_of({list(names)!r})"}
        run = self._group.run("", ranks, quiet=True, expressions=expressions)
        run.finished.wait()
        total = 0
        for number, outcome in run.outcomes.items():
            answer = (outcome.expressions or {}).get("size", {"status": "error", "evalue": "it died"})
            if answer["status"] != "ok":
                message = f"{spell([number]).capitalize()}: {answer['evalue']}."
                raise RankError(message, "Nothing was pulled.", ranks=[number])
            total += int(answer["data"]["text/plain"])
        return total

    def result_size(self, run: Run) -> int:
        """Bytes of what a kept cell returned, in all."""
        return self.sizes([RESULT_OF + request for request in run.requests.values()], run.ranks)

    def pull(self, name: str, ranks: Sequence[int] | None = None) -> list[Any]:
        """Return the values of a variable, in the order of ranks. Arrays are read-only."""
        chosen = self._chosen(ranks)
        return [values[0] for values in self.exchange([(number, "export", ([name],)) for number in chosen])]

    def results(self, run: Run) -> list[Any]:
        """Return what a kept cell returned on each of its ranks, in their order."""
        calls = [(number, "export", ([RESULT_OF + request],)) for number, request in run.requests.items()]
        return [values[0] for values in self.exchange(calls)]

    def exchange(self, calls: Sequence[tuple[int, str, tuple[Any, ...]]]) -> list[Any]:
        """Call methods of actors between two rounds of their loops: ``(rank, method, arguments)``.

        Raises
        ------
        RankError
            A rank died meanwhile.
        """
        import ray

        ranks = self._group.ranks
        with self._turn:
            references = []
            for number, method, arguments in calls:
                references.append(getattr(ranks[number].actor, method).remote(*arguments))
                ranks[number].serving = ranks[number].actor.serve.remote()
            self._group.tell([number for number, *_ in calls], "rank_leave_request")
            try:
                return list(ray.get(references))
            except ray.exceptions.RayActorError as error:
                dead = [rank.number for rank in ranks if rank.dead] or [number for number, *_ in calls]
                message = f"{spell(dead).capitalize()} died while objects were exchanged."
                action = "Run the cell again: the rank is started anew."
                raise RankError(message, action, ranks=dead) from error

    def _chosen(self, ranks: Sequence[int] | None) -> list[int]:
        self._group.wait_ready()
        return list(range(self._group.size)) if ranks is None else list(ranks)
