"""Products whose rows have the same bits in any batch. Importing this package compiles nothing."""
