"""Bedrock agents behind the endpoint: sessions, streaming, tools and usage."""

import json
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from app import create_app
from config import Settings
from providers.transport import client as http
from tests.conftest import environment, until
from tests.emulators import FAULTS, Fault, Phase, cases, faults
from tests.emulators.bedrock.answers import Turn
from tests.emulators.bedrock.server import AGENT, BedrockUpstream
from tests.emulators.connection import Connection
from tests.support.frames import chunks, completion, error, finish, payloads, streamed_calls, streamed_text
from tests.support.http import openai_error
from tools.doctor.examine import examine

CHAT = "/v1/chat/completions"
OTHER = ("OTHER12345", "ALIAS12345")
Messages = list[dict[str, Any]]


class Talk:
    """A conversation as a voice platform holds it: all of it is sent each time."""

    def __init__(self, client: Any, **body: Any) -> None:
        self.client = client
        self.body = body
        self.headers: dict[str, str] = {}
        self.messages: Messages = []

    def send(self, messages: Messages, **body: Any) -> Any:
        return self.client.post(CHAT, json={"messages": messages, **self.body, **body}, headers=self.headers)

    def say(self, text: str, **body: Any) -> str:
        """The user says so; what the agent answers."""
        self.messages.append({"role": "user", "content": text})
        return self.answer(**body)

    def answer(self, **body: Any) -> str:
        response = self.send(self.messages, **body)
        assert response.status_code == 200, response.data
        message = completion(response.data)["choices"][0]["message"]
        self.messages.append({key: value for key, value in message.items() if value is not None})
        return message["content"] or ""


@pytest.fixture(scope="module")
def server() -> Iterator[BedrockUpstream]:
    with BedrockUpstream() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def apps(server: BedrockUpstream, folder: Path) -> Callable[..., Any]:
    """apps(SETTING=value, ...): one app for each choice of settings, as a client at Amazon takes a while to build."""

    @cache
    def app(**settings: object) -> Any:
        ids = {"AGENT_ID": AGENT[0], "AGENT_ALIAS_ID": AGENT[1], "DATA_DIR": folder}
        return create_app(Settings.load(environment(**{**server.settings, **ids, **settings}))).test_client()

    return app


@pytest.fixture
def bedrock(server: BedrockUpstream, folder: Path) -> BedrockUpstream:
    """The server as if new, and nothing kept from earlier tests."""
    for agent in server.agents.values():
        agent.expire()
    server._queue.clear()
    server.always(Turn())
    server.asked.clear()
    if (folder / "state.sqlite3").exists():
        change_sessions(folder, "DELETE FROM kept")
    return server


def change_sessions(folder: Path, statement: str, *values: object) -> None:
    """Change what the app keeps."""
    with closing(sqlite3.connect(folder / "state.sqlite3", isolation_level=None)) as connection:
        connection.execute(statement, values)


@pytest.fixture
def start(bedrock: BedrockUpstream, apps: Callable[..., Any]) -> Callable[..., Any]:
    """start(SETTING=value, ...): an app in front of the agent."""
    return apps


@pytest.fixture
def conversation(start: Callable[..., Any]) -> Talk:
    return Talk(start())


def sessions(bedrock: BedrockUpstream) -> list[str]:
    """The session of each request so far."""
    return [each.params["sessionId"] for each in bedrock.asked]


def state(bedrock: BedrockUpstream, at: int = -1) -> dict[str, Any]:
    found: dict[str, Any] = bedrock.asked[at].params.get("sessionState", {})
    return found


def inputs(bedrock: BedrockUpstream) -> list[str]:
    return [each.params.get("inputText", "") for each in bedrock.asked]


# it remembers


def test_an_agent_remembers(bedrock: BedrockUpstream, conversation: Talk) -> None:
    """One session for the conversation, and in it each word once."""
    assert conversation.say("My name is Ada.") == "My name is Ada.\n"
    conversation.say("I live in Paris.")
    assert conversation.say("What is my name?") == "My name is Ada.\nI live in Paris.\nWhat is my name?\n"
    assert len(set(sessions(bedrock))) == 1
    assert inputs(bedrock) == ["My name is Ada.", "I live in Paris.", "What is my name?"]


def test_another_process_remembers(bedrock: BedrockUpstream, start: Callable[..., Any]) -> None:
    """A restart between turns, or another worker."""
    conversation = Talk(start())
    conversation.say("My name is Ada.")
    conversation.client = start(HEARTBEAT=4)
    assert conversation.say("Who am I?") == "My name is Ada.\nWho am I?\n"
    assert len(set(sessions(bedrock))) == 1


@pytest.mark.parametrize("how", ["trimmed", "parts", "system", "cut"])
def test_a_client_may_write_the_history_otherwise(bedrock: BedrockUpstream, conversation: Talk, how: str) -> None:
    bedrock.enqueue(Turn(texts=["Hello Ada,  ", "how are you? "]))
    conversation.messages = [{"role": "system", "content": "Be brief. It is 10:01."}]
    conversation.say("My name\nis Ada. ")
    user, answer = conversation.messages[1:]
    if how == "trimmed":
        conversation.messages[1:] = [
            {**user, "content": "My name is Ada."},
            {**answer, "content": "Hello Ada, how are you?"},
        ]
    elif how == "parts":
        conversation.messages[1] = {**user, "content": [{"type": "text", "text": user["content"]}]}
    elif how == "system":
        conversation.messages[0] = {"role": "system", "content": "Be brief. It is 10:02."}
    else:
        conversation.messages[2:] = [{**answer, "content": "Hello Ada,"}, {**answer, "content": "how are you?"}]
    conversation.say("Fine.")
    assert len(set(sessions(bedrock))) == 1
    assert inputs(bedrock)[-1] == "Fine."


def test_an_agent_that_never_heard_it_is_told(bedrock: BedrockUpstream, conversation: Talk) -> None:
    """A conversation that began elsewhere, or whose session is gone."""
    conversation.messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "assistant", "content": "Hello!"},
        {"role": "user", "content": "My name is Ada."},
        {"role": "assistant", "content": "Nice to meet you."},
    ]
    conversation.say("Who am I?")
    (text,) = inputs(bedrock)
    assert text.endswith("Who am I?")
    for words in ("Assistant: Hello!", "User: My name is Ada.", "Assistant: Nice to meet you."):
        assert words in text
    assert state(bedrock) == {"promptSessionAttributes": {"system_prompt": "Be brief."}}
    conversation.say("And now?")
    assert inputs(bedrock)[-1] == "And now?"
    assert len(set(sessions(bedrock))) == 1


