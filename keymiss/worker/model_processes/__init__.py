"""Models run in processes of their own, so that a run that never ends, or crashes, is ended alone.

    worker -> library process -> a process for each model -> its runners

The library process (`library_process`) has torch imported and forks the others, which share
its memory. A model's process loads the model, once, and never runs it: it forks the runners, which share its
weights (`forks`). A runner does one run at a time, on one core. All are told what to do over socket pairs
(`frames`).

Runners end when the worker does. Where `--library-socket` says so, the library process and the models stay
for a moment: the next worker finds them, and need neither import torch nor load a model.

On the worker's side `start` starts the library process, first of all, `forking` speaks with a process that
forks others, `libraries` loads models, and `pool` gives the runs that wait (`run_queue`) to runners
(`runner`), and ends those that take too long.
"""
