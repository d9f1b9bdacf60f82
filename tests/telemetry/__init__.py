"""tests.telemetry"""
