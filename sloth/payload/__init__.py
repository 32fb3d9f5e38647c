"""The guest house: what runs on a managed host; standard library only, Python 3.6 and up."""
