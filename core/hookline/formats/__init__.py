"""Output formats as data, and the engine that reads them from text that arrives in pieces."""
