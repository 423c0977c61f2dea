"""The HTTP shell: everything of a server that no API family should have to write.

For API families: ``bodies`` (requests and JSON answers), ``choice`` (what has come of a choice so far),
``sse`` and ``ndjson`` (streamed answers), ``tasks`` (work that ends with its client) and
``auth.require_admin``. The rest is the launcher's.
"""
