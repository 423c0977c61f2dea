"""Media loaders: web addresses, ``data:`` URIs, files below allowed directories."""
