"""What the HTTP API takes and gives, in pydantic: one definition for the service and its Python client."""
