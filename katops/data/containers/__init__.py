"""What files store: HDF5, MATLAB, NumPy, torch, netCDF and zarr as one :class:`katops.data.storage.StoredTree`."""
