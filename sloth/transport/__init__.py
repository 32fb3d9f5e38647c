"""The mail room: the only place that imports asyncssh."""
