"""tests.emulators.cohere"""
