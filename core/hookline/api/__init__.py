"""HTTP shell; imported only by `hookline serve`."""
