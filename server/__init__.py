"""What is changed in gunicorn and Flask, and why."""
