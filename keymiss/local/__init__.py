"""The system on one machine: its processes and their supervisor, users, folders, nginx, Prometheus."""
