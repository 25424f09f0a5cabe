"""What every route shares: problems, bodies, request ids, the OpenAPI document, the admin key."""
