"""Carries out: passes over blocks, on threads where they help."""
