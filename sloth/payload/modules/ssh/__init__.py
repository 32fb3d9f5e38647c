"""OpenSSH's files of users: who may log in, whom they connect to, and which hosts they know."""