def test_the_history_can_go_as_amazon_has_it(bedrock: BedrockUpstream, conversation: Talk) -> None:
    conversation.messages = [{"role": "user", "content": "I am Ada."}, {"role": "assistant", "content": "Hello."}]
    conversation.say("Who am I?", bedrock={"conversationHistory": True})
    assert inputs(bedrock) == ["Who am I?"]
    assert state(bedrock)["conversationHistory"]["messages"] == [
        {"role": "user", "content": [{"text": "I am Ada."}]},
        {"role": "assistant", "content": [{"text": "Hello."}]},
    ]


def test_a_session_is_used_once_at_a_time(bedrock: BedrockUpstream, conversation: Talk) -> None:
    """Platforms send a turn several times, to be faster or after a time-out: each is answered, in sessions apart."""
    conversation.say("My name is Ada.")
    again = Talk(conversation.client)
    again.messages = list(conversation.messages)
    bedrock.enqueue(Turn(first_delay=0.3), Turn())
    first = threading.Thread(target=conversation.say, args=("Who am I?",))
    first.start()
    until(lambda: len(bedrock.asked) == 2, "the first of the two")
    assert "My name is Ada." in again.say("Who am I?")
    first.join()
    one, other = sessions(bedrock)[1:]
    assert one != other


def test_equal_conversations_do_not_meet(bedrock: BedrockUpstream, start: Callable[..., Any]) -> None:
    """A session is bound to the key that opened it: two callers who say the same words have one each."""
    client = start(API_KEYS="ann:key-of-ann,bob:key-of-bob")
    ann, bob = Talk(client), Talk(client, session_id="a")
    for conversation, key in ((ann, "key-of-ann"), (bob, "key-of-bob")):
        conversation.headers = {"Authorization": f"Bearer {key}"}
    ann.say("Hello.")
    bob.say("Hello.")
    bob.body = {}
    bob.say("Hello again.")
    assert len(set(sessions(bedrock))) == 3, "bob's second turn has neither ann's nor, by his words, his own"
    ann.body = {"session_id": "a"}
    ann.messages.clear()
    ann.say("Hello.")
    assert sessions(bedrock)[-1] not in sessions(bedrock)[:-1], "nor by an id that bob has used"


def test_other_attributes_are_another_conversation(bedrock: BedrockUpstream, start: Callable[..., Any]) -> None:
    """Two callers of one key who say the same: what the agent knows of the one, it does not use for the other."""
    client = start()
    ann, bob = (Talk(client, bedrock={"sessionAttributes": {"customer": name}}) for name in ("ann", "bob"))
    ann.say("Hello.")
    bob.say("Hello.")
    ann.say("My balance?")
    bob.say("My balance?")
    first, second, third, fourth = sessions(bedrock)
    assert (third, fourth) == (first, second)
    assert state(bedrock)["sessionAttributes"] == {"customer": "bob"}


# explicit ids

IDS: Mapping[str, tuple[dict[str, Any], dict[str, str]]] = {
    "body": ({"session_id": "call-1"}, {}),
    "header": ({}, {"x-session-id": "call-1"}),
    "metadata": ({"metadata": {"session_id": "call-1"}}, {}),
    "nested metadata": ({"metadata": {"session_id": "call-1", "more": {"a": 1}}}, {}),
    "ElevenLabs": ({"elevenlabs_extra_body": {"session_id": "call-1"}}, {}),
    "ElevenLabs conversation": ({"elevenlabs_extra_body": {"conversation_id": "call-1"}}, {}),
    "Vapi": ({"call": {"id": "call-1", "type": "webCall"}, "phoneNumber": {}}, {}),
    "body before header": ({"session_id": "call-1"}, {"x-session-id": "call-2"}),
    "body before call": ({"session_id": "call-1", "call": {"id": "call-2"}}, {}),
}


@pytest.mark.parametrize("where", IDS)
def test_an_id_keeps_a_session(bedrock: BedrockUpstream, conversation: Talk, where: str) -> None:
    """Only the last words are sent, and it does not matter what the history says."""
    conversation.body, conversation.headers = IDS[where]
    conversation.say("My name is Ada.")
    conversation.messages[1]["content"] = "Something else altogether."
    assert conversation.say("Who am I?") == "My name is Ada.\nWho am I?\n"
    first, second = sessions(bedrock)
    assert first == second
    assert first.startswith("call-1-")


def test_an_id_alone_is_enough(bedrock: BedrockUpstream, start: Callable[..., Any], tmp_path: Path) -> None:
    """A client that sends the last words alone; also when the store has forgotten."""
    conversation = Talk(start(), session_id="call-1")
    conversation.say("My name is Ada.")
    for client in (conversation.client, start(DATA_DIR=tmp_path / "new")):
        conversation.client, conversation.messages = client, []
        assert "My name is Ada." in conversation.say("Who am I?")
    assert len(set(sessions(bedrock))) == 1


@pytest.mark.parametrize("identifier", ["a", "é", "../..", "  ", "x" * 5000, "a b\n", "日本", "0", "a/b?c=d#e", "%2e"])
def test_odd_ids(bedrock: BedrockUpstream, conversation: Talk, identifier: str) -> None:
    """Of one letter, with odd characters, too long: the emulated service holds the session's id to its form."""
    conversation.body = {"session_id": identifier}
    conversation.say("My name is Ada.")
    assert conversation.say("Who am I?") == "My name is Ada.\nWho am I?\n"


def test_ids_that_look_alike_do_not_meet(bedrock: BedrockUpstream, start: Callable[..., Any]) -> None:
    client = start()
    for identifier in ("a b", "a-b", "a  b", "A-B", "a.b"):
        Talk(client, session_id=identifier).say("Hello.")
    assert len(set(sessions(bedrock))) == 5


