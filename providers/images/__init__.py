"""Vendors of images."""
