"""The canonical meaning of a tensor: a role, and a view that finds it in the file.

A role is what a tensor *does* (``ffn.up`` of layer 3); a space is what an axis of it *counts* (FFN units, residual
channels). Two checkpoints may store one role under other names, transposed or fused with its neighbours; a view undoes
that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

__all__ = ["Anatomy", "Dims", "Role", "Space", "Traits", "View"]


class Space(StrEnum):
    """What an axis counts."""

    RESIDUAL = "residual"
    FFN = "ffn"
    QUERY = "query"
    """Query heads × head dimension, head-major."""
    KV = "kv"
    """Key or value heads × head dimension, head-major."""
    KEY = "key"
    """Heads × the dimensions of a key that no position turns, head-major, where keys and values differ in size (MLA)."""
    ROTARY = "rotary"
    """Dimensions of the one key part that all heads share and that positions turn (MLA)."""
    Q_LATENT = "q_latent"
    """Channels of the latent that queries are made of (MLA)."""
    KV_LATENT = "kv_latent"
    """Channels of the latent that keys and values are made of (MLA)."""
    HEAD = "head"
    """Query heads."""
    HEAD_DIM = "head_dim"
    VOCAB = "vocab"
    POSITION = "position"
    SEGMENT = "segment"
    EXPERT = "expert"
    INPUT = "input"
    """A fixed feature space (amino acids, pixels of a patch, mel bands) that feeds the residual stream through a learned projection."""
    EMBEDDING = "embedding"
    """Channels of token embeddings that are narrower than the stream and projected into it."""
    OTHER = "other"


@dataclass(frozen=True, slots=True, order=True)
class Role:
    """What a tensor does. ``kind`` is one of:

    ``embed.token`` · ``embed.position`` · ``embed.segment`` · ``embed.project`` · ``unembed`` · ``norm.embed`` ·
    ``norm.attn`` · ``norm.ffn`` · ``norm.final`` · ``norm.q`` · ``norm.k`` · ``attn.q`` · ``attn.k`` · ``attn.v`` ·
    ``attn.o`` · ``ffn.gate`` · ``ffn.up`` · ``ffn.down`` · ``ffn.router`` · ``ffn.shared_gate`` · ``head`` (a task
    head; ``detail`` says which).

    Of some families only: ``embed.class`` (the vector of the class token) · ``norm.attn_post`` · ``norm.ffn_post`` (norms after
    a block that also has one before it) · ``norm.attn_inner`` · ``norm.ffn_inner`` (between the two matrices of a block) ·
    ``attn.sink`` (the score of no token, by head) · ``attn.relative`` (biases by distance and head) · ``ffn.router_scale`` ·
    ``cross.q`` · ``cross.k`` · ``cross.v`` · ``cross.o`` · ``norm.cross`` (attention of a decoder to its encoder). With latent
    attention (MLA) ``attn.q_a`` and ``attn.kv_a`` write the latents, ``norm.q_a`` and ``norm.kv_a`` norm them, ``attn.q``, ``attn.k``
    and ``attn.v`` read them, and ``attn.k_rotary`` is the key part that all heads share.

    In a plain (ungated) FFN the first matrix is ``ffn.up`` and there is no ``ffn.gate``. ``norm.attn`` is the norm that
    belongs to the attention block and ``norm.ffn`` the one that belongs to the FFN, before it (pre-norm) or after it
    (post-norm): see `Traits`. Where one norm feeds both blocks it is ``norm.attn``. The bias of a router (``ffn.router``) may only
    choose experts, not weigh them. The layers of a decoder are numbered on from those of its encoder.
    """

    kind: str
    part: str = "weight"
    """``weight`` or ``bias``."""
    layer: int = -1
    """0-based; -1 outside the layers."""
    expert: int = -1
    """0-based; -1 for a dense FFN."""
    shared: bool = False
    """A shared expert, beside the routed ones."""
    detail: str = ""

    def __str__(self) -> str:
        place = f"layer {self.layer} " if self.layer >= 0 else ""
        expert = "shared expert " if self.shared else f"expert {self.expert} " if self.expert >= 0 else ""
        return f"{place}{expert}{self.kind}{'.' + self.detail if self.detail else ''} {self.part}"


@dataclass(frozen=True, slots=True)
class View:
    """Where a role lives: a matrix or a vector inside one stored tensor, and what its axes count.

    ``index`` first picks a block along the leading axes (one expert of a stack), and what is left beyond two axes counts as one axis.
    ``axis``, ``start`` and ``stop`` then cut a fused tensor (``in_proj_weight``, ``c_attn``) along one stored axis; ``stop`` ``None``
    means the whole of it. Where the fused parts alternate, ``run`` indices lie together and the next run begins ``period`` later.
    """

    tensor: str
    axes: tuple[Space, ...]
    """In stored order, after the block is picked."""
    shape: tuple[int, ...]
    """After the cut."""
    axis: int = 0
    start: int = 0
    stop: int | None = None
    run: int = 0
    """0 where the cut is one run."""
    period: int = 0
    index: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Dims:
    """The sizes of a model; 0 where they cannot be known (``heads`` without a config)."""

    layers: int
    width: int
    """Residual channels."""
    ffn: int
    """Units of a dense FFN, or of one routed expert if there is no dense one."""
    vocab: int
    heads: int = 0
    kv_heads: int = 0
    head_dim: int = 0
    experts: int = 0
    """Routed experts of a layer."""


@dataclass(frozen=True, slots=True)
class Traits:
    """What a family does by design that the statistics must know of."""

    gated: bool = True
    norm: str = "rms"
    """``rms`` or ``layer``."""
    pre_norm: bool = True
    parallel: bool = False
    """Whether attention and FFN read the same stream side by side; with one norm for both, that is ``norm.attn``."""
    norm_offset: bool = False
    """Whether a norm multiplies by 1 + its weight (Gemma), so that a stored 0 leaves a channel as it is."""
    ordered: Mapping[str, str] = field(default_factory=dict)
    """Spaces whose index has a meaning by design (so that no exchangeability holds), with the reason in plain words.

    A key is a space (``residual``), or a role and a space (``attn.k kv``) where only that role's axis is ordered:
    rotary positions order the dimensions of the keys, not those of the values.
    """
    fixed: Mapping[str, str] = field(default_factory=dict)
    """Tensors that were set by hand and that no training moves, each with the reason."""


@dataclass(frozen=True, slots=True)
class Anatomy:
    """A resolved checkpoint: every tensor has exactly one role, or a stated reason for having none."""

    architecture: str
    """The family's id, e.g. ``qwen2``; ``unknown`` if no family fits."""
    dims: Dims
    traits: Traits
    views: Mapping[Role, View]
    unused: Mapping[str, str]
    """Tensors without a role, each with the reason."""
    missing: tuple[str, ...]
    """Roles that the family needs and that were not found, in words."""
    reason: str | None = None
    """Why the checkpoint could not be resolved; ``None`` if it was."""
    notes: tuple[str, ...] = ()
    """E.g. tied unembedding, config contradicted by the names."""
