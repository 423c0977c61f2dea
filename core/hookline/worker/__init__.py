"""Worker: one rank's device: weights, memory, passes, sampling."""

from __future__ import annotations

import os
import sys

# Threads of CPU kernels wait for each other after every operation. By default OpenMP lets them spin, and as
# soon as another process wants one of the cores a step takes up to a hundred times as long (measured on two
# cores: 1064 ms instead of 30 ms). The runtime reads this once, when torch loads it; hence here, before any
# module of this package imports torch, and without overruling the user.
if "torch" not in sys.modules:
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
