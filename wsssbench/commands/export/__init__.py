"""`wsssbench export`: what a finished run gives to others: the VOC server, readers of PSA's maps, any viewer.

Nothing is judged or trained here, and no file appears that is not whole.
"""
