"""The conversation of a call, as messages of a chat: the texts as far as they were heard, and the results of tools."""

import re
from hashlib import sha256

import orjson

from core.json_values import Json
from core.store import KeyValueStore
from dispatch.routing.voice_config import VoiceConfig
from voice.history import Spoken, keep_heard, without_empty

PRESSED = "(The caller has pressed the keys: "
SILENT = "(The caller has said nothing for a while.)"
PLACEHOLDER = re.compile(r"\{\{\s*([\w.-]{1,100})\s*\}\}")
LONGEST = 4000
"""Characters of one utterance of the caller."""
MOST_MESSAGES = 2000
"""Messages of a conversation; the oldest are dropped."""
KEPT_SECONDS = 120.0
"""How long a conversation waits for its platform to dial again, after a reload or a lost connection."""


class Conversation:
    """The messages so far. Not safe for threads: the session has a lock.

    `history` is the conversation up to the turn under way, `rounds` what the assistant has done in that: texts, calls
    of tools and their answers. `variables` are facts of the call.
    """

    def __init__(self, config: VoiceConfig) -> None:
        self.variables: dict[str, str] = {}
        self.history: list[Json] = []
        self.rounds: list[Json] = []
        self._config = config
        self._spoken: list[Spoken] = []

    def messages(self) -> list[Json]:
        """The messages for the model. The last one is never the assistant's, which some models would continue."""
        instructions = self._fill_in(self._config.instructions)
        system = [{"role": "system", "content": instructions}] if instructions else []
        is_open = self.history and self.history[-1]["role"] != "assistant"
        return [*system, *self.history, *([] if is_open else [{"role": "user", "content": SILENT}])]

    @property
    def awaits_answer(self) -> bool:
        """Whether the caller has spoken last."""
        return bool(self.history) and self.history[-1]["role"] == "user"

    def greet(self) -> str:
        """Add the greeting and return it; "" for none."""
        text = self._fill_in(self._config.greeting)
        if text:
            self.say(text)
            self.end_answer()
        return text

    def hear(self, text: str) -> None:
        """Add an utterance of the caller."""
        self._spoken = []
        self.history.append({"role": "user", "content": text[:LONGEST]})
        if len(self.history) > MOST_MESSAGES:
            newest = self.history[-MOST_MESSAGES // 2 :]
            while newest[0]["role"] != "user":  # results of tools would stand without their calls
                newest.pop(0)
            self.history = newest

    def hear_key(self, digit: str) -> None:
        """Add a key that the caller has pressed. Keys in a row become one message."""
        last = self.history[-1] if self.history else {"content": ""}
        if last.get("role") == "user" and last["content"].startswith(PRESSED):
            self.history.pop()
            digit = f"{last['content'].removeprefix(PRESSED).removesuffix(')')} {digit}"
        self.hear(f"{PRESSED}{digit})")

    def replace(self, messages: list[Json]) -> None:
        """Replace the messages by the platform's own transcript, which has what the caller heard."""
        self._spoken = []
        self.history = messages

    def say(self, text: str) -> None:
        """Add a piece of the assistant's answer."""
        if not self.rounds or self.rounds[-1]["role"] != "assistant" or self.rounds[-1].get("tool_calls"):
            self.rounds.append({"role": "assistant", "content": ""})
        message = self.rounds[-1]
        message["content"] += text
        if self._spoken and self._spoken[-1].message is message:
            self._spoken[-1].text += text
        else:
            self._spoken.append(Spoken(text, message))

    def say_filler(self, text: str) -> None:
        """Add a filler, which the caller hears, and which is no part of the model's answer."""
        self._spoken.append(Spoken(text, None))

    def add_call(self, use: Json, content: str, *, continues: bool) -> None:
        """Add a call of a tool and its result. `continues`: the answer has made a call before."""
        assistants = [each for each in self.rounds if each["role"] == "assistant"]
        if not continues and (not self.rounds or self.rounds[-1]["role"] != "assistant"):
            assistants = [{"role": "assistant", "content": None}]
            self.rounds += assistants
        assistants[-1].setdefault("tool_calls", []).append(use)
        self.rounds.append({"role": "tool", "tool_call_id": use["id"], "content": content})

    def end_answer(self) -> None:
        """End the answer, and move it to the history."""
        self.history += self.rounds
        self.rounds = []

    def keep_heard(self, heard: str) -> None:
        """Cut the newest answer, which was interrupted, behind the part that the caller heard."""
        keep_heard(self._spoken, heard[:LONGEST])
        self._spoken = []
        self.history = without_empty(self.history)

    def _fill_in(self, text: str) -> str:
        return PLACEHOLDER.sub(lambda found: self.variables.get(found[1], ""), text).strip()


class KeptConversations:
    """Conversations whose connections were lost, until their platforms dial again; by the caller's name."""

    def __init__(self, state: KeyValueStore | None, caller: str) -> None:
        self._state = state
        self._caller = caller

    def keep(self, call_id: str, conversation: Conversation) -> None:
        """Keep the conversation of a call."""
        if self._state is not None and call_id and conversation.history:
            kept = {"history": conversation.history, "variables": conversation.variables}
            self._state.put(self._key(call_id), orjson.dumps(kept).decode(), KEPT_SECONDS)

    def restore(self, call_id: str, conversation: Conversation) -> bool:
        """Restore the conversation that a call had; returns whether it had one."""
        kept = self._state.pop(self._key(call_id)) if self._state is not None and call_id else None
        if kept is None:
            return False
        found = orjson.loads(kept)
        conversation.history = found["history"]
        conversation.variables = {**found["variables"], **conversation.variables}
        return True

    def _key(self, call_id: str) -> str:
        return f"voice:{sha256(orjson.dumps([self._caller, call_id])).hexdigest()}"
