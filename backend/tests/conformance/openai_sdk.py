"""What a program written for OpenAI's API does, done to ours through the gateway.

usage: openai_sdk.py BASE_URL KEY CA_FILE. Fails with the first thing that is not as the SDK expects.
"""

import ssl
import sys

import openai

base_url, key, authority = sys.argv[1:]
trusted = openai.DefaultHttpxClient(verify=ssl.create_default_context(cafile=authority))
client = openai.OpenAI(base_url=base_url, api_key=key, http_client=trusted, max_retries=0)
question = [{"role": "user", "content": "What does a gateway do?"}]

models = [model.id for model in client.models.list()]
assert "auto" in models, models

whole = client.chat.completions.create(model="auto", messages=question)
assert whole.choices[0].message.content, whole
assert whole.usage.completion_tokens > 0, whole

pieces = list(
    client.chat.completions.create(
        model="auto", messages=question, stream=True, stream_options={"include_usage": True}
    )
)
text = "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices)
assert text == whole.choices[0].message.content, (text, whole)
assert pieces[-1].usage.completion_tokens > 0, pieces[-1]

try:
    client.chat.completions.create(model="no-such-model", messages=question)
except openai.NotFoundError as refusal:
    assert refusal.code, refusal.body
else:
    sys.exit("a model that does not exist was found")

stranger = openai.OpenAI(base_url=base_url, api_key="nobody", http_client=trusted, max_retries=0)
try:
    stranger.models.list()
except openai.AuthenticationError:
    pass
else:
    sys.exit("a stranger was let in")
print(f"{len(models)} models, {len(pieces)} pieces")
