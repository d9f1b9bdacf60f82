"""tests.providers.anthropic"""
