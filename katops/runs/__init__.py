"""What the verbs do for each task: one file per kind of data."""