def test_a_user_is_no_session(bedrock: BedrockUpstream, start: Callable[..., Any]) -> None:
    """A session is never chosen by `user`."""
    client = start()
    for text in ("Hello.", "Good day."):
        Talk(client, user="ada", user_id="ada").say(text)
    assert len(set(sessions(bedrock))) == 2


def test_two_turns_at_once_of_one_id(bedrock: BedrockUpstream, conversation: Talk) -> None:
    """Neither hangs: the second has a session of its own, and is told what was said."""
    conversation.body = {"session_id": "call-1"}
    conversation.say("My name is Ada.")
    history = list(conversation.messages)
    bedrock.enqueue(Turn(first_delay=0.3), Turn())
    first = threading.Thread(target=conversation.say, args=("One.",))
    first.start()
    until(lambda: len(bedrock.asked) == 2, "the first of the two")
    second = conversation.send([*history, {"role": "user", "content": "Two."}])
    assert second.status_code == 200
    assert "My name is Ada." in completion(second.data)["choices"][0]["message"]["content"]
    first.join()
    assert len(set(sessions(bedrock))) == 2


@pytest.mark.thorough
def test_two_turns_at_once_without_a_history(bedrock: BedrockUpstream, conversation: Talk) -> None:
    """A client that sends the last words alone would lose its session: it is told, after retries, and soon."""
    conversation.body = {"session_id": "call-1"}
    conversation.say("My name is Ada.")
    bedrock.enqueue(Turn(first_delay=1.0))
    first = threading.Thread(target=conversation.say, args=("One.",))
    conversation.messages = []
    first.start()
    until(lambda: len(bedrock.asked) == 2, "the first of the two")
    details = openai_error(conversation.send([{"role": "user", "content": "Two."}]), 409)
    assert details["code"] == "session_busy"
    assert "busy" in details["message"]
    first.join()
    conversation.messages = []
    assert "My name is Ada." in conversation.say("Three.")


def test_a_first_turn_that_comes_twice_at_once(bedrock: BedrockUpstream, conversation: Talk) -> None:
    """As platforms guess ahead: nothing is lost by another session."""
    conversation.body = {"session_id": "call-1"}
    bedrock.enqueue(Turn(first_delay=0.3), Turn())
    first = threading.Thread(target=conversation.say, args=("Hello.",))
    first.start()
    until(lambda: len(bedrock.asked) == 1, "the first of the two")
    assert conversation.send([{"role": "user", "content": "Hello."}]).status_code == 200
    first.join()


def test_a_turn_that_is_asked_again(bedrock: BedrockUpstream, conversation: Talk) -> None:
    """Platforms guess what the user is about to say, and ask anew when there is more: the guess was not said."""
    conversation.body = {"session_id": "call-1"}
    conversation.say("My name is Ada.")
    for guess in ("I want", "I want", "I want tea."):
        asked = conversation.send([*conversation.messages, {"role": "user", "content": guess}])
        assert asked.status_code == 200
    conversation.messages += [
        {"role": "user", "content": "I want tea."},
        completion(asked.data)["choices"][0]["message"],
    ]
    assert conversation.say("And you?").count("I want") == 1
    first, guess, again, right, last = sessions(bedrock)
    assert first == guess
    assert len({first, again, right}) == 3
    assert right == last


# failures and the session


def test_a_turn_that_failed_comes_again(bedrock: BedrockUpstream, start: Callable[..., Any]) -> None:
    """ElevenLabs sends it three times: the session is still there."""
    conversation = Talk(start(RETRIES=0))
    conversation.say("My name is Ada.")
    bedrock.enqueue(Turn(exception="ThrottlingException"), Turn(breaks_with="throttlingException"))
    again = [*conversation.messages, {"role": "user", "content": "Who am I?"}]
    for _ in range(2):
        assert openai_error(conversation.send(again), 429)["code"] == "rate_limit_exceeded"
    assert conversation.say("Who am I?").startswith("My name is Ada.\n")
    assert len(set(sessions(bedrock))) == 1


def test_an_interrupted_answer_is_told_as_it_was_heard(bedrock: BedrockUpstream, conversation: Talk) -> None:
    """The caller interrupts: what the session holds is not what was heard, so the next turn has a new one."""
    conversation.say("My name is Ada.")
    bedrock.enqueue(Turn(texts=["Once ", "upon ", "a time."], breaks_with="internalServerException", breaks_after=1))
    broken = conversation.send([*conversation.messages, {"role": "user", "content": "Tell a story."}], stream=True)
    assert error(payloads(broken.data)[-1].encode())["code"] == "upstream_error"
    conversation.messages += [{"role": "user", "content": "Tell a story."}, {"role": "assistant", "content": "Once"}]
    conversation.say("Stop.")
    first, second, third = sessions(bedrock)
    assert first == second != third
    for words in ("My name is Ada.", "Assistant: Once\n", "Stop."):
        assert words in inputs(bedrock)[-1]


@pytest.mark.parametrize("exception", ["ConflictException", "ResourceNotFoundException", "ValidationException"])
def test_a_session_that_is_gone(bedrock: BedrockUpstream, conversation: Talk, exception: str) -> None:
    conversation.say("My name is Ada.")
    bedrock.enqueue(Turn(exception=exception, message="Session 123 has expired."))
    conversation.say("Who am I?")
    assert len(sessions(bedrock)) == 3
    assert "My name is Ada." in inputs(bedrock)[-1]


def test_a_session_that_is_gone_for_who_sends_no_history(bedrock: BedrockUpstream, conversation: Talk) -> None:
    """There is nothing left to keep: a new one, and not the same error for ever."""
    conversation.body = {"session_id": "call-1"}
    conversation.say("My name is Ada.")
    bedrock.enqueue(Turn(exception="ValidationException", message="Session 123 has expired."))
    conversation.messages = []
    assert conversation.say("Who am I?") == "Who am I?\n"


def test_after_a_long_silence(
    bedrock: BedrockUpstream, start: Callable[..., Any], folder: Path, tmp_path: Path
) -> None:
    """An agent forgets when nobody has spoken for its idle time; so the turn after it brings what was said."""
    file = tmp_path / "models.yaml"
    file.write_text(
        "providers:\n  bedrock: {agent_id: %s, agent_alias_id: %s, session_ttl: 60}\n" % AGENT  # noqa: UP031
    )
    conversation = Talk(start(MODELS_FILE=file))
    conversation.say("My name is Ada.")
    bedrock.agent.expire()
    change_sessions(folder, "UPDATE kept SET until = until - 55")
    conversation.say("Who am I?")
    assert "My name is Ada." in inputs(bedrock)[-1]


