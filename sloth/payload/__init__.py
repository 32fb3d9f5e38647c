"""The code that runs on managed hosts: standard library only, Python 3.6 and newer."""
