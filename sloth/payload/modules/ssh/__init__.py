"""OpenSSH's files of a user: authorized keys, the client's configuration, and known hosts."""
