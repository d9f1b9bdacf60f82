"""tests.emulators.openai"""
