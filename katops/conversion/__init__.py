"""Existing models turned into KATs, with their weights and their function kept."""

from katops.conversion.converter import convert as convert
from katops.conversion.report import Conversion as Conversion
