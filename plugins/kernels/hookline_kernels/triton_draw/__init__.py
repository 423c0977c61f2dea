"""From logits to random tokens in Triton: nothing waits for the device, no row depends on its neighbours."""