def test_a_store_out_of_reach_fails_no_call(bedrock: BedrockUpstream, start: Callable[..., Any]) -> None:
    conversation = Talk(start(DATA_DIR="/dev/null/nowhere"))
    conversation.say("My name is Ada.")
    assert "My name is Ada." in conversation.say("Who am I?")


# words


def test_words_come_as_the_agent_says_them(bedrock: BedrockUpstream, conversation: Talk) -> None:
    """Nothing stripped, nothing cut again, streamFinalResponse on."""
    texts = ["Hel", "lo ", " my friend,", "\n\n", "how are you today, in this fine ", "weather? "]
    bedrock.enqueue(Turn(texts=texts))
    stream = conversation.send([{"role": "user", "content": "Hi."}], stream=True).data
    assert [text for text in pieces(stream) if text] == texts
    assert bedrock.asked[0].params["streamingConfigurations"] == {"streamFinalResponse": True}


def pieces(stream: bytes) -> list[str]:
    return [choice["delta"].get("content") or "" for chunk in chunks(stream) for choice in chunk["choices"]]


def test_characters_are_put_together(bedrock: BedrockUpstream, conversation: Talk) -> None:
    """Amazon cuts by bytes."""
    raw = "Grüße aus 東京 🗼".encode()
    bedrock.enqueue(Turn(texts=[raw[at : at + 1] for at in range(len(raw))]))
    assert streamed_text(conversation.send([{"role": "user", "content": "Hi."}], stream=True).data) == raw.decode()


def test_a_lump_is_cut_at_words(bedrock: BedrockUpstream, conversation: Talk) -> None:
    """An agent without a streamed final answer has one chunk."""
    text = "It is sunny in Paris today,  with a light breeze.\n"
    bedrock.enqueue(Turn(texts=[text]))
    stream = conversation.send([{"role": "user", "content": "Hi."}], stream=True).data
    assert streamed_text(stream) == text
    assert len([piece for piece in pieces(stream) if piece]) == 10


# tools


def control(function: str = "get_weather", **parameters: tuple[str, str]) -> dict[str, Any]:
    given = [{"name": name, "type": kind, "value": value} for name, (kind, value) in parameters.items()]
    return {"functionInvocationInput": {"actionGroup": "weather", "function": function, "parameters": given}}


API = {
    "apiInvocationInput": {
        "actionGroup": "orders",
        "apiPath": "/orders/{id}/items",
        "httpMethod": "POST",
        "parameters": [{"name": "id", "type": "integer", "value": "7"}],
        "requestBody": {
            "content": {"application/json": {"properties": [{"name": "gift", "type": "boolean", "value": "true"}]}}
        },
    }
}


@pytest.mark.parametrize("streams", [False, True])
def test_a_tool_and_its_result(bedrock: BedrockUpstream, start: Callable[..., Any], streams: bool) -> None:
    """The result may go to another process: the call is kept for all of them, by its id."""
    conversation = Talk(start())
    conversation.say("My name is Ada.")
    bedrock.enqueue(Turn(controls=[control(city=("string", "Paris"), days=("integer", "2"))]))
    conversation.messages.append({"role": "user", "content": "The weather?"})
    response = conversation.send(conversation.messages, stream=streams)
    if streams:
        assert finish(response.data) == "tool_calls"
        ((identifier, name, arguments),) = streamed_calls(response.data)
    else:
        choice = completion(response.data)["choices"][0]
        assert choice["finish_reason"] == "tool_calls"
        (call,) = choice["message"]["tool_calls"]
        identifier, name, arguments = call["id"], call["function"]["name"], json.loads(call["function"]["arguments"])
    assert (name, arguments) == ("get_weather", {"city": "Paris", "days": 2})
    conversation.messages += [_calls((identifier, name, json.dumps(arguments))), result(identifier, "Sunny")]
    conversation.client = start(HEARTBEAT=4)
    assert "My name is Ada." in conversation.answer()
    answered = state(bedrock)
    assert answered["returnControlInvocationResults"] == [
        {
            "functionResult": {
                "actionGroup": "weather",
                "function": "get_weather",
                "responseBody": {"TEXT": {"body": "Sunny"}},
            }
        }
    ]
    assert "inputText" not in bedrock.asked[-1].params
    assert "Sunny" in conversation.say("Thank you.")
    assert inputs(bedrock)[-1] == "Thank you."
    assert len(set(sessions(bedrock))) == 1


def _calls(*given: tuple[str, str, str]) -> dict[str, Any]:
    calls = [
        {"id": identifier, "type": "function", "function": {"name": name, "arguments": arguments}}
        for identifier, name, arguments in given
    ]
    return {"role": "assistant", "content": None, "tool_calls": calls}


