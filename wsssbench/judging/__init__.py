"""One label map or record judged against the truth: masks are opened, pixels counted, counts scored.

Methods and networks must not enter: what is judged comes as files or arrays.
"""
