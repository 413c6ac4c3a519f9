"""Touches elements: what array libraries have in common, and in which traits they differ."""
