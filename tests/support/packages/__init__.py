"""Small packages and repositories, built on the spot for tests of the real package managers."""
