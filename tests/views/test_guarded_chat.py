"""A guardrail holds whatever else is done to an answer."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.frames import chat_body, completion, streamed_text

MODELS = """
models:
  - {name: guarded, provider: demo, model: demo, speech: %s,
     guardrail: {provider: demo, content: [hate], phrase: "I may not say that."}}
"""


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("speech", ["false", "true"])
def test_an_answer_that_is_read_aloud_is_guarded_too(
    app_with: Callable[..., Any], tmp_path: Path, speech: str, stream: bool
) -> None:
    """The demo cannot check, so that every text counts as blocked."""
    (tmp_path / "models.yaml").write_text(MODELS % speech)
    app = app_with(MODELS_FILE=tmp_path / "models.yaml")
    answer = app.post("/v1/chat/completions", json=chat_body("say: Good morning.", model="guarded", stream=stream))
    assert answer.status_code == 200
    said = streamed_text(answer.data) if stream else completion(answer.data)["choices"][0]["message"]["content"]
    assert said == "I may not say that."
