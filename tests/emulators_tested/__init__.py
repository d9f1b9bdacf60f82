"""tests.emulators_tested"""
