"""The options of the lowering: which transformations a backend asks for."""

from __future__ import annotations

from dataclasses import dataclass

from lgir.errors import BackendError


@dataclass(frozen=True)
class LoweringOptions:
    """Transformations that the lowering may use; by default none, so that a plan has only steps
    that every target can evaluate: packs, gates, cones of convolutions, sums and exports.

    Attributes:
        trails: evaluate the two-input gates of a dense level along trails, as ChainSteps.
        fused_levels: evaluate gates that only one later level reads along the trails of that level,
            as FusedSteps. Requires `trails`.
        forests: evaluate dense bodies in which most gates have one reader as trees, as ConeSteps.
        channel_groups: split convolutions into groups of channels that never meet, and order the
            graph group by group.
        chunked_popcount: count results that only a GroupSum reads in chunks, as CountSteps, while
            the chunk is in a cache. Applies to results of trails and of forests.

    Raises BackendError if an option lacks the one that it requires.
    """

    trails: bool = False
    fused_levels: bool = False
    forests: bool = False
    channel_groups: bool = False
    chunked_popcount: bool = False

    def __post_init__(self) -> None:
        if self.fused_levels and not self.trails:
            raise BackendError("fused_levels needs trails: set trails=True, or fused_levels=False")
        if self.chunked_popcount and not (self.trails or self.forests):
            raise BackendError(
                "chunked_popcount needs trails or forests, whose results it counts: set one of "
                "them, or chunked_popcount=False"
            )
