"""OCI's agents behind the endpoint: they remember, cite, call the caller's functions, and ask for approval."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import oci
import pytest
import yaml

from app import create_app
from config import Settings
from core.events import Text
from providers.oci.agents.decode import AgentDecoder
from tests.conftest import environment
from tests.emulators import Call, ScriptedAnswer, faults
from tests.emulators.dialects import models_file
from tests.emulators.oci.agents import ENDPOINT, AgentUpstream
from tests.support.frames import chunks, completion, error, finish, streamed_calls, streamed_text
from tests.support.http import openai_error
from tools.doctor.examine import examine

CHAT = "/v1/chat/completions"


@pytest.fixture
def agent() -> Iterator[AgentUpstream]:
    with AgentUpstream() as upstream:
        yield upstream


@pytest.fixture
def app(agent: AgentUpstream, tmp_path: Path) -> Callable[..., Any]:
    """app(...): a client of an app with that agent, as the model `agent`."""

    def start(row: Any = None, env: Any = None, **provider: Any) -> Any:
        row = {"name": "agent", "provider": "help", **(row or {})}
        provider = {"kind": "oci-agent", "agent_endpoint": ENDPOINT, "base_url": agent.url, **provider}
        file = tmp_path / "models.yaml"
        file.write_text(yaml.safe_dump({"providers": {"help": provider}, "models": [row]}))
        values = {**agent.settings, "MODELS_FILE": file, "DATA_DIR": tmp_path / "data", **(env or {})}
        return create_app(Settings.load(environment(**values))).test_client()

    return start


def ask(client: Any, messages: list[Any], **body: Any) -> Any:
    return client.post(CHAT, json={"model": "agent", "messages": messages, **body}, buffered=True)


def answer_message(client: Any, messages: list[Any], **body: Any) -> dict[str, Any]:
    response = ask(client, messages, **body)
    assert response.status_code == 200, response.data
    return completion(response.data)["choices"][0]


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def calling(name: str, arguments: str, identifier: str) -> dict[str, Any]:
    call = {"id": identifier, "type": "function", "function": {"name": name, "arguments": arguments}}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


def test_ocis_own_client_reads_it(agent: AgentUpstream, tmp_path: Path) -> None:
    agent.citations = [{"sourceText": "x", "sourceLocation": {"sourceLocationType": "OCI_DATABASE", "url": "u"}}]
    agent.enqueue(ScriptedAnswer(texts=["Hi."], calls=[Call("c", "end_call", ['{"why": 1}'])]))
    config = oci.config.from_file(str(agent.settings["OCI_CONFIG_FILE"]))
    client = oci.generative_ai_agent_runtime.GenerativeAiAgentRuntimeClient(
        config, service_endpoint=agent.url + "/20240531"
    )
    models = oci.generative_ai_agent_runtime.models
    session = client.create_session(models.CreateSessionDetails(display_name="x"), ENDPOINT).data
    details = models.ChatDetails(user_message="hi", should_stream=False, session_id=session.id)
    result = client.chat(ENDPOINT, details).data
    assert result.message.content.text == "Hi."
    assert result.message.content.citations[0].source_location.url == "u"
    assert (result.required_actions[0].function_call.name, result.required_actions[0].action_id) == (
        "end_call",
        "act.c",
    )


# Sessions


def test_a_session_is_made_once_and_kept(agent: AgentUpstream, app: Callable[..., Any]) -> None:
    client = app()
    messages = [user("My name is Ada.")]
    messages += [answer_message(client, messages)["message"], user("Who am I?")]
    answer_message(client, messages)
    assert list(agent.sessions.values()) == [["My name is Ada.", "Who am I?"]]


def test_an_id_keeps_the_session_over_a_restart(agent: AgentUpstream, app: Callable[..., Any]) -> None:
    for text in ("One.", "Two.", "Three."):
        answer_message(app(), [user(text)], session_id="call-7")
    assert list(agent.sessions.values()) == [["One.", "Two.", "Three."]]


def test_a_session_that_has_ended_there_begins_anew_with_the_history(
    agent: AgentUpstream, app: Callable[..., Any]
) -> None:
    client = app()
    messages = [user("My name is Ada.")]
    messages += [answer_message(client, messages)["message"], user("Who am I?")]
    agent.expire()
    answer_message(client, messages)
    ((text,),) = agent.sessions.values()
    assert "User: My name is Ada." in text
    assert text.endswith("Who am I?")


def test_without_a_store_each_turn_is_told_the_history(agent: AgentUpstream, app: Callable[..., Any]) -> None:
    client = app(env={"STATE_URL": "/proc/none/state.db"})
    messages = [user("My name is Ada.")]
    messages += [answer_message(client, messages)["message"], user("Who am I?")]
    answer_message(client, messages)
    assert len(agent.sessions) == 2
    assert "My name is Ada." in json.dumps(agent.asked[1])


def test_an_agent_that_is_not_there_is_a_404(agent: AgentUpstream, app: Callable[..., Any]) -> None:
    other = "ocid1.genaiagentendpoint.oc1.us-chicago-1.other"
    failed = openai_error(ask(app(row={"model": other}), [user("hi")]), 404)
    assert (failed["code"], failed["param"]) == ("model_not_found", "model")
    assert len(agent.received) == 1


# What it says


def test_citations_are_annotations(agent: AgentUpstream, app: Callable[..., Any]) -> None:
    source = {"sourceLocationType": "OCI_OBJECT_STORAGE", "url": "https://objects/tarif.pdf"}
    agent.citations = [{"sourceText": "10 CHF", "title": "Tarif", "sourceLocation": source}]
    agent.enqueue(ScriptedAnswer(texts=["It is ", "10 CHF."]))
    (annotation,) = answer_message(app(), [user("How much?")])["message"]["annotations"]
    assert annotation["url_citation"] == {
        "url": "https://objects/tarif.pdf",
        "title": "Tarif",
        "start_index": 0,
        "end_index": 13,
    }


def test_citations_of_paragraphs_have_their_places() -> None:
    citation = {"docId": "doc-1", "pageNumbers": [3]}
    paragraphs = [{"paragraph": {"text": "ten", "start": 6, "end": 9}, "citations": [citation]}]
    result = {"message": {"role": "AGENT", "content": {"text": "It is ten.", "paragraphCitations": paragraphs}}}
    events = list(AgentDecoder("oci", streams=False).from_results([result]))
    assert [(each.url, each.start, each.end) for each in events if hasattr(each, "url")] == [("doc-1", 6, 9)]


@pytest.mark.parametrize("cumulative", [False, True])
def test_a_stream_is_read_whichever_way_its_text_comes(
    agent: AgentUpstream, app: Callable[..., Any], cumulative: bool
) -> None:
    agent.cumulative = cumulative
    agent.enqueue(ScriptedAnswer(texts=["We open", " at nine", " and close", " at five."]))
    response = ask(app(), [user("When?")], stream=True)
    assert streamed_text(response.data) == "We open at nine and close at five."
    assert len([each for each in chunks(response.data) if each["choices"][0]["delta"].get("content")]) >= 4


@pytest.mark.parametrize(
    "frames",
    [
        [{"message": {"content": {"text": "Hi "}}}, {"message": {"content": {"text": "there."}}}],
        [{"text": "Hi "}, {"text": "there."}, {"event": "done"}],
        [{"content": "Hi "}, {"content": "there."}],
        [{"delta": {"text": "Hi "}}, {"delta": {"text": "there."}}],
        ["Hi ", "there."],
        [
            {"message": {"content": {"text": "Hi "}}},
            {"text": "there."},
            {"message": {"content": {"text": "Hi there."}}},
        ],
    ],
)
def test_events_of_several_shapes_say_the_same(frames: list[Any]) -> None:
    events = AgentDecoder("oci", streams=False).from_results(frames)
    assert "".join(event.text for event in events if isinstance(event, Text)) == "Hi there."


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        ('{"contentModeration": {"blocked": true}}', "content_filter"),
        ('{"results": [{"name": "promptInjection", "action": "BLOCKED"}]}', "content_filter"),
        ("blocked by policy", "content_filter"),
        ('{"contentModeration": {"blocked": false, "score": 0.1, "mode": "BLOCK"}}', "stop"),
        ("{}", "stop"),
    ],
)
def test_a_guardrail_that_stepped_in_is_told(
    agent: AgentUpstream, app: Callable[..., Any], result: str, reason: str
) -> None:
    agent.guardrail = result
    assert answer_message(app(), [user("hi")])["finish_reason"] == reason


# What it wants


@pytest.mark.parametrize("name", ["end_call", "transfer_call", "press_digit"])
def test_a_function_is_called_and_its_result_comes_back(
    agent: AgentUpstream, app: Callable[..., Any], name: str
) -> None:
    agent.enqueue(ScriptedAnswer(texts=[], calls=[Call("c1", name, ['{"to": "sales"}'])]))
    client = app()
    messages: list[Any] = [user("Sales, please.")]
    response = ask(client, messages, stream=True)
    ((identifier, *call),) = streamed_calls(response.data)
    assert call == [name, {"to": "sales"}]
    assert finish(response.data) == "tool_calls"
    messages += [calling(name, '{"to": "sales"}', identifier)]
    messages += [{"role": "tool", "tool_call_id": identifier, "content": "done"}]
    answer_message(client, messages)
    assert agent.asked[1]["performedActions"] == [
        {
            "actionId": "act.c1",
            "performedActionType": "FUNCTION_CALLING_PERFORMED_ACTION",
            "functionCallOutput": "done",
        }
    ]
    assert len(agent.sessions) == 1


def test_results_come_back_under_ids_of_the_clients_own(agent: AgentUpstream, app: Callable[..., Any]) -> None:
    agent.enqueue(ScriptedAnswer(texts=[], calls=[Call("c1", "look", ["{}"])]))
    client = app()
    answer_message(client, [user("Look.")], session_id="s")
    messages = [user("Look."), calling("look", "{}", "mine"), {"role": "tool", "tool_call_id": "mine", "content": "ok"}]
    answer_message(client, messages, session_id="s")
    assert agent.asked[1]["performedActions"][0]["actionId"] == "act.c1"


@pytest.mark.parametrize(("word", "option"), [("yes", "APPROVE"), ("Approved.", "APPROVE"), ("maybe", "DENY")])
def test_a_question_for_approval_is_a_call_that_asks(
    agent: AgentUpstream, app: Callable[..., Any], word: str, option: str
) -> None:
    agent.approval = True
    client = app()
    choice = answer_message(client, [user("Send it.")])
    (call,) = choice["message"]["tool_calls"]
    assert (choice["finish_reason"], call["function"]["name"]) == ("tool_calls", "confirm")
    assert json.loads(call["function"]["arguments"])["message"] == "Send it?"
    agent.approval = False
    answer_message(
        client, [user("Send it."), choice["message"], {"role": "tool", "tool_call_id": call["id"], "content": word}]
    )
    assert agent.asked[1]["performedActions"] == [
        {
            "actionId": "approve-1",
            "performedActionType": "HUMAN_APPROVAL_PERFORMED_ACTION",
            "chosenOption": option,
        }
    ]


def test_results_that_no_session_waits_for_are_told_as_what_was_said(
    agent: AgentUpstream, app: Callable[..., Any]
) -> None:
    result = {"role": "tool", "tool_call_id": "call_x", "content": "Sunny."}
    answer_message(app(), [user("Weather?"), calling("get_weather", "{}", "call_x"), result])
    assert "The result of get_weather: Sunny." in agent.asked[0]["userMessage"]


def test_a_call_without_its_result_is_refused_by_name(agent: AgentUpstream, app: Callable[..., Any]) -> None:
    calls = [Call("c1", "one", ["{}"]), Call("c2", "two", ["{}"])]
    agent.enqueue(ScriptedAnswer(texts=[], calls=calls))
    client = app()
    messages = [user("Do."), answer_message(client, [user("Do.")])["message"]]
    messages.append({"role": "tool", "tool_call_id": messages[1]["tool_calls"][0]["id"], "content": "1"})
    assert openai_error(ask(client, messages), 400)["param"] == "messages[1].tool_calls[1]"


# Failures


@pytest.mark.parametrize("stream", [True, False])
def test_what_may_have_been_done_is_not_repeated(agent: AgentUpstream, app: Callable[..., Any], stream: bool) -> None:
    agent.always(ScriptedAnswer(fault=faults.cut_after_headers))
    response = ask(app(), [user("hi")], stream=stream)
    assert (response.status_code, error(response.data)["code"]) == (502, "upstream_error")
    assert len(agent.received) == 2  # the session's, and one chat


def test_what_was_refused_is_repeated(agent: AgentUpstream, app: Callable[..., Any]) -> None:
    agent.enqueue(ScriptedAnswer(status=503))
    assert answer_message(app(), [user("hi")])["finish_reason"] == "stop"


@pytest.mark.parametrize(
    ("provider", "message"),
    [({"agent_endpoint": "help"}, "AGENT_ENDPOINT is"), ({"region": "x y"}, "OCI_REGION is"), ({"arn": 7}, "arn")],
)
def test_a_row_that_cannot_work_is_refused_at_the_start(provider: Any, message: str) -> None:
    file = models_file({"help": {"kind": "oci-agent", "agent_endpoint": ENDPOINT, **provider}})
    with pytest.raises(Exception, match=message):
        create_app(Settings.load(environment(MODELS_FILE=file)))


def test_the_doctor_calls_it_in_a_way_that_runs_nothing(agent: AgentUpstream) -> None:
    file = models_file({"help": {"kind": "oci-agent", "agent_endpoint": ENDPOINT, "base_url": agent.url}})
    chosen = Settings.load(environment(**agent.settings, MODELS_FILE=file, PORT=0))
    (found,) = [each for each in examine(chosen, 10.0) if each.what == "provider help"]
    assert (found.state, "the credential is accepted" in found.detail) == ("ok", True)
    assert not agent.sessions