def result(identifier: str, text: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": identifier, "content": text}


def demanded(conversation: Talk, bedrock: BedrockUpstream, *controls: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The calls that the agent makes; they stand in the conversation."""
    bedrock.enqueue(Turn(controls=controls))
    conversation.say("Do it.")
    found: Sequence[Mapping[str, Any]] = conversation.messages[-1]["tool_calls"]
    return found


def test_several_calls_of_both_forms(bedrock: BedrockUpstream, conversation: Talk) -> None:
    """Results in any order; each goes to its action."""
    first, second = demanded(conversation, bedrock, control(), API)
    assert [call["function"]["name"] for call in (first, second)] == ["get_weather", "post_orders_id_items"]
    assert json.loads(second["function"]["arguments"]) == {"id": 7, "gift": True}
    conversation.messages += [result(second["id"], "done"), result(first["id"], "Sunny")]
    conversation.answer()
    weather, order = state(bedrock)["returnControlInvocationResults"]
    assert weather["functionResult"]["responseBody"] == {"TEXT": {"body": "Sunny"}}
    assert order["apiResult"] == {
        "actionGroup": "orders",
        "apiPath": "/orders/{id}/items",
        "httpMethod": "POST",
        "httpStatusCode": 200,
        "responseBody": {"TEXT": {"body": "done"}},
    }


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("string", "7", "7"),
        ("integer", "7", 7),
        ("number", "7.5", 7.5),
        ("number", "7", 7),
        ("boolean", "True", True),
        ("boolean", "no", "no"),
        ("array", "[1, 2]", [1, 2]),
        ("array", "a, b", "a, b"),
        ("object", '{"a": {"b": 1}}', {"a": {"b": 1}}),
        ("integer", "seven", "seven"),
    ],
)
def test_arguments_have_their_types(
    bedrock: BedrockUpstream, conversation: Talk, kind: str, value: str, expected: object
) -> None:
    """Valid JSON, whatever the agent gives as text."""
    (call,) = demanded(conversation, bedrock, control(it=(kind, value)))
    assert json.loads(call["function"]["arguments"]) == {"it": expected}


@pytest.mark.parametrize(
    ("asks", "said_back", "expected"),
    [
        ("USER_CONFIRMATION", "Yes.", "CONFIRM"),
        ("USER_CONFIRMATION", "no", "DENY"),
        ("USER_CONFIRMATION", "well, perhaps", "DENY"),
        ("USER_CONFIRMATION_AND_RESULT", "booked: 17", "CONFIRM"),
        ("USER_CONFIRMATION_AND_RESULT", "denied", "DENY"),
    ],
)
def test_a_question_for_confirmation(
    bedrock: BedrockUpstream, conversation: Talk, asks: str, said_back: str, expected: str
) -> None:
    asked = control("book")
    asked["functionInvocationInput"]["actionInvocationType"] = asks
    (call,) = demanded(conversation, bedrock, asked)
    assert call["function"]["name"] == ("confirm_book" if asks == "USER_CONFIRMATION" else "book")
    conversation.messages.append(result(call["id"], said_back))
    conversation.answer()
    (answered,) = state(bedrock)["returnControlInvocationResults"]
    assert answered["functionResult"]["confirmationState"] == expected


@pytest.mark.parametrize("explicit", [True, False])
def test_a_client_may_give_calls_ids_of_its_own(bedrock: BedrockUpstream, conversation: Talk, explicit: bool) -> None:
    """They are taken by their order, in the invocation that the conversation has open."""
    conversation.body = {"session_id": "one"} if explicit else {}
    first, second = demanded(conversation, bedrock, control(), API)
    conversation.messages[-1] = _calls(("a", first["function"]["name"], "{}"), ("b", second["function"]["name"], "{}"))
    conversation.messages += [result("b", "done"), result("a", "Sunny")]
    conversation.answer()
    weather, order = state(bedrock)["returnControlInvocationResults"]
    assert weather["functionResult"]["responseBody"] == {"TEXT": {"body": "Sunny"}}
    assert order["apiResult"]["responseBody"] == {"TEXT": {"body": "done"}}


def test_the_call_of_another_vendor_is_told(bedrock: BedrockUpstream, conversation: Talk) -> None:
    """A conversation may come here with the result of a call that the agent has not made."""
    conversation.messages = [
        {"role": "user", "content": "The weather?"},
        _calls(("toolu_01A", "get_weather", "{}")),
        result("toolu_01A", "Sunny"),
    ]
    conversation.answer()
    assert "(The result of get_weather: Sunny)" in inputs(bedrock)[-1]


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "get_weather"}}])
def test_an_agent_cannot_be_made_to_call(bedrock: BedrockUpstream, conversation: Talk, choice: Any) -> None:
    """The tools are its own, and so is the choice: better told than ignored."""
    tool = {"type": "function", "function": {"name": "get_weather"}}
    body = {"tools": [tool], "tool_choice": choice}
    details = openai_error(conversation.send([{"role": "user", "content": "Hi"}], **body), 400)
    assert details["param"] == "tool_choice"


def test_a_result_for_an_unknown_call(bedrock: BedrockUpstream, conversation: Talk) -> None:
    (call,) = demanded(conversation, bedrock, control())
    for identifier in ("call_1", "", "call_" + "A" * 40, call["id"][:-4]):
        details = openai_error(conversation.send([*conversation.messages, result(identifier, "Sunny")]), 400)
        assert details["param"] == "messages[2].tool_call_id"


@pytest.mark.parametrize("how", ["again", "expired", "busy"])
def test_a_result_that_the_agent_does_not_wait_for(bedrock: BedrockUpstream, conversation: Talk, how: str) -> None:
    """A platform sends its turn again, or comes late: the agent is told all of it in a new session."""
    (call,) = demanded(conversation, bedrock, control(city=("string", "Paris")))
    again = [*conversation.messages, result(call["id"], "Sunny")]
    if how == "again":
        assert conversation.send(again).status_code == 200
    elif how == "expired":
        bedrock.agent.expire()
    else:
        bedrock.enqueue(Turn(exception="ConflictException"))
    bedrock.asked.clear()
    conversation.messages = again
    conversation.body = {"bedrock": {"conversationHistory": True}}
    conversation.answer()
    first, second = sessions(bedrock)
    assert first != second
    text = inputs(bedrock)[-1]
    assert "(Calls get_weather with" in text
    assert "(The result of get_weather: Sunny)" in text
    assert "The user now says" not in text
    assert conversation.say("Thank you.").endswith("Thank you.\n")
    assert sessions(bedrock)[-1] == second


def test_another_callers_call(bedrock: BedrockUpstream, start: Callable[..., Any]) -> None:
    """An id that got about opens nobody else's session."""
    client = start(API_KEYS="ann:key-of-ann,bob:key-of-bob")
    conversation = Talk(client)
    conversation.headers = {"Authorization": "Bearer key-of-ann"}
    (call,) = demanded(conversation, bedrock, control())
    conversation.headers = {"Authorization": "Bearer key-of-bob"}
    openai_error(conversation.send([*conversation.messages, result(call["id"], "Sunny")]), 400)
    assert len(bedrock.asked) == 1


def test_a_result_is_missing(bedrock: BedrockUpstream, conversation: Talk) -> None:
    first, _ = demanded(conversation, bedrock, control(), API)
    details = openai_error(conversation.send([*conversation.messages, result(first["id"], "Sunny")]), 400)
    assert details["param"] == "messages[1].tool_calls[1]"


def test_words_instead_of_a_result(bedrock: BedrockUpstream, conversation: Talk) -> None:
    """The caller changes their mind: the agent hears all of it in a new session, as the old one waits."""
    demanded(conversation, bedrock, control(city=("string", "Paris")))
    conversation.say("Never mind.")
    assert "Calls get_weather" in inputs(bedrock)[-1]
    first, second = sessions(bedrock)
    assert first != second


# what it cost, and what it is based on


def test_tokens_of_the_whole_turn(bedrock: BedrockUpstream, conversation: Talk) -> None:
    """Usage was always -1. An agent's model is asked several times in a turn."""
    bedrock.enqueue(Turn(usages=[(100, 20), (150, 30)]))
    conversation.messages = [{"role": "user", "content": "Hi."}]
    usage = completion(conversation.send(conversation.messages).data)["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (250, 50, 300)
    bedrock.enqueue(Turn(usages=[(100, 20)]))
    stream = conversation.send(conversation.messages, stream=True, stream_options={"include_usage": True}).data
    assert chunks(stream)[-1]["usage"]["prompt_tokens"] == 100


def test_without_traces_there_are_no_tokens(bedrock: BedrockUpstream, start: Callable[..., Any]) -> None:
    client = start(AGENT_TRACE="off")
    usage = completion(Talk(client).send([{"role": "user", "content": "Hi."}]).data)["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (-1, -1, -1)
    assert bedrock.asked[0].params["enableTrace"] is False


def test_citations(bedrock: BedrockUpstream, conversation: Talk) -> None:
    reference = {"location": {"type": "S3", "s3Location": {"uri": "s3://docs/tower.pdf"}}, "content": {"text": "..."}}
    page = {
        "location": {"type": "WEB", "webLocation": {"url": "https://a.example/b"}},
        "metadata": {"title": "B"},
        "content": {"text": "..."},
    }
    cited = {
        "generatedResponsePart": {"textResponsePart": {"text": "330 m high.", "span": {"start": 14, "end": 24}}},
        "retrievedReferences": [reference, page],
    }
    bedrock.enqueue(Turn(texts=["The tower is ", "330 m high."], citations=[cited]))
    message = completion(conversation.send([{"role": "user", "content": "Hi."}]).data)["choices"][0]["message"]
    assert [each["url_citation"] for each in message["annotations"]] == [
        {"url": "s3://docs/tower.pdf", "title": "tower.pdf", "start_index": 13, "end_index": 24},
        {"url": "https://a.example/b", "title": "B", "start_index": 13, "end_index": 24},
    ]


def test_a_guardrail(bedrock: BedrockUpstream, conversation: Talk) -> None:
    bedrock.enqueue(Turn(texts=["I may not say that."], guardrail=True))
    stream = conversation.send([{"role": "user", "content": "Hi."}], stream=True).data
    assert finish(stream) == "content_filter"
    assert streamed_text(stream) == "I may not say that."


def test_a_file_is_named(bedrock: BedrockUpstream, conversation: Talk) -> None:
    """Not spoken: a voice would read its name aloud."""
    bedrock.enqueue(Turn(texts=["Here it is."], files=[{"name": "plot.png", "type": "image/png", "bytes": b"1234"}]))
    message = completion(conversation.send([{"role": "user", "content": "Plot."}]).data)["choices"][0]["message"]
    assert message["content"] == "Here it is."
    (named,) = (each["url_citation"] for each in message["annotations"])
    assert (named["title"], named["url"]) == ("plot.png", "attachment:plot.png")


# what can be said to it


def test_what_the_bedrock_object_can_say(bedrock: BedrockUpstream, conversation: Talk) -> None:
    knowledge = [
        {
            "knowledgeBaseId": "KB12345678",
            "retrievalConfiguration": {"vectorSearchConfiguration": {"numberOfResults": 3}},
        }
    ]
    options = {
        "memoryId": "ada-1",
        "sessionAttributes": {"plan": "gold"},
        "promptSessionAttributes": {"hour": "10"},
        "knowledgeBaseConfigurations": knowledge,
        "promptCreationConfigurations": {"previousConversationTurnsToInclude": 5},
        "latency": "optimized",
        "applyGuardrailInterval": 20,
    }
    conversation.messages = [{"role": "system", "content": "Be brief."}]
    conversation.say(
        "Hi.", bedrock=options, temperature=0.3, max_tokens=50, tools=[{"type": "function"}], tool_choice="auto"
    )
    asked = bedrock.asked[0].params
    assert state(bedrock) == {
        "sessionAttributes": {"plan": "gold"},
        "promptSessionAttributes": {"hour": "10", "system_prompt": "Be brief."},
        "knowledgeBaseConfigurations": knowledge,
    }
    assert asked["memoryId"] == "ada-1"
    assert asked["promptCreationConfigurations"] == {"previousConversationTurnsToInclude": 5}
    assert asked["bedrockModelConfigurations"] == {"performanceConfig": {"latency": "optimized"}}
    assert asked["streamingConfigurations"] == {"streamFinalResponse": True, "applyGuardrailInterval": 20}


FILE = {"type": "file", "file": {"filename": "a.txt", "file_data": "data:text/plain;base64,aGVsbG8="}}


def test_files_for_the_agent(bedrock: BedrockUpstream, conversation: Talk) -> None:
    conversation.messages = [{"role": "user", "content": [{"type": "text", "text": "Read it."}, FILE]}]
    conversation.answer()
    (file,) = state(bedrock)["files"]
    assert file["name"] == "a.txt"
    assert file["useCase"] == "CHAT"
    assert file["source"]["byteContent"] == {"mediaType": "text/plain", "data": b"hello"}
    conversation.say("What does it say?")
    assert "files" not in state(bedrock)
    assert len(set(sessions(bedrock))) == 1


PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGVsbG8="}}
USER = {"role": "user", "content": "Hi."}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"bedrock": {"memory": "x"}}, "bedrock.memory"),
        ({"bedrock": "x"}, "bedrock"),
        ({"bedrock": {"sessionAttributes": {"a": 1}}}, "bedrock.sessionAttributes"),
        ({"bedrock": {"conversationHistory": "yes"}}, "bedrock.conversationHistory"),
        (
            {"bedrock": {"knowledgeBaseConfigurations": [{"knowledgeBaseId": "A"}]}},
            "sessionState.knowledgeBaseConfigurations[0]",
        ),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"n": 2}, "n"),
        ({"messages": [{"role": "user", "content": [PICTURE]}]}, "messages[0].content[0]"),
        ({"messages": [USER, {"role": "user", "content": [FILE, PICTURE]}]}, "messages[1].content[1]"),
        ({"messages": [{"role": "user", "content": [FILE] * 6}]}, "messages"),
        (
            {"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]}]},
            "messages[0].content[0]",
        ),
        ({"messages": [USER, {"role": "assistant", "content": "Hello."}]}, "messages"),
        ({"messages": [{"role": "user", "content": "  "}]}, "messages"),
        ({"session_id": 5}, "session_id"),
    ],
)
def test_bad_input(bedrock: BedrockUpstream, conversation: Talk, body: dict[str, Any], param: str) -> None:
    """Clear errors that name the field, before anything is sent."""
    details = openai_error(conversation.send(body.pop("messages", [USER]), **body), 400)
    assert details["type"] == "invalid_request_error"
    assert details["param"] == param
    assert not bedrock.asked


