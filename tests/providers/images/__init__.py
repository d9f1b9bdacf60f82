"""tests.providers.images"""
