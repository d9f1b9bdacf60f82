"""tests.providers.transport"""
