"""Bringing a brain to where others lie: its mask, turn, scale, mid-plane and voxels."""

__all__: list[str] = []
