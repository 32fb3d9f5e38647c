"""Attacks: kills, hostile hosts, users, sites and surroundings, each with the promises that must hold under it."""
