"""What pages and the API show, as functions that return typed values; nothing here knows HTTP or HTML."""
