"""tests.providers.demo"""
