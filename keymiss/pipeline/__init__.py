"""What the functions in gears/ compute, as plain Python: no server, no worker.

A function reads its shard, has this package say what follows, and writes that. Scripts for the server (Lua)
stand here too, beside what makes their arguments.
"""