@pytest.mark.parametrize("options", [{"latency": "soon"}, {"memoryId": "not this!"}])
def test_what_amazon_refuses(bedrock: BedrockUpstream, conversation: Talk, options: dict[str, Any]) -> None:
    response = conversation.send([USER], bedrock=options)
    assert response.status_code == 400
    assert next(iter(options)) in error(response.data)["message"]


def test_an_agent_that_is_to_speak_first(bedrock: BedrockUpstream, conversation: Talk) -> None:
    """LiveKit's and others' way: a system message asks for a greeting."""
    conversation.messages = [{"role": "system", "content": "Greet the caller."}]
    conversation.answer()
    assert inputs(bedrock) == ["Greet the caller."]


# names, and what is wrong


def test_agents_by_name(bedrock: BedrockUpstream, start: Callable[..., Any]) -> None:
    """A known name is that agent's, any other the default's."""
    client = start(AGENTS=f"sales={'/'.join(OTHER)}")
    for model, expected in (
        ("sales", OTHER),
        ("bedrock/sales", OTHER),
        ("gpt-4o-mini", AGENT),
        ("bedrock-agent", AGENT),
        ("bedrock", AGENT),
    ):
        body = completion(Talk(client, model=model).send([USER]).data)
        asked = bedrock.asked[-1].params
        assert (asked["agentId"], asked["agentAliasId"]) == expected, model
        assert body["model"] == ("sales" if expected == OTHER else "bedrock-agent")
    models = [each["id"] for each in client.get("/v1/models").get_json()["data"]]
    assert [model for model in models if "/" not in model] == ["bedrock-agent", "sales"]
    (row,) = (each for each in client.get("/v1/providers").get_json()["providers"] if each["name"] == "bedrock")
    assert row["available"] is True
    assert row["default_model"] == "bedrock-agent"


