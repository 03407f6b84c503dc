"""The nouns of a sketch: blocks of units, value dimensions, channel vectors and token rows, as read and put in canonical form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from homolog.checkpoint.base import Array
from homolog.roles.role import Anatomy, Role

__all__ = ["Sketch", "TokenRows", "UnitBlock", "ValueBlock"]


@dataclass(frozen=True, slots=True)
class UnitBlock:
    """The first ``s`` units of one FFN (or one expert): a row a unit in every array. Norm gains are folded into gate and up."""

    layer: int
    expert: int
    """-1 for a dense FFN."""
    shared: bool
    width: int
    """Units of the whole FFN; ``s <= width``."""
    up: Array
    """(s, r): r = residual channels, or the leading slab of them where units are stored as columns."""
    gate: Array | None
    """(s, r); ``None`` in a plain FFN."""
    down: Array | None
    """(s, r): what the unit writes; ``None`` where whole matrices are not read."""
    bias: Array | None
    """(s, n): biases of the unit."""
    digest: bytes
    """Of gate and up as stored, before any folding: equal if and only if the sampled numbers are."""
    flaw: str | None = None
    """Why the block cannot be used: NaN, Inf or all zero."""
    profiles: tuple[Array, Array | None] | None = None
    """What `unit_profile` says without and with what the units write, taken before the rows were projected; ``None`` for rows as read."""
    lattice: str = ""
    """How the numbers of up were rounded before they were written, where they show it (see `find_lattice`)."""

    @property
    def knows_down(self) -> bool:
        """Whether what the units write was read."""
        return self.profiles[1] is not None if self.profiles else self.down is not None

    @property
    def name(self) -> str:
        """In words: ``layer 3``, ``layer 3 expert 5``, ``layer 3 shared expert``."""
        tail = " shared expert" if self.shared else f" expert {self.expert}" if self.expert >= 0 else ""
        return f"layer {self.layer}{tail}"


@dataclass(frozen=True, slots=True)
class ValueBlock:
    """Value projection of the first heads of one layer, norm gain folded in."""

    layer: int
    heads: int
    """Key/value heads of the whole layer."""
    rows: Array
    """(heads read, leading dimensions read, r)."""
    flaw: str | None = None


@dataclass(frozen=True, slots=True)
class TokenRows:
    """Rows of the embedding or unembedding."""

    ordinary: Array
    """(t, d): shared tokens that training text contains, in the order of the anchors."""
    untrained: Array
    """(u, d): shared tokens that training text cannot contain."""
    precision: float
    """Relative precision of the stored numbers (2^-8 for bf16)."""
    flaw: str | None = None


@dataclass(frozen=True, slots=True)
class Sketch:
    """What is kept of one model."""

    anatomy: Anatomy
    units: tuple[UnitBlock, ...]
    values: tuple[ValueBlock, ...]
    routers: Mapping[int, Array]
    """Layer → (experts, d)."""
    channels: Mapping[Role, Array]
    """Vectors over residual channels: norm gains and biases, whole."""
    column_norms: Mapping[Role, Array]
    """Norm of each residual channel's column in a whole matrix; empty unless whole matrices were read."""
    tokens: Mapping[str, TokenRows]
    """``embed`` and, unless tied, ``unembed``; ``project`` where fixed features are projected into the residual stream; ``position``
    where both models have a table of learned positions, its rows under ``untrained``, whether training reached them or not."""
    spreads: Mapping[str, tuple[float, ...]]
    """Standard deviation of Q, K, V, O by layer: exhibits only."""
    warnings: tuple[str, ...] = field(default=())
    frame: str = ""
    """Of rows that are kept as projections: which ones. Rows have a common frame only if these are equal; empty for the file's own."""
    turned: Sketch | None = None
    """Where rows are kept as projections: the same rows projected on directions that turn with the residual stream, those of the
    model's own tokens."""
    layers_read: tuple[int, ...] | None = None
    """The layers that were read, where others were not; ``None`` where all were."""
    lattice: str = ""
    """How the FFN matrices are quantised, most of them if several ways; empty if they are not."""

    def has_read(self, layer: int) -> bool:
        """Whether a layer was read."""
        return self.layers_read is None or layer in self.layers_read
