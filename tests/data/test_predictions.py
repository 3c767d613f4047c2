"""What a file of predictions is called."""

import h5py
import numpy as np

from katops.data import Window, open_dataset
from katops.data.predictions import write_predictions
from katops.fields import Channel, FieldMeta


def test_predictions_from_inputs_alone_are_named_after_what_was_predicted(write_plain, tmp_path):
    path = write_plain(perm=np.random.default_rng(0).normal(size=(3, 12, 20)))
    dataset = open_dataset(path, window=Window(), inputs=["perm"], outputs=[], axes=["sample", "x", "y"])
    assert dataset.meta.name == "perm"
    meta = FieldMeta(name="perm -> head", inputs=(Channel("perm"),), outputs=(Channel("head"),), axes=dataset.meta.axes)
    batch = (np.ones((3, 1, 1, 12, 20), np.float32), np.zeros((3, 4), np.int64))
    write_predictions(tmp_path / "out.h5", dataset, meta, [batch], {"model": "m"})
    with h5py.File(tmp_path / "out.h5") as file:
        assert file.attrs["name"] == "perm -> head"
