"""The Faust host: one processor, one App, one consumer group, one process. The only place that imports faust.

Read `host.py` for how a processor is fed, `catch_up.py` for how it gets near the topic's end, `app.py` for what is
asked of Faust, `waker.py` for a topic whose records only wake, `metrics.py` for what a worker shows.
"""
