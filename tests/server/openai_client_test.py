"""Drives `baram serve` with openai-python and with the raw requests of other clients.

Usage: openai_client_test.py BARAM TINY_FOLDER_MAKER [unittest arguments]. BARAM_DEMO_MODEL names a model
folder to serve; without it, the folder that the maker makes. BARAM_TEST_DEVICE names
the device to serve on, the server's own choice otherwise. Needs the packages of tests/requirements.txt, all of them.
"""

import ast
import concurrent.futures
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import unittest

import openai

BARAM, FOLDER_MAKER = sys.argv[1:3]
PATIENCE_S = 120
KOREAN = "대한민국의 수도는 서울입니다. 한글은 아름답습니다."


class Baram:
    """A `baram serve` process on free ports."""

    def __init__(self, model, *settings):
        command = [BARAM, "serve", "--model", model, "--served-model-name", "test-model",
                   "--kv-cache-bytes", "64M", "--max-model-len", "512", "--drain-delay", "0"]
        if os.environ.get("BARAM_TEST_DEVICE"):
            command += ["--device", os.environ["BARAM_TEST_DEVICE"]]
        for listener in ("http", "grpc", "metrics"):
            command += [f"--{listener}-listen", "127.0.0.1:0"]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("BARAM_")}
        self.process = subprocess.Popen(command + list(settings), stderr=subprocess.PIPE, text=True,
                                        env=environment)
        self.log = []
        for line in self.process.stderr:
            self.log.append(line)
            ready = re.search(r"ready: .*HTTP ([0-9.:]+), metrics ([0-9.:]+)", line)
            if ready:
                self.http, self.metrics = ready.groups()
                break
        else:
            raise RuntimeError("baram serve did not become ready:\n" + "".join(self.log))
        self.reader = threading.Thread(target=self._read_log, daemon=True)
        self.reader.start()

    def _read_log(self):
        self.log.extend(self.process.stderr)

    def client(self):
        return openai.OpenAI(base_url=f"http://{self.http}/v1", api_key="none", max_retries=0,
                             timeout=PATIENCE_S)

    def ask(self, method, path, body=None, headers=None):
        """One request; (status, headers, body as JSON or text)."""
        connection = http.client.HTTPConnection(self.http, timeout=PATIENCE_S)
        if isinstance(body, dict):
            body = json.dumps(body).encode()
        fields = {"Content-Type": "application/json"} if body is not None else {}
        connection.request(method, path, body, {**fields, **(headers or {})})
        response = connection.getresponse()
        text = response.read()
        connection.close()
        if response.headers.get("Content-Type", "").startswith("application/json"):
            text = json.loads(text)
        return response.status, response.headers, text

    def stream(self, path, body):
        """The data of each server-sent event of one request."""
        connection = http.client.HTTPConnection(self.http, timeout=PATIENCE_S)
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        assert response.status == 200, response.read()
        assert response.headers["Content-Type"].startswith("text/event-stream")
        raw = response.read().decode("utf-8")
        connection.close()
        assert raw.endswith("data: [DONE]\n\n"), raw[-200:]
        events = raw.split("\n\n")[:-2]
        assert all(event.startswith("data: ") for event in events)
        return [json.loads(event[len("data: "):]) for event in events]

    def metric(self, *names):
        """The sum of some metrics, read at one time."""
        connection = http.client.HTTPConnection(self.metrics, timeout=PATIENCE_S)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
        return sum(float(value) for name in names
                   for value in re.findall(rf"^baram_{name}\{{[^}}]*\}} (\S+)$", text, re.MULTILINE))

    def await_idle(self):
        limit = time.monotonic() + PATIENCE_S
        while self.metric("num_requests_running", "num_requests_waiting", "num_requests_paused",
                          "kv_cache_usage_perc") > 0:
            assert time.monotonic() < limit, "requests go on"
            time.sleep(0.01)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_S)


class OpenAiClientTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.maker = None
        cls.model = os.environ.get("BARAM_DEMO_MODEL")
        if not cls.model:
            cls.maker = subprocess.Popen([FOLDER_MAKER], stdin=subprocess.PIPE,
                                         stdout=subprocess.PIPE, text=True)
            cls.model = cls.maker.stdout.readline().strip()
        cls.baram = Baram(cls.model)
        cls.client = cls.baram.client()

    @classmethod
    def tearDownClass(cls):
        code = cls.baram.stop()
        cls.client.close()
        if cls.maker:
            cls.maker.communicate()
        assert code == 0, f"baram serve ended with {code}:\n" + "".join(cls.baram.log[-20:])

    def chat(self, content=KOREAN, **fields):
        fields = {"max_tokens": 24, "temperature": 0, **fields}
        return self.client.chat.completions.create(
            model="test-model", messages=[{"role": "user", "content": content}], **fields)

    def complete(self, prompt=KOREAN, **fields):
        fields = {"max_tokens": 24, "temperature": 0, **fields}
        return self.client.completions.create(model="test-model", prompt=prompt, **fields)

    # --- answers

    def test_the_example_of_dev_up_is_python(self):
        dev = os.path.join(os.path.dirname(__file__), "..", "..", "dev")
        with open(dev, encoding="utf-8") as file:
            example = re.search(r"python -c '(.*?)'$", file.read(), re.DOTALL | re.MULTILINE)
        ast.parse(example.group(1).replace("\\\\", "\\"))

    def test_chat(self):
        reply = self.chat()
        choice = reply.choices[0]
        self.assertEqual(reply.object, "chat.completion")
        self.assertTrue(reply.id.startswith("chatcmpl-"))
        self.assertEqual(reply.model, "test-model")
        self.assertEqual(choice.message.role, "assistant")
        self.assertTrue(choice.message.content)
        self.assertIn(choice.finish_reason, ("stop", "length"))
        self.assertEqual(reply.usage.total_tokens,
                         reply.usage.prompt_tokens + reply.usage.completion_tokens)
        self.assertLessEqual(reply.usage.completion_tokens, 24)

    def test_chat_stream_equals_whole(self):
        whole = self.chat()
        chunks = list(self.chat(stream=True, stream_options={"include_usage": True}))
        self.assertEqual(chunks[0].choices[0].delta.role, "assistant")
        self.assertEqual(chunks[0].choices[0].delta.content, "")
        self.assertEqual(chunks[-1].choices, [])
        self.assertEqual(chunks[-1].usage.completion_tokens, whole.usage.completion_tokens)
        self.assertEqual(chunks[-1].usage.prompt_tokens, whole.usage.prompt_tokens)
        self.assertTrue(all(chunk.usage is None for chunk in chunks[:-1]))
        self.assertEqual({chunk.id for chunk in chunks}, {chunks[0].id})
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1])
        self.assertEqual(text, whole.choices[0].message.content)
        reasons = [c.choices[0].finish_reason for c in chunks[:-1] if c.choices[0].finish_reason]
        self.assertEqual(reasons, [whole.choices[0].finish_reason])

    def test_every_chunk_is_whole_characters(self):
        """Sampling hot from a Korean prompt draws pieces of characters in any order."""
        for seed in range(6):
            fields = {"temperature": 1.5, "seed": seed, "max_tokens": 60}
            whole = self.complete(**fields).choices[0].text
            pieces = [c.choices[0].text for c in self.complete(stream=True, **fields) if c.choices]
            self.assertEqual("".join(pieces), whole)
            # A replacement character appears only where the whole text has one.
            self.assertEqual(sum(p.count("\ufffd") for p in pieces), whole.count("\ufffd"))

    def test_completion_stream_equals_whole(self):
        whole = self.complete()
        chunks = list(self.complete(stream=True))
        self.assertEqual("".join(c.choices[0].text for c in chunks), whole.choices[0].text)
        self.assertEqual(chunks[-1].choices[0].finish_reason, whole.choices[0].finish_reason)
        self.assertTrue(whole.id.startswith("cmpl-"))

    def test_prompt_forms(self):
        tokens = self.baram.ask("POST", "/tokenize", {"prompt": KOREAN})[2]["tokens"]
        text = self.complete().choices[0].text
        self.assertEqual(self.complete(tokens).choices[0].text, text)
        both = self.complete([KOREAN, "Hello"], n=2).choices
        self.assertEqual([c.index for c in both], [0, 1, 2, 3])
        self.assertEqual([c.text for c in both[:2]], [text, text])
        lists = self.complete([tokens, tokens]).choices
        self.assertEqual([c.text for c in lists], [text, text])
        streamed = {0: "", 1: ""}
        for chunk in self.complete([KOREAN, tokens], stream=True):
            streamed[chunk.choices[0].index] += chunk.choices[0].text
        self.assertEqual(streamed, {0: text, 1: text})

    def test_seeds(self):
        def draw(seed):
            return [c.message.content for c in self.chat(temperature=1.5, seed=seed, n=3).choices]
        first = draw(7)
        self.assertEqual(first, draw(7))
        self.assertNotEqual(first, draw(8))
        self.assertGreater(len(set(first)), 1)
        self.assertEqual(draw(-7), draw(-7))

    def test_stop(self):
        text = self.complete(max_tokens=40, extra_body={"ignore_eos": True}).choices[0].text
        stop = text[5:8]
        choice = self.complete(max_tokens=40, stop=[stop, "never this"],
                               extra_body={"ignore_eos": True}).choices[0]
        self.assertEqual(choice.text, text[:text.index(stop)])
        self.assertEqual(choice.finish_reason, "stop")
        self.assertEqual(choice.stop_reason, stop)
        pieces = [c.choices[0].text for c in self.complete(max_tokens=40, stop=stop, stream=True,
                                                           extra_body={"ignore_eos": True})]
        self.assertEqual("".join(pieces), choice.text)
        included = self.complete(max_tokens=40, stop=stop, extra_body={
            "ignore_eos": True, "include_stop_str_in_output": True}).choices[0]
        self.assertEqual(included.text, text[:text.index(stop)] + stop)

    def test_stop_token_ids(self):
        ids = self.complete(extra_body={"return_token_ids": True, "ignore_eos": True})
        ids = ids.choices[0].token_ids
        choice = self.complete(extra_body={"stop_token_ids": [ids[4]], "ignore_eos": True,
                                           "return_token_ids": True}).choices[0]
        self.assertEqual(choice.token_ids, ids[:ids.index(ids[4]) + 1])
        self.assertEqual(choice.stop_reason, ids[4])

    def test_chat_logprobs(self):
        reply = self.chat(logprobs=True, top_logprobs=3)
        content = reply.choices[0].logprobs.content
        self.assertEqual(len(content), reply.usage.completion_tokens)
        for entry in content:
            self.assertEqual(len(entry.top_logprobs), 3)
            self.assertEqual(entry.logprob, entry.top_logprobs[0].logprob)  # greedy
            self.assertEqual(entry.bytes, entry.top_logprobs[0].bytes)
        streamed = []
        for chunk in self.chat(logprobs=True, top_logprobs=3, stream=True):
            if chunk.choices[0].logprobs:
                streamed += chunk.choices[0].logprobs.content
        self.assertEqual(streamed, content)

    def test_completion_logprobs_and_echo(self):
        tokens = self.baram.ask("POST", "/tokenize", {"prompt": KOREAN})[2]["tokens"]
        plain = self.complete(logprobs=2).choices[0]
        choice = self.complete(logprobs=2, echo=True).choices[0]
        self.assertEqual(choice.text, KOREAN + plain.text)
        logprobs = choice.logprobs
        self.assertIsNone(logprobs.token_logprobs[0])
        self.assertIsNone(logprobs.top_logprobs[0])
        self.assertEqual(logprobs.tokens[len(tokens):], plain.logprobs.tokens)
        self.assertEqual(logprobs.token_logprobs[len(tokens):], plain.logprobs.token_logprobs)
        for name, value, top in list(zip(logprobs.tokens, logprobs.token_logprobs,
                                         logprobs.top_logprobs))[1:]:
            self.assertLessEqual(value, top[name])
        streamed = {"tokens": [], "token_logprobs": [], "text_offset": [], "top_logprobs": []}
        for chunk in self.complete(logprobs=2, echo=True, stream=True):
            for name, values in streamed.items():
                if chunk.choices[0].logprobs:
                    values += getattr(chunk.choices[0].logprobs, name)
        for name, values in streamed.items():
            self.assertEqual(values, getattr(logprobs, name))
        alone = self.complete(echo=True, max_tokens=0, logprobs=1)
        self.assertEqual(alone.choices[0].text, KOREAN)
        self.assertEqual(len(alone.choices[0].logprobs.tokens), len(tokens))
        self.assertEqual(alone.usage.completion_tokens, 0)

    def test_extra_fields(self):
        reply = self.chat(max_tokens=9, extra_body={
            "top_k": 5, "min_p": 0.01, "repetition_penalty": 1.05, "ignore_eos": True, "min_tokens": 9,
            "return_token_ids": True, "prompt_logprobs": 1, "skip_special_tokens": False,
            "chat_template_kwargs": {"enable_thinking": False}, "priority": 1, "unknown": [1],
            "request_id": "from-body"})
        self.assertEqual(len(reply.choices[0].token_ids), 9)
        self.assertEqual(len(reply.prompt_token_ids), reply.usage.prompt_tokens)
        self.assertEqual(len(reply.prompt_logprobs), reply.usage.prompt_tokens)
        self.assertIsNone(reply.prompt_logprobs[0])
        self.assertEqual(reply.id, "chatcmpl-from-body")
        cut = self.complete(extra_body={"truncate_prompt_tokens": 3})
        self.assertEqual(cut.usage.prompt_tokens, 3)

    def test_messages_of_parts(self):
        parts = [{"type": "text", "text": KOREAN}]
        self.assertEqual(self.chat(parts).choices[0].message.content,
                         self.chat().choices[0].message.content)

    def test_request_ids(self):
        raw = self.client.chat.completions.with_raw_response.create(
            model="test-model", messages=[{"role": "user", "content": "x"}], max_tokens=1,
            extra_headers={"X-Request-Id": "mine-1"})
        self.assertEqual(raw.headers["x-request-id"], "mine-1")
        self.assertEqual(raw.parse().id, "chatcmpl-mine-1")
        status, headers, _ = self.baram.ask("POST", "/v1/completions", b"{", {"X-Request-Id": "mine-2"})
        self.assertEqual((status, headers["X-Request-Id"]), (400, "mine-2"))

    # --- other paths

    def test_models(self):
        models = self.client.models.list().data
        self.assertEqual([m.id for m in models], ["test-model"])
        self.assertEqual(models[0].max_model_len, 512)
        self.assertEqual(models[0].root, self.model)
        self.assertEqual(self.client.models.retrieve("test-model").id, "test-model")
        with self.assertRaises(openai.NotFoundError) as caught:
            self.client.models.retrieve("org/other")
        self.assertEqual(caught.exception.body["message"],
                         "The model `org/other` does not exist. This server serves "
                         "`test-model`.")

    def test_tokenize(self):
        _, _, encoded = self.baram.ask("POST", "/tokenize", {"prompt": KOREAN})
        self.assertEqual(encoded["count"], len(encoded["tokens"]))
        self.assertEqual(len(encoded["token_strs"]), encoded["count"])
        self.assertEqual(encoded["max_model_len"], 512)
        _, _, decoded = self.baram.ask("POST", "/detokenize", {"tokens": encoded["tokens"]})
        self.assertEqual(decoded, {"prompt": KOREAN})
        messages = [{"role": "user", "content": KOREAN}]
        _, _, chat = self.baram.ask("POST", "/tokenize", {"messages": messages})
        self.assertEqual(chat["count"], self.chat(max_tokens=1).usage.prompt_tokens)
        status, _, error = self.baram.ask("POST", "/detokenize", {"tokens": [10**9]})
        self.assertEqual((status, error["error"]["param"]), (400, "tokens"))
        self.assertIn("tokens holds the token id", error["error"]["message"])

    def test_small_paths(self):
        self.assertEqual(self.baram.ask("GET", "/health")[0::2], (200, b""))
        self.assertEqual(self.baram.ask("GET", "/ping")[0], 200)
        self.assertEqual(self.baram.ask("POST", "/ping", b"")[0], 200)
        self.assertIn("version", self.baram.ask("GET", "/version")[2])
        self.assertIn("server_load", self.baram.ask("GET", "/load")[2])
        self.assertIn(b"baram_num_requests_running", self.baram.ask("GET", "/metrics")[2])
        status, _, error = self.baram.ask("POST", "/v1/responses", {})
        self.assertEqual(status, 404)
        self.assertIn("/v1/chat/completions", error["error"]["message"])
        self.assertEqual(self.baram.ask("GET", "/v1/completions")[0], 405)

    # --- refusals

    def test_errors_name_their_field(self):
        for param, fields in {
                "temperature": {"temperature": 3},
                "top_p": {"top_p": 1.5},
                "max_tokens": {"max_tokens": 0},
                "max_completion_tokens": {"max_tokens": None, "max_completion_tokens": -1},
                "top_logprobs": {"logprobs": True, "top_logprobs": 21},
                "n": {"n": 0},
                "stop": {"stop": [""]},
                "logit_bias": {"logit_bias": {"99999999": 1}},
                "tools": {"tools": [{"type": "function", "function": {"name": "f"}}]},
                "response_format": {"response_format": {"type": "json_object"}},
                "seed": {"extra_body": {"seed": "x"}},
                "min_p": {"extra_body": {"min_p": 2}},
                "priority": {"extra_body": {"priority": True}},
        }.items():
            with self.subTest(param), self.assertRaises(openai.BadRequestError) as caught:
                self.chat(**fields)
            self.assertEqual(caught.exception.param, param)
            self.assertIn(param, caught.exception.body["message"])
            self.assertNotIn("sampling.", caught.exception.body["message"])
            self.assertEqual(caught.exception.body["type"], "BadRequestError")
            self.assertEqual(caught.exception.body["code"], 400)
            self.assertEqual(caught.exception.response.headers["x-should-retry"], "false")

    def test_errors_of_prompts(self):
        for prompt in ("", [], [[]], [1, "x"], [10**8], "\ud800"):
            with self.subTest(prompt=prompt), self.assertRaises(openai.BadRequestError):
                if prompt == "\ud800":
                    body = b'{"model":"test-model","prompt":"\\ud800"}'
                    self.client.post("/completions", cast_to=object, content=body,
                                     options={"headers": {"Content-Type": "application/json"}})
                else:
                    self.complete(prompt)

    def test_a_prompt_past_the_context(self):
        for call in (lambda: self.complete("서울 " * 2000), lambda: self.chat("서울 " * 2000),
                     lambda: self.complete(max_tokens=100000)):
            with self.assertRaises(openai.BadRequestError) as caught:
                call()
            self.assertTrue(caught.exception.body["message"].startswith(
                "This model's maximum context length is 512 tokens"))

    def test_an_unknown_model(self):
        with self.assertRaises(openai.NotFoundError) as caught:
            self.client.completions.create(model="other", prompt="x")
        self.assertEqual(caught.exception.body["message"],
                         "The model `other` does not exist. This server serves `test-model`.")
        self.assertEqual(caught.exception.param, "model")

    def test_a_refusal_of_one_prompt_refuses_all(self):
        with self.assertRaises(openai.BadRequestError):
            self.complete(["fine", "서울 " * 2000, "fine"], stream=True)
        self.baram.await_idle()

    def test_hostile_bodies(self):
        prompt = b'{"prompt":"x","max_tokens":1,"y":'
        for body, code in {
                b"": 400, b"null": 400, b"[]": 400, b"{": 400, b"\xff\xfe": 400,
                b'{"prompt":"\xed\xa0\x80"}': 400,
                b'{"prompt":"\xc3"}': 400,
                prompt + b"[" * 100000: 400,
                prompt + b"[" * 100000 + b"]" * 100000 + b"}": 400,
                prompt + b'{"a":' * 3000 + b"1" + b"}" * 3000 + b"}": 400,
                prompt + b"1e999}": 400, prompt + b"NaN}": 400,
                prompt + b"[" + b"{}," * 250000 + b"{}]}": 200,
                prompt + b"[" + b"{}," * 400000 + b"{}]}": 400,
                prompt + b"{" + b",".join(b'"%d":1' % i for i in range(100000)) + b"}}": 400,
                b'{"prompt":"x","n":1e18}': 400,
                b'{"prompt":"x","n":-9223372036854775808}': 400,
                b'{"prompt":[' + b"1," * 3000000 + b"1]}": 400,
                b'{"prompt":"' + b"a" * (9 << 20) + b'"}': 413,
                b'{"prompt":"' + b"a " * (3 << 20) + b'"}': 400,
                b'{"messages":[{"role":"user","content":"x"}]}': 400,
        }.items():
            with self.subTest(body=body[:60], size=len(body)):
                status, _, reply = self.baram.ask("POST", "/v1/completions", body)
                self.assertEqual(status, code, reply)
        status, _, reply = self.baram.ask("POST", "/v1/completions", b'{"prompt":"x"}',
                                          {"Content-Type": "text/plain"})
        self.assertEqual(status, 400)
        self.assertIn("Content-Type: application/json", reply["error"]["message"])
        self.assertEqual(self.baram.ask("GET", "/health")[0], 200)

    # --- load

    def test_requests_of_vllm_bench_serve(self):
        base = {"model": "test-model", "temperature": 0.0, "repetition_penalty": 1.0, "stream": True,
                "stream_options": {"include_usage": True}, "ignore_eos": True}
        events = self.baram.stream("/v1/completions", {
            **base, "prompt": "Hello", "max_tokens": 17, "logprobs": None})
        self.assertEqual(events[-1]["usage"]["completion_tokens"], 17)
        self.assertEqual(events[-1]["choices"], [])
        self.assertTrue(all("usage" not in e for e in events[:-1]))
        self.assertTrue(all("text" in e["choices"][0] for e in events[:-1]))
        events = self.baram.stream("/v1/chat/completions", {
            **base, "max_completion_tokens": 17,
            "messages": [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}]})
        self.assertEqual(events[-1]["usage"]["completion_tokens"], 17)
        self.assertEqual(events[0]["choices"][0]["delta"], {"role": "assistant", "content": ""})
        self.assertTrue(all("content" in e["choices"][0]["delta"] for e in events[:-1]))

    def test_streams_beside_each_other(self):
        """Each of many streams says what it says alone."""
        prompts = [f"{KOREAN} {i}" for i in range(16)]
        alone = [self.complete(p, max_tokens=30).choices[0].text for p in prompts]

        def stream(prompt):
            return "".join(c.choices[0].text
                           for c in self.complete(prompt, max_tokens=30, stream=True))
        with concurrent.futures.ThreadPoolExecutor(len(prompts)) as pool:
            self.assertEqual(list(pool.map(stream, prompts)), alone)

    def test_clients_that_go_free_their_pages(self):
        body = json.dumps({"prompt": [KOREAN] * 4, "max_tokens": 300, "ignore_eos": True}).encode()
        streamed = body[:-1] + b', "stream": true}'
        held = []
        for i in range(12):
            connection = socket.create_connection(self.baram.http.split(":"), timeout=PATIENCE_S)
            self.addCleanup(connection.close)
            content = streamed if i < 6 else body
            connection.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\n"
                               b"Content-Type: application/json\r\n"
                               b"Content-Length: %d\r\n\r\n" % len(content) + content)
            if i < 2:  # these disconnect mid-stream; the others wait or have hardly started
                connection.recv(100)
            held.append(connection)
        for connection in held:
            connection.close()
        self.baram.await_idle()
        self.assertTrue(self.complete().choices[0].text)

    def test_sigterm_lets_accepted_streams_finish(self):
        """Far more streams than run at once; the signal comes while most of them wait."""
        baram = Baram(self.model, "--max-num-seqs", "2", "--drain-limit", "110")
        streams, tokens = 12, 60
        body = {"prompt": KOREAN, "max_tokens": tokens, "ignore_eos": True, "stream": True,
                "stream_options": {"include_usage": True}}
        with concurrent.futures.ThreadPoolExecutor(streams) as pool:
            results = [pool.submit(baram.stream, "/v1/completions", body) for _ in range(streams)]
            limit = time.monotonic() + PATIENCE_S
            # Accepted: already answered, or counted by the engine. (In this order none counts
            # twice.)
            while sum(r.done() for r in results) + baram.metric(
                    "num_requests_running", "num_requests_waiting") < streams:
                self.assertLess(time.monotonic(), limit)
            baram.process.send_signal(signal.SIGTERM)
            for result in results:
                events = result.result(PATIENCE_S)
                self.assertEqual(events[-1]["usage"]["completion_tokens"], tokens)
                self.assertEqual(events[-2]["choices"][0]["finish_reason"], "length")
        self.assertEqual(baram.process.wait(PATIENCE_S), 0, "".join(baram.log))

    def test_a_drain_that_cuts_answers_says_so(self):
        baram = Baram(self.model, "--max-num-seqs", "1", "--drain-limit", "0")
        body = {"prompt": KOREAN, "max_tokens": 420, "ignore_eos": True, "n": 16}
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            result = pool.submit(baram.ask, "POST", "/v1/completions", body)
            limit = time.monotonic() + PATIENCE_S
            while not baram.metric("num_requests_running", "num_requests_waiting"):
                self.assertLess(time.monotonic(), limit)
            baram.process.send_signal(signal.SIGTERM)
            self.assertEqual(result.result(PATIENCE_S)[0], 503)
        self.assertEqual(baram.process.wait(PATIENCE_S), 0)
        baram.reader.join(PATIENCE_S)
        self.assertRegex("".join(baram.log), r"requests cut off at the drain limit: 1\n")


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0]] + sys.argv[3:], verbosity=2)
