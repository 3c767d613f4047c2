"""The reading engine: windows of fields from stored arrays into the memory of a batch."""
