"""tests.dialects"""
