"""What one process tells the others when it fails, and what they raise instead of waiting for it."""

from __future__ import annotations

import json
import traceback
from typing import Any

from wsssbench.errors import WsssError

INTERRUPTED = "interrupted"


LOST: dict[str, Any] = {
    "rank": -1,
    "what": "another process ended without a word",
    "hint": "look at what torchrun says of it, then run the same command again",
}


class PeerFailed(WsssError):
    """Another process of the same training failed; the cell fails, the others go on."""

    code = 1

    def __init__(self, said: dict[str, Any]) -> None:
        self.said = said
        named = f"process {said['rank']}: " if said["rank"] >= 0 else ""
        super().__init__(named + said["what"], where=said.get("where", ""), hint=said.get("hint", ""))
        if said.get("trace"):
            self.add_note(f"in process {said['rank']}:\n{said['trace']}")


def told(rank: int, error: BaseException) -> str:
    """What the others are told of `error`, as JSON; what came from another one is passed on."""
    if isinstance(error, PeerFailed):
        return json.dumps(error.said)
    if isinstance(error, KeyboardInterrupt):
        return json.dumps({"rank": rank, "what": INTERRUPTED})
    if isinstance(error, WsssError):
        return json.dumps({"rank": rank, "what": error.what, "where": error.where, "hint": error.hint})
    what = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
    trace = "".join(traceback.format_exception(error))[-4000:]
    return json.dumps({"rank": rank, "what": what, "trace": trace})


def heard(text: str) -> BaseException:
    """What to raise for what another process told."""
    said = json.loads(text)
    return KeyboardInterrupt() if said["what"] == INTERRUPTED else PeerFailed(said)
