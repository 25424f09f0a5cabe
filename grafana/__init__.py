"""Grafana's files, and the code that makes the dashboards among them (for development only)."""
