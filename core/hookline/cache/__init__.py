"""KV cache: what layers store, slot allocation, pools, prefix caches."""
