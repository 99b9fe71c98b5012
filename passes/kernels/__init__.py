"""Algorithms on bodies of gates that several passes share."""
