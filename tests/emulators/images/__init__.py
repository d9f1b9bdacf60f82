"""tests.emulators.images"""
