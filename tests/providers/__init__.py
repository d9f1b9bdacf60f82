"""tests.providers"""
