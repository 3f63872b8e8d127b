"""Which of LiteLLM's exceptions each of the server's errors becomes, for chats and for the Responses API."""

import json
import os

import litellm

KEYS = {name.removeprefix("KEY_").lower(): value for name, value in os.environ.items() if name.startswith("KEY_")}


def chat(question, *, key="anyone", model="intern", **fields):
    messages = [{"role": "user", "content": question}]
    return litellm.completion(f"openai/{model}", messages, api_key=KEYS.get(key, key), max_retries=0, **fields)


def streamed(question, **fields):
    return list(chat(question, stream=True, **fields))


def respond(question, *, key="anyone", model="intern", **fields):
    return litellm.responses(question, f"openai/{model}", api_key=KEYS.get(key, key), max_retries=0, **fields)


def raised(ask, *words, **fields):
    try:
        ask(*words, **fields)
    except Exception as error:
        return (
            f"{type(error).__module__.partition('.')[0]}.{type(error).__name__} {getattr(error, 'status_code', None)}"
        )
    return "nothing"


def cases(ask):
    yield "a wrong key", raised(ask, "x", key="tdm-wrong")
    yield "no such model", raised(ask, "x", model="gpt-9")
    yield "a wrong field", raised(ask, "x", extra_body={"tandem": {"efort": "none"}})
    yield "a long prompt", raised(ask, "word " * 3000, model="mentor")
    yield "too many", [raised(ask, "x", key="rare") for _ in range(2)][-1]
    yield "no money", raised(ask, "x", key="poor")
    yield "down", raised(ask, "be down")
    yield "broken", raised(ask, "be broken")
    yield "a bug", raised(ask, "be a bug")
    yield "slow", raised(ask, "be slow")


found = {"chat": dict(cases(chat)), "responses": dict(cases(respond))}
found["midway"] = raised(streamed, "stop midway")
print(json.dumps(found))
