"""The wire between processes: frozen msgspec structs without behaviour. Never pickle."""
