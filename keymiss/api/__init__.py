"""The HTTP service: a question comes in, every shard is asked, the answers are merged.

Layers, each of which knows only the ones below it:

* ``app``       the application, its start and its end
* ``routes_*``  routes, the shapes of requests and replies, OpenAPI; ``body``, ``leaving``, ``admin`` and
  ``openapi`` help them
* ``tracing``   around every request: its id, its count
* ``problems``  every error a client can see, as one table (RFC 9457)
* ``ask``       one question from candidates to the merged reply
* ``ready``     the readiness check
* ``question_record``  what metrics and log say of a question
* ``fanout``    sentences asked on many shards at once, with one time limit; ``asking``: one key
* ``merge``     what came back, ranked, grouped and counted (no input or output)
* ``article_store``, ``articles``  articles written, read and deleted; their titles and years
* ``shards``    who owns which slots, and a bounded connection pool for each
* ``metrics``   what this process counts; ``shard_figures`` what the shards say of themselves,
  ``shard_families`` the same as metrics
* ``watch``     panels of dashboards with their data; ``prometheus`` asks for it, ``legends`` names series
* ``settings``  ``KEYMISS_API_*``
"""
