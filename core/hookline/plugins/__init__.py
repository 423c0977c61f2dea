"""The plugin contract: hooks, discovery, registry, resolution, and the plan that child processes get."""
