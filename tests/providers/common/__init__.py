"""tests.providers.common"""
