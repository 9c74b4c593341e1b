"""Trunks whose maps can be had from fine to coarse, with the deepest one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import nn

from hemitwin._shapes import Batch
from hemitwin.models.encoders.layers import FeatureMap, Features

Leaving = FeatureMap | tuple[FeatureMap, ...]
"""What leaves a trunk to be pooled: one map, or several."""


@dataclass(frozen=True)
class PyramidLevel:
    """
    One map of a feature pyramid.

    Attributes
    ----------
    layer : str
        Name of the trunk's submodule that gives the map.
    channels : int
        Channels of the map.
    stride : int
        Voxels of the input along an axis for one voxel of the map. An axis of n voxels gives
        ceil(n / stride), counted from the same end.
    """

    layer: str
    channels: int
    stride: int


@runtime_checkable
class PyramidTrunk(Protocol):
    """A trunk with maps on ever coarser grids."""

    levels: tuple[PyramidLevel, ...]

    def forward_with_maps(self, x: Batch) -> tuple[Leaving, tuple[FeatureMap, ...]]:
        """Return what the trunk gives, and the map of each level, from fine to coarse."""
        ...


class StagedTrunk(nn.Sequential):
    """
    Named stages, run one after the other.

    Parameters
    ----------
    stages : mapping of str to nn.Module
        In the order in which they run.
    levels : sequence of PyramidLevel
        Stages whose maps show where features lie. Of those on one grid, the deepest is kept.

    Examples
    --------
    >>> levels = (PyramidLevel("a", 1, 2), PyramidLevel("b", 1, 2), PyramidLevel("c", 1, 4))
    >>> stages = {"a": nn.MaxPool2d(2), "b": nn.ReLU(), "c": nn.MaxPool2d(2)}
    >>> [level.layer for level in StagedTrunk(stages, levels).levels]
    ['b', 'c']
    """

    levels: tuple[PyramidLevel, ...]

    def __init__(self, stages: Mapping[str, nn.Module], levels: tuple[PyramidLevel, ...]) -> None:
        super().__init__()
        for name, stage in stages.items():
            self.add_module(name, stage)
        self.levels = tuple({level.stride: level for level in levels}.values())

    def forward_with_maps(self, x: Batch) -> tuple[FeatureMap, tuple[FeatureMap, ...]]:
        """Run the stages once and keep the levels' maps."""
        kept = {level.layer for level in self.levels}
        maps: list[FeatureMap] = []
        features: Features = x
        for name, stage in self.named_children():
            features = stage(features)
            if name in kept:
                maps.append(features)
        return features, tuple(maps)
