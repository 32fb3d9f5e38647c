"""One session with a controller: frames, typed messages, the calls and queries that they carry."""
