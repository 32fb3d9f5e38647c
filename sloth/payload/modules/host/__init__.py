"""The host itself: its reboot, and what is waited for."""
