"""tests.providers.gemini"""
