"""tests.emulators.oci"""
