"""Frontend: text to ids and back, one state per request."""
