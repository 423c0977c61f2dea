"""Hookline's own routes, shaped like SGLang's native API."""
