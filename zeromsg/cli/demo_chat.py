"""What the terminal says in the demo's chat room, and how it reads what others say.

The messages are those of `zeromsg/zites/chat/model.js`. The terminal is somebody
of its own in the room, with a key of its own: whoever opens a page acts with
the node's.
"""

from collections.abc import Mapping
from typing import Any

from zeromsg.cli.output import shown

WHO: Mapping[str, Any] = {"cmd": "who"}


def here(letter: str, note: str) -> dict[str, Any]:
    """That the terminal at a node is here; pages show the note below its name."""
    return {"cmd": "here", "nick": f"terminal {letter}", "note": note, "bot": True}


def spoken(message: Any) -> str:
    """A message of the room as a line for people; strangers wrote it."""
    match message:
        case {"cmd": "say", "nick": str(nick), "text": str(text)}:
            return shown(f"{nick}: {text}")
        case {"cmd": "here", "note": str(note)} if note:
            return shown(note)
        case {"cmd": "here", "nick": str(nick)}:
            return shown(f"{nick} is here")
        case {"cmd": "who"}:
            return "who is there?"
        case {"cmd": "private", "encrypted": dict()}:
            return "(a private message, sealed)"
        case {"cmd": "poll", "nick": str(nick), "question": str(question)}:
            return shown(f"{nick} asks: {question}")
    return shown(message)
