"""The HTTP service: a question comes in, every shard is asked, the answers are merged.

Layers, each of which knows only the ones below it:

* ``app``       the application, its start and its end
* ``routes_*``  routes, the shapes of requests and replies, OpenAPI; ``body``, ``leaving``, ``admin`` and
  ``openapi`` help them
* ``problems``  every error a client can see, as one table (RFC 9457)
* ``ask``       one question from candidates to the merged reply
* ``ready``     the readiness check
* ``fanout``    GETs on many shards at once, with one time limit
* ``merge``     what came back, ranked, grouped and counted (no input or output)
* ``article_store``, ``articles``  articles written, read and deleted; their titles and years
* ``shards``    who owns which slots, and a bounded connection pool for each
* ``settings``  ``KEYMISS_API_*``
"""
