"""Dense products of few tokens in Triton, with what comes before and after them. Importing this compiles nothing."""
