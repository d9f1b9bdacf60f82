"""tests.providers.oci"""
