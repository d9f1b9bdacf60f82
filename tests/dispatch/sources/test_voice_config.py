"""`voice` of a model in models.yaml: what it may say, and what is refused with its line."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from core.masking import KNOWN_SECRETS
from dispatch.routing.voice_config import NO_VOICE, VoiceConfig, Webhook
from dispatch.sources.models_file import CatalogueError, read

WEBHOOK = {"url": "https://example.com/tools", "secret": "a secret of sixteen"}
TOOL = {"name": "book", "description": "Book.", "parameters": {"type": "object"}}


def voice_of(tmp_path: Path, voice: Any) -> VoiceConfig:
    row = {"name": "m", "provider": "demo", **({} if voice is None else {"voice": voice})}
    path = tmp_path / "models.yaml"
    path.write_text(yaml.safe_dump({"models": [row]}))
    return read(path, {}, known=["demo"]).rows[0].voice


def test_a_model_without_it_has_the_usual(tmp_path: Path) -> None:
    assert voice_of(tmp_path, None) == voice_of(tmp_path, {}) == NO_VOICE


def test_all_of_it(tmp_path: Path) -> None:
    given = {
        "instructions": "Be brief.",
        "greeting": "Hello!",
        "platform_tools": [],
        "transfer_to": ["+14155550100"],
        "sounds": {"hold": "https://example.com/hold.mp3"},
        "webhook": {**WEBHOOK, "timeout": 2.5},
        "tools": [TOOL],
    }
    assert voice_of(tmp_path, given) == VoiceConfig(
        "Be brief.",
        "Hello!",
        (),
        ("+14155550100",),
        {"hold": "https://example.com/hold.mp3"},
        (TOOL,),
        Webhook(WEBHOOK["url"], WEBHOOK["secret"], 2.5),
    )


def test_the_secret_is_hidden_in_logs(tmp_path: Path) -> None:
    found = voice_of(tmp_path, {"webhook": {**WEBHOOK, "secret": "a secret to be hidden"}})
    assert KNOWN_SECRETS.mask("say a secret to be hidden", 100) == "say ***"
    assert "hidden" not in repr(found)


@pytest.mark.parametrize(
    ("voice", "why"),
    [
        ({"instruction": "x"}, "'instructions' may be meant"),
        ({"tools": [TOOL]}, "webhook"),
        ({"tools": [TOOL, TOOL], "webhook": WEBHOOK}, "same name"),
        ({"tools": [{**TOOL, "name": "two words"}], "webhook": WEBHOOK}, "letters"),
        ({"tools": [{"description": "x"}], "webhook": WEBHOOK}, "required"),
        ({"webhook": {"url": "https://example.com"}}, "required"),
        ({"webhook": {**WEBHOOK, "secret": "short"}}, "16"),
        ({"webhook": {**WEBHOOK, "secret": "whsec_not base64 at all"}}, "base64"),
        ({"webhook": {**WEBHOOK, "url": "ftp://example.com"}}, "address"),
        ({"webhook": {**WEBHOOK, "url": "https://user:secret@example.com"}}, "address"),
        ({"webhook": {**WEBHOOK, "url": "https://"}}, "address"),
        ({"webhook": {**WEBHOOK, "url": "https://example.com:https/"}}, "address"),
        ({"webhook": {**WEBHOOK, "url": "https://[::1/"}}, "address"),
        ({"webhook": {**WEBHOOK, "timeout": 3600}}, "60"),
        ({"platform_tools": ["hang_up"]}, "end_call"),
        ({"transfer_to": []}, "1"),
        ({"sounds": {"hold": "hold.mp3"}}, "address"),
        ("loud", "Invalid"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path: Path, voice: Any, why: str) -> None:
    with pytest.raises(CatalogueError) as refused:
        voice_of(tmp_path, voice)
    assert "line " in str(refused.value)
    assert why in str(refused.value)
