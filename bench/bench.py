"""The context of a run: the report, the size of the run, and both systems, which start on first use."""

import asyncio
import contextlib
from collections.abc import Coroutine, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import uvloop

from bench.checks import check
from bench.report import Report
from bench.systems import Imago, Peer

T = TypeVar("T")


class Bench:
    """A run of the benchmark; close it to stop what it started."""

    def __init__(self, folder: Path, report: Report, *, rounds: int, full: bool) -> None:
        self.folder = folder
        self.report = report
        self.rounds = rounds
        self.full = full
        self._runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)

    @cached_property
    def imago(self) -> Imago:
        """Imago with its API running, checked."""
        return self._checked(Imago(self.folder / "imago"))

    @cached_property
    def peer(self) -> Peer:
        """The peer with its API running, checked."""
        return self._checked(Peer(self.folder / "peer"))

    def check(self) -> None:
        """Start both systems and check that they keep the same promises; raise CheckFailed."""
        self.imago.stop_api()
        self.peer.stop_api()

    def size(self, small: int, full: int) -> int:
        """Return `full` in a full run, otherwise `small`."""
        return full if self.full else small

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop of the benchmark."""
        return self._runner.run(work)

    def in_turn(self) -> Iterator[tuple[Imago | Peer, ...]]:
        """Yield both systems once per round, in alternating order."""
        for number in range(self.rounds):
            yield (self.imago, self.peer) if number % 2 else (self.peer, self.imago)

    @contextlib.contextmanager
    def workers(self, *systems: Imago | Peer) -> Iterator[None]:
        """Run the workers of the given systems inside the block."""
        for system in systems:
            system.start_workers()
        try:
            yield
        finally:
            for system in systems:
                system.stop_workers()

    def close(self) -> None:
        """Stop the systems that were started."""
        for name in ("imago", "peer"):
            if name in self.__dict__:
                self.__dict__[name].stop()
        self._runner.close()

    def _checked(self, system: T) -> T:
        assert isinstance(system, Imago | Peer)
        try:
            system.start_api()
            with self.workers(system):
                self.run(check(system, wait_for=600))
        except BaseException:
            system.stop()
            raise
        return system
