"""Run records, replicas and saved plans in a backend: delivered from the outbox, fetched, and kept in versions."""
