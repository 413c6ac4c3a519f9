"""Integers only: what a call will do is settled here, before an array is touched."""
