"""Measurements that anybody can run: offline batches, a running server, and the frontend alone."""
