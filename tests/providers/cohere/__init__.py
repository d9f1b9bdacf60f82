"""tests.providers.cohere"""
