"""tests.providers.openai_compatible"""
