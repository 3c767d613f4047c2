"""Descriptors of alloys: differentiable functions of atomic fractions, by theme, and tables of them by name."""

from katops.materials.descriptors.catalogue import DESCRIPTORS, SETS, Descriptor
from katops.materials.descriptors.evaluate import describe, descriptor_table

__all__ = ["DESCRIPTORS", "SETS", "Descriptor", "describe", "descriptor_table"]
