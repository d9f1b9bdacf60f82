"""Tokens and costs of requests: accounting, the table of usage, reports."""
