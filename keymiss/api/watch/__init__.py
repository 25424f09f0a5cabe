"""/watch: the committed dashboards, drawn from Prometheus."""
