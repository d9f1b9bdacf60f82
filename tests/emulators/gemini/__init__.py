"""tests.emulators.gemini"""
