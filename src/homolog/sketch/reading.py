"""Reading the two sides of a comparison stage by stage: what a stage costs over the network is known, and said, before it is fetched."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from homolog.checkpoint.base import Checkpoint
from homolog.checkpoint.budget import show_bytes
from homolog.checkpoint.session import Session
from homolog.errors import BudgetExceeded
from homolog.roles.role import Anatomy
from homolog.sketch.anchors import Anchors
from homolog.sketch.plan import SMALL, Plans, thin_out
from homolog.sketch.sketch import Sketch
from homolog.sketch.stream import Progress, read_sketch

if TYPE_CHECKING:
    from homolog.checkpoint.remote import FetchPlan, Remote

__all__ = ["Reading"]

_FEWER_LAYERS = (8, 4, 2, 1)


@dataclass(slots=True)
class Reading:
    """Two models, and the stages in which they are read."""

    models: tuple[Checkpoint, Checkpoint]
    anatomies: tuple[Anatomy, Anatomy]
    stages: tuple[Plans, ...]
    session: Session
    progress: Progress
    announce: Callable[[str], None]
    thinned: bool = False
    """Whether the budget allowed only a part of the stage that was read last."""
    _begun: bool = field(default=False, repr=False)

    def ordered(self) -> Iterator[Plans]:
        """The stages to go through: a few layers first only where layers cost requests."""
        sparing = any(model.meter.remote is not None for model in self.models)
        yield from (plans for plans in self.stages if sparing or plans[0].layers is None)

    def bring_tokenizers(self) -> None:
        """Have the tokenizers of remote models at hand."""
        for model in self.models:
            if model.meter.remote is not None:
                model.meter.remote.bring_sides()

    def read(self, plans: Plans, anchors: Anchors) -> tuple[Sketch, Sketch]:
        """Read one stage, or as many layers of the first as the budget allows.

        Raises ``BudgetExceeded`` where nothing new can be read, and what reading raises.
        """
        plans = self._fetch(plans, anchors)
        self._begun = True
        a, b = (self._sketch(side, plans, anchors, self.progress) for side in (0, 1))
        return a, b

    def describe_unread(self, pair: tuple[Sketch, Sketch]) -> tuple[str, str]:
        """For A and for B how many layers were read, if not all were."""
        a, b = (
            ""
            if sketch.layers_read is None
            else f"{len(sketch.layers_read)} of {sketch.anatomy.dims.layers} layers were read (--deep reads all of them)"
            for sketch in pair
        )
        return a, b

    def _sketch(self, side: int, plans: Plans, anchors: Anchors, progress: Progress) -> Sketch:
        ordinary = (anchors.ordinary_a, anchors.ordinary_b)[side]
        untrained = (anchors.untrained_a, anchors.untrained_b)[side]
        return read_sketch(self.models[side], self.anatomies[side], plans[side], ordinary, untrained, progress)

    def _fetch(self, plans: Plans, anchors: Anchors) -> Plans:
        self.thinned = False
        try:
            return self._fetch_all(plans, anchors)
        except BudgetExceeded as stopped:
            if self._begun:
                raise
            refusal = stopped
        depth = max(anatomy.dims.layers for anatomy in self.anatomies)
        for layers in _FEWER_LAYERS:
            fewer = thin_out(plans, *self.anatomies, layers)
            if layers >= depth or fewer == plans:
                continue
            try:
                fetched = self._fetch_all(fewer, anchors)
            except BudgetExceeded as stopped:
                refusal = stopped
            else:
                self.thinned = True
                return fetched
        raise refusal

    def _fetch_all(self, plans: Plans, anchors: Anchors) -> Plans:
        """Fetch what a stage needs of both, or nothing."""
        wanted: list[tuple[Remote, FetchPlan]] = []
        said = []
        for side, (name, model) in enumerate(zip("AB", self.models, strict=True)):
            remote = model.meter.remote
            if remote is None:
                continue
            whole = plans[side].whole and not plans[side].hold
            # rehearsing a whole model of any size would take as long as reading it
            plan = remote.plan_all() if whole else self._rehearse(remote, side, plans, anchors)
            wanted.append((remote, plan))
            of = sum(model.meter.sizes[path] for path in model.files)
            said.append(f"{name}: {plan.describe(model.path, of)}")
        total = sum(plan.bytes for _, plan in wanted)
        left = self.session.budget.left
        if left is not None and total > left:
            path = self.models[0].path
            found, expected = f"{show_bytes(left)} left", f"{show_bytes(total)} for what comes next"
            raise BudgetExceeded(path, at="budget", found=found, expected=expected)
        for text in said:
            self.announce(text)
        done = 0
        for remote, plan in wanted:
            if plan.bytes <= SMALL or not plans[0].whole:
                remote.fetch(plan, lambda count, done=done: self.progress("fetching", done + count, max(total, 1)))  # type: ignore[misc]
            done += plan.bytes
        return plans

    def _rehearse(self, remote: Remote, side: int, plans: Plans, anchors: Anchors) -> FetchPlan:
        with remote.rehearse() as wanted:
            self._sketch(side, plans, anchors, lambda _text, _done, _total: None)
        return remote.plan(wanted)
