"""The HTTP shell: everything of a server that no API family should have to write.

API families may import ``bodies``, ``errors``, ``sse`` and ``tasks``; the rest is the launcher's.
"""
