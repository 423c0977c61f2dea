"""Our own attention kernels in Triton. Importing this package compiles nothing."""