def test_agents_of_the_file(bedrock: BedrockUpstream, start: Callable[..., Any], tmp_path: Path) -> None:
    file = tmp_path / "models.yaml"
    ids = "agent_id: OTHER12345, agent_alias_id: ALIAS12345"
    by_ids = "{name: help, provider: bedrock, model: OTHER12345/ALIAS12345}"
    file.write_text(f"providers:\n  support: {{kind: bedrock, {ids}}}\nmodels:\n  - {by_ids}\n")
    client = start(MODELS_FILE=file)
    assert completion(Talk(client, provider="support").send([USER]).data)["model"] == "bedrock-agent"
    assert completion(Talk(client, model="help").send([USER]).data)["model"] == "help"
    assert completion(Talk(client).send([USER]).data)["model"] == "bedrock-agent"
    assert [each.params["agentId"] for each in bedrock.asked] == [OTHER[0], OTHER[0], AGENT[0]]


def test_an_agent_that_is_not_there(bedrock: BedrockUpstream, start: Callable[..., Any]) -> None:
    details = openai_error(Talk(start(AGENT_ID="NOBODY")).send([USER]), 404)
    assert details["code"] == "model_not_found"


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, "credential"),
        ({"AWS_REGION": "us-west-2"}, "credential"),
        ({"AWS_REGION": ""}, "AWS_REGION"),
    ],
)
def test_our_own_misconfiguration(start: Callable[..., Any], settings: dict[str, str], word: str) -> None:
    details = openai_error(Talk(start(**settings)).send([USER]), 502)
    assert word in details["message"]


def test_the_doctor_says_what_is_missing(bedrock: BedrockUpstream) -> None:
    """Without calling the agent."""
    ids = {"AGENT_ID": AGENT[0], "AGENT_ALIAS_ID": AGENT[1], "AGENTS": f"sales={'/'.join(OTHER)}"}
    for region, state, mend in (("", "fail", "set AWS_REGION"), (bedrock.region, "ok", "")):
        found = examine(Settings.load(environment(**{**bedrock.settings, **ids, "AWS_REGION": region})), 5.0)
        (agents,) = (each for each in found if each.what == "provider bedrock")
        assert (agents.state, agents.mend) == (state, mend)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, "does not accept the credential"),
        ({"AWS_ACCESS_KEY_ID": "AKIANOBODY"}, "does not accept the credential"),
        ({"AWS_REGION": "us-west-2"}, "does not accept the credential"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "connection refused"),
    ],
)
def test_the_doctor_asks_an_agent_what_it_must_refuse(
    bedrock: BedrockUpstream, wrong: dict[str, str], says: str
) -> None:
    """A signed call that costs nothing: nobody has answered it."""
    ids = {"AGENT_ID": AGENT[0], "AGENT_ALIAS_ID": AGENT[1]}
    accepted = bedrock.accepted
    for changes, state in (({}, "ok"), (wrong, "fail")):
        found = examine(Settings.load(environment(**{**bedrock.settings, **ids, **changes})), 5.0)
        (agents,) = (each for each in found if each.what == "provider bedrock")
        assert agents.state == state
    assert says in agents.detail
    assert "AWS_ENDPOINT_URL" not in wrong or "start it" in agents.mend
    assert "ENDPOINT" in str(wrong) or agents.mend == "mend AWS_ACCESS_KEY_ID"
    assert bedrock.accepted > accepted
    assert "InvokeAgent" not in [each.operation for each in bedrock.asked]


