"""Chat turns, in the words of no API: what the families that answer chats share."""
