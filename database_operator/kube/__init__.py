"""The Kubernetes runtime: everything an operator needs of the API server, and nothing about databases.

client      one request a call, bounded in number, with errors as classes (``errors``), over a ``Connection`` (``auth``)
informer    a local copy of one kind, pruned to the wanted fields, kept by list and watch
queue       which key is worked on next
controller  turns keys into passes, with time-outs, backoff and resync
lease       who leads, and whether a write may still begin
events      what people are told
metrics, logs   what machines are told
"""
