"""HTTP: files that are downloaded, and requests."""
