"""FlashInfer's paged attention as a backend. Importing this package imports and compiles nothing."""
