"""Mounts and swap: the entries of /etc/fstab, and what is mounted."""
