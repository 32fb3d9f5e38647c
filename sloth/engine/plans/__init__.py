"""Saved plans: the calls that a check has made and what they found, to be applied without the site."""