@pytest.mark.parametrize(
    ("turn", "status", "attempts"),
    [
        (Turn(exception="ThrottlingException"), 429, 2),
        (Turn(breaks_with="throttlingException"), 429, 2),
        (Turn(exception="InternalServerException"), 502, 2),
        (Turn(breaks_with="internalServerException"), 502, 1),
        (Turn(exception="DependencyFailedException"), 502, 2),
        (Turn(breaks_with="modelNotReadyException"), 503, 1),
        (Turn(exception="ModelNotReadyException"), 503, 2),
        (Turn(breaks_with="accessDeniedException"), 502, 1),
        (Turn(exception="AccessDeniedException"), 502, 1),
        (Turn(breaks_with="validationException", message="Not so."), 400, 1),
        (Turn(texts=[]), 502, 1),
    ],
    ids=lambda value: (value.exception or value.breaks_with or "empty") if isinstance(value, Turn) else None,
)
def test_what_fails_before_the_first_word(
    bedrock: BedrockUpstream, start: Callable[..., Any], turn: Turn, status: int, attempts: int
) -> None:
    """A failure has its true status, in a stream too. What the agent may have begun is not begun again."""
    bedrock.always(turn)
    conversation = Talk(start(RETRIES=1, RETRY_BUDGET=10))
    details = openai_error(conversation.send([USER], stream=True), status)
    assert "arn:" not in details["message"]
    assert len(bedrock.asked) == attempts


def test_a_time_out_never_runs_the_agent_twice(bedrock: BedrockUpstream, start: Callable[..., Any]) -> None:
    """An agent acts: boto3's own retries would have it act again."""
    conversation = Talk(start(RETRIES=3, RETRY_BUDGET=60, FIRST_EVENT_TIMEOUT=0.2))
    until(lambda: conversation.send([USER], stream=True).status_code == 200, "the client at Amazon to be built")
    bedrock.asked.clear()
    bedrock.always(Turn(delay=5))
    assert openai_error(conversation.send([USER], stream=True), 504)["code"] == "upstream_timeout"
    assert len(bedrock.asked) == 1


def test_a_gateways_time_out_never_runs_the_agent_twice(bedrock: BedrockUpstream, conversation: Talk) -> None:
    bedrock.always(Turn(exception="ModelTimeoutException"))
    openai_error(conversation.send([USER]), 504)
    assert len(bedrock.asked) == 1


def test_a_connection_that_closes_late_was_not_idle(
    bedrock: BedrockUpstream, conversation: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The agent was at work: the request is not sent again."""

    def late(connection: Connection, _: Any) -> None:
        connection.pause(0.3)
        connection.close()

    assert conversation.send([USER]).status_code == 200
    monkeypatch.setattr(http, "STALE_SECONDS", 0.1)
    bedrock.always(Turn(fault=Fault("late", "", Phase.HEADERS, late)))
    bedrock.asked.clear()
    openai_error(conversation.send([USER]), 502)
    assert len(bedrock.asked) == 1


def test_who_is_busy_with_the_very_same_request(bedrock: BedrockUpstream, conversation: Talk) -> None:
    """What came twice by our own doing is not told to a third session."""
    assert conversation.send([USER]).status_code == 200
    bedrock.asked.clear()
    bedrock.enqueue(Turn(fault=faults.closed_before_headers), Turn(exception="ConflictException"), Turn())
    openai_error(conversation.send([USER]), 502)
    assert len(bedrock.asked) == 2
    bedrock._queue.clear()


def test_an_agent_is_not_raced(bedrock: BedrockUpstream, start: Callable[..., Any], tmp_path: Path) -> None:
    """Agents act in the world: `hedge_after_ms` alone does not have two of them act."""
    file = tmp_path / "models.yaml"
    rows = ["{name: help, provider: bedrock, model: OTHER12345/ALIAS12345}"]
    rows.append("{name: raced, provider: bedrock, model: %s/%s, hedge_after_ms: 50, fallbacks: [help]}" % AGENT)  # noqa: UP031
    file.write_text("models:\n" + "".join(f"  - {row}\n" for row in rows))
    client = start(MODELS_FILE=file)
    assert Talk(client, model="raced").send([USER]).status_code == 200
    bedrock.asked.clear()
    bedrock.always(Turn(delay=0.3))
    assert Talk(client, model="raced").send([USER]).status_code == 200
    assert [each.params["agentId"] for each in bedrock.asked] == [AGENT[0]]


PATIENCE = {"FIRST_EVENT_TIMEOUT": 0.5, "IDLE_TIMEOUT": 0.5, "CONNECT_TIMEOUT": 0.5, "BREAKER_FAILURES": 10_000}
RESENT = {"reset_before_headers", "closed_before_headers"}
"""A kept connection that closes before a byte has come is replaced once, as an idle one that Amazon has closed."""


@cases([fault for fault in FAULTS if fault.phase is not Phase.END and fault.name != "lump"])
def test_faults(bedrock: BedrockUpstream, start: Callable[..., Any], fault: Fault, stream: bool) -> None:
    """Before the first event a status, after it an error frame; what may have reached the agent is not tried again.
    (An agent's stream has no event for its end, so a missing end is not noticed; nor does it hold JSON.)
    """
    client = start(**PATIENCE)
    until(lambda: Talk(client).send([USER]).status_code == 200, "the client at Amazon to be built")
    bedrock.asked.clear()
    texts = ["One ", "two ", "thrée."]
    bedrock.always(Turn(texts=texts, fault=fault))
    response = Talk(client).send([USER], stream=stream)
    if fault.harmless:
        assert response.status_code == 200
        text = streamed_text(response.data) if stream else completion(response.data)["choices"][0]["message"]["content"]
        assert text == "".join(texts)
        return
    if response.status_code == 200:
        assert stream
        assert fault.phase is Phase.MIDDLE
        *frames, last = payloads(response.data)
        assert '"finish_reason":"' not in "".join(frames)
        assert error(last.encode())["message"]
    else:
        assert response.status_code == (504 if fault.silent and fault.name != "comments_only" else 502)
        assert error(response.data)["message"]
    assert len(bedrock.asked) <= 1 + (fault.name in RESENT)
