"""Small packages and repositories, built on demand for tests of the real package managers."""
