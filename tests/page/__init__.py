"""The search page in a real browser, behind the real nginx and API."""
