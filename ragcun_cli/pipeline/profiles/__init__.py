"""Profiles and plans: found, merged, checked and written."""
