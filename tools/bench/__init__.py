"""tools.bench"""
