"""Names of what isolated steps leave beside the folders of steps: runs/<dataset>/steps/.isolated."""

from __future__ import annotations

SHARED = ".isolated"  # in the folder of steps: what isolated steps share, by supervision
STAGED = ".staged-"  # begins the name of a folder there, of images written for the sandboxes of one run
