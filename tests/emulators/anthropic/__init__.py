"""tests.emulators.anthropic"""
