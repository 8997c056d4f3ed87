"""Makes the tokenizers, ids, texts and prompts that tests/text compares against.

Run with transformers, tokenizers and jinja2 installed; its output is committed:

    python3 tests/text/make_text_goldens.py

Two small tokenizers are trained on the corpus below, a third is written by hand; `transformers`
then encodes, decodes and renders, and what it answers is the golden.
"""

import json
import pathlib
import random
import unicodedata

import jinja2
import transformers
from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models, normalizers,
                        pre_tokenizers, processors, trainers)

DATA = pathlib.Path(__file__).resolve().parent / "data"

CORPUS = [
    "바람이 불어오는 곳, 그곳으로 가네. 그대의 머릿결 같은 나무 아래로.",
    "안녕하세요. 무엇을 도와드릴까요? 오늘 날씨가 참 좋습니다.",
    "대한민국 헌법 제1조 1항: 대한민국은 민주공화국이다. 모든 권력은 국민으로부터 나온다.",
    "행정안전부는 공공부문의 디지털 전환을 위하여 새로운 지침을 마련하였다고 밝혔다.",
    "서울특별시 종로구 세종대로 209, 민원 처리 결과를 안내드립니다. 문의는 02-120으로 하십시오.",
    "The quick brown fox jumps over the lazy dog, and the wind keeps blowing from the north.",
    "A server answers many requests at once; each token is computed, sampled and streamed.",
    "def add(a, b):\n    return a + b\n\nfor i in range(10):\n    print(add(i, i * 2))\n",
    "int main(int argc, char** argv) { return argc > 1 ? 0 : 1; }  // exit code",
    "모델은 한국어와 English를 함께 배웠고, 숫자 12345와 67,890.12도 읽는다.",
]

TEXTS = [
    "", " ", "  ", "\n", "\t \n\n  \r\n", "a", " a", "a ", "Hello, world!", "hello   world  ",
    "안녕하세요", " 안녕하세요 ", "안녕하세요. 무엇을 도와드릴까요?", "바람이 분다", "가", "힣", "똠방각하",
    "펲시콜라 햏햏 뷁", "ㅋㅋㅋㅋ ㅠㅠ ㅎㅎ", "ᄀᆞᆷ", "가각", "한국어 NFD",
    "가나다라마바사아자차카타파하", "대한민국 大韓民國 Republic of Korea", "漢字とひらがなカタカナ",
    "简体中文与繁體中文", "🙂", "👨‍👩‍👧‍👦 가족", "🇰🇷 대한민국", "👍🏽👍🏿", "e\u0301 vs é", "Zürich naïve",
    "\u200b제로폭\u200d", "\ufeffBOM", "\u00a0nbsp\u3000전각", "١٢٣ Ⅷ ½ ²", "0123456789 1 12 123 1234",
    "3.14159e-10", "def f(x):\n    return x ** 2\n", "if (a && b) { c(); }\n\t// 주석\n",
    "https://example.kr/경로?q=한글&n=1#끝", "user@example.kr", "<div class=\"x\">텍스트</div>",
    "{\"키\": [1, 2.5, null, \"값\"]}", "don't won't I'LL we've", "CAMELCase snake_case kebab-case",
    "…—–“”‘’·※", "100% 할인!!! ₩10,000", "가\u0000나", "\x01\x7f", "ﷺ ﬁ ǆ", "𝔘𝔫𝔦 𐍈 𠜎",
    "<|im_start|>user\n안녕<|im_end|>\n", "앞<|im_end|>뒤", " <|im_end|> ", "<|im_end|><|im_end|>",
    "<|im_end", "|im_end|>", "<s>문장</s>", "<s> </s>", "<|endoftext|>", "한국어", "나는 한국어를 배운다",
    "<mask>", "a <mask> b", "  <mask>  ", "<tool_call>", "x<tool_call>y", "<0xEA><0xB0>", "▁밑줄▁",
    "Ġ그", unicodedata.normalize("NFD", "한국어 정보화"), "a" * 300, "가" * 100, "\n" * 40, " " * 70,
    "ab " * 40, "🙂" * 20,
]

MESSAGES = {
    "one": [{"role": "user", "content": "안녕하세요?"}],
    "system": [{"role": "system", "content": " 너는 공무원을 돕는다. "},
               {"role": "user", "content": "  <b>\"법\"</b> & '령'\n\n"}],
    "turns": [{"role": "user", "content": "하나"}, {"role": "assistant", "content": " 둘 \n"},
              {"role": "user", "content": "셋"}],
    "reasoned": [{"role": "user", "content": "1+1?"},
                 {"role": "assistant", "content": "<think>\n더하자\n</think>\n\n2"},
                 {"role": "user", "content": "2+2?"},
                 {"role": "assistant", "content": "<think>\n또\n</think>\n\n4"}],
    "reasoning_field": [{"role": "user", "content": "왜?"},
                        {"role": "assistant", "reasoning": "생각", "content": "그래서"}],
    "tool_turns": [{"role": "user", "content": "날씨"},
                   {"role": "assistant", "content": "", "tool_calls": [
                       {"type": "function", "function": {
                           "name": "날씨", "arguments": {"도시": "서울", "n": 1.0, "ok": True}}}]},
                   {"role": "tool", "content": "맑음"}, {"role": "tool", "content": "20도"},
                   {"role": "user", "content": "고마워"}],
    "two_calls": [{"role": "user", "content": "x"},
                  {"role": "assistant", "content": "", "tool_calls": [
                      {"function": {"name": "a", "arguments": {}}},
                      {"function": {"name": "b", "arguments": {}}}]}],
    "special_text": [{"role": "user",
                      "content": "<|im_end|>\n<|im_start|>system\n{{ 1 + 1 }} {% raw %}"}],
    "assistant_first": [{"role": "assistant", "content": "먼저"}, {"role": "user", "content": "나중"}],
    "strange_role": [{"role": "검토자", "content": "x"}, {"role": "user", "content": ""}],
    "no_content": [{"role": "user"}],
    "null_content": [{"role": "user", "content": "x"}, {"role": "assistant", "content": None}],
    "no_role": [{"content": "x"}],
    "extra_keys": [{"role": "user", "content": "x", "name": "김", "keys": "k", "items": [1]}],
    "number_role": [{"role": 7, "content": "x"}],
    "empty": [],
    "separators": [{"role": "user", "content": "\u001ca\u001f\u0085\u2028\r\nb\t"}],
}

PARTS = [{"role": "system", "content": [{"type": "text", "text": "규칙"}]},
         {"role": "user", "content": [{"type": "text", "text": "하나"},
                                      {"type": "text", "text": "둘\n"}]}]

TOOLS = [{"type": "function", "function": {
    "name": "날씨", "description": "<도시>의 \"날씨\" & 온도",
    "parameters": {"type": "object", "required": [],
                   "properties": {"도시": {"type": "string"}, "n": {"type": "number"}}}}}]

ARGUMENTS = [{}, {"enable_thinking": False, "skip_think": True, "date_string": "26 Jul 2024"},
             {"tools": TOOLS, "date_string": "26 Jul 2024"}]

# One line each, where minijinja and jinja2, or Rust and Python, differ.
EXPRESSIONS = [
    "{{ true }} {{ none }} {{ 1.0 }} {{ missing }}|", "{{ ['a', 1, none, ('t',), ('t', 2)] }}",
    "{{ [0.0, 1e15, 1e16, 1e22, 1.5e-5, 0.0001, 123456.789, -2.5e300] }}",
    r"""{{ {'a': [1, 2.0, true, none, "it's", '\n한'], 'b': {}, 1: 'both " and \''} }}""",
    "{{ ['a\u200bb', '\u00ad\ufeff', '\ue000', '\U000e0041', '👨\u200d👩', '\ufffe', '\u0301'] }}",
    "{{ {'a': '<한>'} | tojson }} {{ 'x\u007f' | tojson(ensure_ascii=true) }}",
    "{{ [1, {}] | tojson(indent=2) }} {{ [[], [1e22, 0.5]] | tojson(indent=4) }}",
    "{{ {'b': 1, 'a': 2} | tojson(sort_keys=true, separators=(',', ':')) }}",
    "{{ '한🙂' | tojson(ensure_ascii=true) }} {{ {1: 2, false: 3, none: 4} | tojson }}",
    "{{ '한' | tojson(true) }} {{ [1] | tojson(false, 2) }} {{ ['한'] | tojson(1, none, ('', '')) }}",
    "{{ {'b': 1, 'a': [1, 2]} | tojson(false, none, [',', ':'], true) }} {{ '한' | tojson(2) }}",
    "{{ [1] | tojson(indent='\\t') }} {{ {'b': 1, 'a': 2} | tojson(sort_keys=1, indent=none) }}",
    "{{ [1, 2] | tojson(separators=none, ensure_ascii=none) }} {{ [1] | tojson(indent=0) }}",
    "{{ [1] | tojson(separators=(',',)) }}", "{{ [1] | tojson(false, 2, none, false, 1) }}",
    "{{ missing | length }} {{ '한글' | length }} {{ {'a': 1} | count }}",
    "{{ '' | default('x') }}|{{ '' | default('x', true) }}|{{ none | d('x', boolean=true) }}",
    "{{ 'abc' | int }} {{ '7.9' | int }} {{ none | int(3) }} {{ 'ff' | int(base=16) }}",
    "{{ 'x' | float }} {{ '1.5' | float }} {{ 3 | float }} {{ 'y' | float(2.5) }}",
    "{% set t = missing | default(none) %}{{ t is none }} {{ missing | d(missing) is defined }}",
    "{{ missing | default(default_value=none) is none }} {{ '' | d(none, true) is none }}",
    "{{ '' | default('x', 1) }} {{ none | default('x', boolean=1) }} {{ '' | d('x', boolean=0) }}",
    "{{ 'q' | int(none) }} {{ 'q' | int(default=none) }} {{ 'q' | float(none) }}",
    "{{ 'q' | int(missing) }}|{{ 'ff' | int(none, 16) }} {{ 'q' | float(default=missing) }}",
    "{{ missing | default(1, 2, 3) }}", "{{ missing | default(1, no_such=2) }}",
    "{{ '<&>' | e }} {{ [1, 'a'] | string }} {{ 1e22 | string }}",
    "{{ 'abc' is iterable }} {{ 'abc' is sequence }} {{ 1 is iterable }} {{ missing is iterable }}",
    "{{ {} is sequence }} {{ {} is mapping }}",
    "{{ [1] + ['b'] }} {{ ([1] + ['b']) | tojson }} {{ ([{}] + [none]) | tojson(indent=1) }}",
    "{{ ['a', 1.0] * 2 }} {{ ([none] * 3) | tojson }} {{ [[] + [true], 2 * [1]] }} {{ [] + [] }}",
    "{{ messages[1:] }} {{ ['x', 2][:1] | tojson }} {{ {'a': [1, 'b', 3][1:]} | tojson }}",
    "{{ ([1] + [2]) is sequence }} {{ messages[1:] is sequence }} {{ [1] * 2 is sequence }}",
    "{{ ([1] + [2]) is iterable }} {{ (['a'] + [2]) | string }} {{ ('x', 'y')[:1] }}",
    "{{ ([1] + [2, 1]).count(1) }} {{ (['a'] + ['b']).index('b') }} {{ [1, 2, 1].index(1, 1) }}",
    "{{ [1, 2, 1].index(1, -1) }} {{ ('a', 'b').index('b') }} {{ ([1] + [2]).copy() }}",
    "{{ ([1] + [2])[-1] }} {{ ([1] + [2]) == [1, 2] }} {{ ([1] + [2]) | join('-') }}",
    "{{ ([1] + [2]) | first }} {{ ([1] + [2]) | last }} {{ ([1] + [2]) | length }}",
    "{{ [1, 2].index(3) }}", "{{ [1, 2].index(1, 1) }}", "{{ [1, 2, 1].index(1, 1, 2) }}",
    "{{ messages[1:][::-1] }} {{ [][::-1] }} {{ ''[::-1] }}| {{ ()[::-1] }} {{ ([] + [])[::-2] }}",
    "{{ 'a한b'[::-1] }} {{ [1, 2, 3][::-1] }} {{ ([1] + [2])[::-1] }} {{ [1, 2, 3, 4][::-2] }}",
    "{{ 'abcdef'[:0:-1] }} {{ 'abcdef'[2:0:-1] }} {{ 'abcdef'[-2::-1] }} {{ 'abc'[-9::-1] }}|",
    "{{ 'abcdef'[1:5:2] }} {{ 'abcdef'[-3:] }} {{ 'abcdef'[:-9] }}| {{ 'abc'[9:] }}|",
    "{{ [1, 2, 3][: none : 2] }} {{ 'abc'[:99:99] }} {{ 'abc'[1:-9:-1] }} {{ 'abc'[true:] }}",
    "{{ {'a': [[1, 2][1:], {'b': 'xyz'[:2]['cde'[:1] | length:]}]} }} {{ (1, 2, 3)[1:] }}",
    "{% for m in [1, 2, 3][::-1][\n:[1, 2][:1][0] + 1] if m is odd %}{{ m }}{% endfor %}",
    "{% set a = 'x[1:2]' %}{{ a[1:][:-1] ~ '[:]' ~ \"[':\\\"]\" }} a[1:]",
    "{# a[1:] #}{{ -[2][:1][0] }}",
    "{% raw %}{{ a[1:] }}{% generation %}{% endraw %}{{ {':': 1}[':'] }}",
    "{%- raw -%} 'a{% {% endraw -%} {{ [1][:1] }}",
    "{% raw %}\nx\n{% endraw %}\ny{%raw-%}\n z{% endraw %}{%- raw %}\n\n{%- endraw +%}\n|",
    "a{% raw %}\r\n  {% endraw %}b\n  {% raw %}c\n  {% endraw -%}\n d{% raw %}{%-{% endraw %}",
    "{{ 'ab'[::0] }}", "{{ missing[1:] }}",
    "{% set x = none %}{{ x[1:] }}", "{% set x = {} %}{{ x[1:] }}",
    "{% set x = 'a' %}{{ x['b':] }}", "{% set x = [1] %}{{ x[missing:] }}",
    "{{ [1:2] }}", "{{ [1][1:2:3:4] }}",
    "{{ raise_exception is callable }} {{ 1 is callable }}",
    "{{ ' \u001ca ' | trim }}|{{ 'xax'.strip('x') }}|{{ ' a '.rstrip() }}|{{ ' a '.lstrip() }}|",
    "{{ 'a-b-c'.rsplit('-', 1) }} {{ ' a  b '.rsplit(none, 1) }} {{ 'a-b'.rsplit('-') }}",
    "{{ 'tool_response'.title() }} {{ \"they're a1b\".title() }} {{ 'ÉCOLE ß한글x'.title() }}",
    "{{ 'a\\rb\\r\\nc\\n\\nd\\x0be\\x0cf\\x1cg\\x1eh\\x85i\\u2028j\\u2029'.splitlines() }}",
    "{{ 'a\\r\\nb\\x85'.splitlines(true) }} {{ 'a\\nb'.splitlines(keepends=1) }}",
    "{{ ''.splitlines() }}",
    "{{ 'a-b-c'.split('-', maxsplit=1) }} {{ 'a b c'.split(maxsplit=1) }}",
    "{{ 'a-b'.split(sep='-') }}",
    "{{ 'a-b-c'.rsplit('-', maxsplit=1) }} {{ ' a b  c '.rsplit(maxsplit=1) }} {{ ''.rsplit() }}",
    "{{ ' a\\x1fb  c '.split() }} {{ ' a  b '.split(none, 1) }} {{ ' a b '.split(none, 0) }}",
    "{{ 'a-b-c'.split('-', 0) }} {{ 'a-b'.split('-', -1) }} {{ ''.split('-') }} {{ ' '.split() }}",
    "{{ '한a한a'.find('a', 2) }} {{ 'abc'.find('c', 0, 2) }} {{ 'abca'.rfind('a', 0, -1) }}",
    "{{ 'abc'.find('', 3) }} {{ 'abc'.find('', 4) }} {{ 'abc'.find('', 2, 1) }}",
    "{{ 'aab'.count('a', 1) }}",
    "{{ 'aXbX'.index('X', 2) }} {{ 'abc'.count('') }} {{ 'abc'.rfind('x') }}",
    "{{ 'abc'.find('c', -1) }}",
    "{{ 'abc'.startswith('b', 1) }} {{ 'abc'.startswith('bc', 1, 2) }}",
    "{{ 'abc'.endswith('b', 0, 2) }}",
    "{{ 'abc'.startswith(('x', 'b'), 1) }} {{ 'abc'.endswith(('x', 'c')) }}",
    "{{ ''.endswith('', 1) }}",
    "{% set d = {'b': 1, 'a': ['x']} %}{{ d.keys() }} {{ d.values() }} {{ [d.items()] }}",
    "{{ {}.keys() }} {{ {}.items() is sequence }} {{ {}.keys() is iterable }}",
    "{{ 1 in {1: 2}.keys() }} {{ {'b': 1, 'a': 2}.keys() | sort }}",
    "{% set d = {'b': 1, 'a': 2} %}{{ d.keys() | list }}{{ d.values() | sum }}",
    "{% set d = {'b': 1, 'a': 2} %}{{ d.items() | length }}{{ d.keys() | first }}",
    "{% for k, v in {'b': 1, 'a': 2}.items() %}{{ k }}{{ v }}{{ loop.last }}{% endfor %}",
    "{{ {'items': 1}['items'] }}{{ {'a': 1}.items() is mapping }}{% if {}.items() %}1{% endif %}",
    "{{ ','.join({'b': 1}.keys()) }} {{ {'a': 1}.items() | list | tojson }}",
    "{{ {'a': 1}.keys() | tojson }}", "{{ {'a': 1}.items(1) }}",
    "{% set d = {} %}{{ d.keys()[1:] }}",
    "{{ {'a': 1}.copy() }} {{ [1].copy() }} {{ {'a': 1}.copy() == {'a': 1} }}",
    "{{ 'a'.split('') }}", "{{ 'a'.rsplit('') }}", "{{ 'a'.partition('') }}", "{{ 'a'.split(1) }}",
    "{{ 'a'.index('a', 1) }}", "{{ 'a'.startswith(1) }}", "{{ 'a'.split('-', no_such=1) }}",
    "{{ 'aaa' | replace('a', 'b', 2) }} {{ 'aaa' | replace('a', 'b', count=1) }}",
    "{{ 'aaa' | replace('a', 'b', 0) }} {{ 'aa' | replace('a', 'b', none) }}",
    "{{ 1.0 | replace(0, 'x') }}",
    "{{ 'aa' | replace(old='a', new='b', count=-1) }} {{ [true, 'a'] | replace('T', 't') }}",
    "{{ missing | first is defined }} {{ missing | last is defined }} {{ [] | last is defined }}",
    "{{ '한a' | first }}{{ '한a' | last }} {{ {'b': 1, 'a': 2} | last }}",
    "{{ {'b': 1, 'a': 2} | first }}",
    "{{ none | first }}", "{{ none | last }}", "{{ 'a' | replace('a') }}",
    "{{ missing | replace('a', 'b') }}|",
    "{{ 'abc'.removeprefix('a') }} {{ 'abc'.removesuffix('c') }} {{ 'abc'.removesuffix('x') }}",
    "{{ '7'.zfill(3) }} {{ '-7'.zfill(4) }} {{ 'a'.ljust(3, '.') }} {{ 'a'.rjust(3) }}",
    "{{ 'a'.center(4, '*') }} {{ 'ab'.center(5, '*') }}",
    "{{ 'aXb'.swapcase() }} {{ 'AB'.casefold() }}",
    "{{ '한a한'.index('a') }} {{ '한a한'.rindex('한') }} {{ 'a=b=c'.partition('=') }}",
    "{{ 'a=b=c'.rpartition('=') }} {{ 'a'.partition('=') }} {{ 'a'.rpartition('=') }}",
    "{{ 'a\\\nb\\\r\nc' }}{% if 'x\\\n' == \"x\" %}{% set y = 'l\\\n' %}{{ y }}{% endif %}",
    r"{{ 'a\/b\d\.\{' }} {{ '\a\v\b\f\0\x7f' | tojson }}",
    r"{{ '\101\7\18\777' | tojson }} {{ '\\n\\\n' }}",
    r"""{{ '\U0001F600\uac00\xe9\u00e9' }} {{ '\'\"' }} {{ "\'\"" }} {{ '\가\é\🙂' }} \a {# \N #}""",
    r"{% raw %}\a{% endraw %}{{ {'\x61': '\\'}['a'] }} {{ 'a\\'[::-1] }}",
    r"{{ '\x4' }}", r"{{ '\u12' }}", r"{{ '\U00110000' }}", r"{{ '\xzz' }}", r"{{ '\N{no such}' }}",
    "a\r\n{% if true %}\r\nb\r{% endif %}",
    "{% set x = 1 %}{%- generation -%} {% set x = 2 %}{{ x }} {%- endgeneration %}{{ x }}",
    "{% for i in [0, 1] %}{% if i %}{% break %}{% endif %}{{ i }}{% endfor %}",
    "{% for c in 'a한b' %}{{ c }}{{ loop.last }}{{ loop.length }}{{ loop.revindex }}{% endfor %}",
    "{% for c in '' %}{{ c }}{% else %}none{% endfor %}{%- for c in 'ab'~'c' -%}{{ loop.nextitem }}"
    "{% endfor %}{% for c in 'a물b' if c != '물' %}{{ c }}{{ loop.last }}{% endfor %}",
    "{% for a in [1] if a in [1] %}{{ a }}{% endfor %}{% for in_a in 'if' %}{{ in_a }}{% endfor %}",
    "{% for a, (b, c) in [('if', ('in', \"'in'\"))]\nif a == 'if' %}{{ a ~ b ~ c }}{% endfor %}",
    "{% for x in [[1, [2]], [3]] recursive %}{{ loop(x) if x is iterable else x }}{% endfor %}",
    "{% for x in [[1], 2] if (x is iterable) recursive %}{{ x }}{% else %}-{% endfor %}",
    "{% for x in 1, 2 %}{{ x }}{{ loop.last }}{% endfor %}{% for x in 'a', %}{{ x }}{% endfor %}",
    "{% set d = {'in': 'ab', 'if': [1]} %}{% for x in d.in %}{{ x }}{{ loop.last }}{% endfor %}"
    "{% for x in d.if + d . if if x %}{{ x }}{% endfor %}",
    "{% for x in [1] | map('string') if x is string and not (x in ['2']) %}{{ x }}{% endfor %}",
    "{% for x in missing %}{% else %}nothing{% endfor %}{% for k in {'a': 1} %}{{ k }}{% endfor %}",
    "{% for x in 5 %}{% endfor %}", "{% for x in true %}{% endfor %}",
    "{% for t in tools %}{{ t }}{% else %}none{% endfor %}", "{{ tools | list }}",
    "{{ tools | join(', ') }}", "{{ ','.join(tools) }}", "{{ tools | sum }}", "{{ tools | sort }}",
    "{{ tools | min }}", "{{ tools | max }}", "{{ tools | unique | list }}",
    "{{ tools | batch(2) | list }}", "{{ tools | slice(2) | list }}", "{{ tools | groupby('a') }}",
    "{{ tools | reverse | list }}", "{{ tools | map('upper') | list }}",
    "{{ missing | join(',') }}{{ missing | list }}{{ missing | sum }}{{ missing | sort }}",
    "{{ missing | unique | list }}{{ missing | batch(2) | list }}{{ missing | groupby('a') }}",
    "{{ [{'n': 2}, {'n': 1}] | join('-', attribute='n') }} {{ [[1], [2]] | sum(start=[3]) }}",
    "{{ [{'n': 2}, {'n': 1}] | sum('n') }} {{ [{'n': 2}, {'n': 1}] | sort(attribute='n') | list }}",
    "{{ [1, 2, 3] | batch(2, 'x') | list }} {{ [1, 2, 3] | slice(2) | list }} {{ 'ab' | reverse }}",
    "{{ [{'r': 'a'}, {'r': 'b'}, {'r': 'a'}] | groupby('r') | map('first') | list }}",
    "{{ ['b', 'A'] | min }} {{ ['b', 'A'] | max }} {{ ['a', 'A', 'b'] | unique | list }}",
    "{{ 'a\\nb\\n' | indent(2) }}|{{ '' | indent(2, true) }}|{{ '\\n' | indent(2, true, true) }}|",
    "{{ 'a\\r\\nb\\x0bc\\u2028\\x85d\\n\\ne' | indent }}|{{ 'a\\n\\nb' | indent(1, blank=true) }}|",
    "{{ 'a\\nb' | indent('> ', true) }}|{{ 'a\\nb' | indent(width=1, first=true) }}|",
    "{{ 'a\\nb' | indent(-1) }}|{{ 'a\\nb' | indent('') }}|{{ '\\r' | indent(first=true) }}|",
    "{{ missing | indent }}", "{{ none | indent }}", "{{ 5 | indent }}", "{{ 'a' | indent(none) }}",
    "{{ 'abc'.index('x') }}", "{{ missing.field }}", "{{ missing | int }}", "{{ none | length }}",
    "{% set body %}{% set role = 'inner' %}{{ role }}{% endset %}{{ body }}{{ role }}|",
    "{% set x = 1 %}{% filter upper %}{% set x = 'a' %}{{ x }}{% endfilter %}{{ x }}",
    "{% set a %}\n b\n  {% endset %}\n[{{ a }}]{%- set a -%}\n b\n{%- endset -%}\n[{{ a }}]",
    "{% set a +%}\n b\n  {%+ endset +%}\n[{{ a }}]{% set a | upper %}\nb{% endset %}{{ a }}",
    "{% filter upper -%}\nb\n  {% endfilter %}\n{% filter replace('%}', '') +%}\n%}{% endfilter %}",
    "{% set ns = namespace(a=1) %}{% set b %}{% set ns.a = 2 %}{% endset %}{{ ns.a }}{{ b }}",
    "{% set ns = namespace() %}{% set ns.a %}{% set b = 2 %}{{ b }}{% endset %}{{ ns.a }}{{ b }}|",
    "{% set a %}{% set b %}{% set c = 1 %}{{ c }}{% endset %}{{ b ~ c }}{% endset %}{{ a ~ b }}|",
    "{% for i in [1, 2] %}{% set a %}{% for j in 'ab' %}{% if j == 'b' %}{% break %}{% endif %}"
    "{{ j }}{% endfor %}{{ loop.index }}{% endset %}{{ a }}{% endfor %}",
    "{% set a = 5 %}{% with a=1, b=a %}{{ a }}{{ b }}{% endwith %}{{ a }}{{ b }}|",
    "{% with a = [1, 2], b='x, y=z' , c={'k': 1}['k'] == 1 -%} {{ a }}{{ b }}{{ c }}{% endwith %}",
    "{% with %}{% set a = 1 %}{{ a }}{% endwith %}{% with a = 1 %}{{ a }}{% endwith %}{{ a }}|",
    "{% with a = 1 == 1, b = 2 != 1, c = 1 <= 2 %}{{ a }}{{ b }}{{ c }}{% endwith %}",
    "{% set a %}1{% endfilter %}", "{% filter e %}1{% endset %}", "{% endset %}", "{% with a, %}",
    "{% set l = [{'r': 'a'}] %}{% if l | selectattr('r', 'equalto', 'b') %}T{% else %}F{% endif %}"
    "{{ 1 if [] | map('e') }}{{ 2 if [0] | select }}{{ 3 if [1] | reject }}{{ 4 if [] | unique }}"
    "{{ not ([] | batch(2)) }}{{ 'x' if l | rejectattr('r') else 'y' }}{{ 5 if [] | slice(1) }}",
    "{% set l = [{'r': 'a'}] %}{% if l | selectattr('r', 'equalto', 'b') | list %}T{% endif %}"
    "{{ l | map(attribute='r') | first }}{{ 'a' in l | map(attribute='r') }}"
    "{% for x in l | map(attribute='r') %}{{ x }}{{ loop.last }}{% endfor %}",
    "{{ [3, 1] | map('string') | sort }}{{ ['b', 'a'] | map('upper') | list | tojson }}"
    "{{ [[1], []] | select | map('first') | sum }}{{ ([1, 2] | map('abs') | list)[1] }}",
    "{{ ['a', 'b'] | map('upper') | map('lower') | reject('eq', 'a') | list | length }}",
    "{{ 'image_%02i' | format(7) }} {{ '%r %s' | format('a', 'b') }} {{ '%d%%' | format(3.9) }}",
    "{{ '%i|%5.1f|%-4d|' | format(-2.5, 2.25, 7) }} {{ '%(a)i %(b)s' | format(a=1, b=none) }}",
    "{{ '%s' | format([1, 'a']) }} {{ '%r' | format(none) }} {{ '100%%' | format }}",
    "{{ '%5s|%-5s|%x' | format('a', '한', 255) }} {{ '%.1s|%-3.2r|%05s' | format('한글', 'b', 'c') }}",
    "{{ '%s %d' | format('%d', 5) }} {{ '%s%%%r%s' | format('%', '%', none) }}",
    "{{ '%' | format }}",
    "{{ '%d' | format('a') }}", "{{ '%q' | format(1) }}", "{{ '%s %s' | format(1) }}",
    "{{ 'ab' | center(7) }}|{{ 'ab' | center(width=6) }}|{{ 5 | center(4) }}|{{ 'a' | center }}|",
    "{{ 'foo bar baz qux' | truncate(9) }} {{ 'foo bar baz qux' | truncate(9, true) }}",
    "{{ 'foo bar baz qux' | truncate(11) }} {{ 'foo bar baz qux' | truncate(11, False, '..', 0) }}",
    "{{ '가나 다라 마바' | truncate(5, end='…', leeway=0) }} {{ 'abcdefghij' | truncate(4, end='') }}",
    "{{ 'a' | truncate(2) }}", "{{ 'a' | truncate(5, leeway=-1) }}", "{{ 5 | truncate }}",
    "{{ 'a b/한?&~' | urlencode }} {{ {'a b': 'c/d', '한': 1} | urlencode }} {{ 5 | urlencode }}",
    "{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{{ c.next() }}", "{{ cycler() }}",
    "{% set j = joiner() %}{{ j() }}a{{ j() }}b{% set j = joiner(sep='|') %}{{ j() }}{{ j() }}",
    "{{ dict([('a', 1), ('b', 2)], c=3) }} {{ dict({1: 2}.items()) }}{{ dict() }}{{ dict(a=1) }}",
    "{{ dict(['xy', [1, 2]]) }} {{ dict({'a': 1}, b=2) }} {{ dict([]) }}",
    "{% set ns = namespace([('a', 1)], b=2) %}{{ ns.a }}{{ ns.b }}{% set ns.a = 3 %}{{ ns.a }}",
    "{% set ns = namespace({'a': 1}) %}{{ ns.a }}{{ ns.b is defined }}{{ namespace().a }}",
    "{{ '%s %d' | safe | format('<', 1.5) }}",
    "{{ dict([1]) }}", "{{ dict(missing) }}", "{{ dict(none) }}", "{{ dict([[1, 2, 3]]) }}",
    "{{ namespace(5) }}",
    "{{ 'Ab Cd'.istitle() }}{{ 'AB'.istitle() }}{{ ''.istitle() }}{{ \"It'S 1A\".istitle() }}",
    "{{ 'ab'.istitle() }}{{ '1 2'.istitle() }}{{ '한 A'.istitle() }}{{ 'aB'.istitle() }}",
    "{{ 'a b한'.isprintable() }}{{ 'a\\n'.isprintable() }}{{ ''.isprintable() }}",
    "{{ 'a\\tb\\n\\tc한\\td'.expandtabs() }}|{{ '\\ta\\t'.expandtabs(4) }}|",
    "{{ 'a\\tb'.expandtabs(0) }}{{ '\\r\\t'.expandtabs(tabsize=2) }}|",
    "{{ raise_exception(message='그만') }}", "{{ raise_exception('a', 'b') }}",
    "{{ raise_exception('그만') }}", "{{ 'a' | no_such_filter }}", "{{ missing | tojson }}",
]


def train_byte_level():
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    tokenizer.normalizer = None
    split = Regex(r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
                  r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(split, "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(vocab_size=700, show_progress=False,
                                  initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.train_from_iterator(CORPUS * 4, trainer)
    tokenizer.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    tokenizer.add_tokens([AddedToken("한국어", normalized=False), "<tool_call>"])
    return tokenizer


def train_sentencepiece():
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([
        normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence([
        decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
        decoders.Strip(content=" ", left=1)])
    special = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=620, show_progress=False, special_tokens=special,
                                  limit_alphabet=250, max_token_length=6)
    tokenizer.train_from_iterator([line.replace(" ", "▁") for line in CORPUS * 4], trainer)
    written = json.loads(tokenizer.to_str())
    # Byte tokens are ordinary tokens, as in converted SentencePiece models.
    written["added_tokens"] = written["added_tokens"][:3]
    tokenizer = Tokenizer.from_str(json.dumps(written))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)])
    return tokenizer


def write_metaspace():
    words = ["<unk>", "▁", "▁안녕", "하세요", "▁▁", "▁바람", "이", "▁분다", "a", "▁a", ".", "\n"]
    vocab = [(word, -float(index)) for index, word in enumerate(words)]
    tokenizer = Tokenizer(models.Unigram(vocab, unk_id=0, byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=True)
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    return tokenizer


CONFIGS = {
    "byte_level": {
        "tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False,
        "bos_token": None, "eos_token": "<|im_end|>",
        "pad_token": {"__type": "AddedToken", "content": "<|endoftext|>", "special": True},
        "extra_special_tokens": ["<mask>"],
        "chat_template": "{{ 'unused: chat_template.jinja wins' }}",
    },
    "sentencepiece": {
        "tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False,
        "add_bos_token": False, "add_eos_token": True,  # overruled by tokenizer.json
        "added_tokens_decoder": {
            str(index): {"content": text, "lstrip": False, "normalized": False, "rstrip": False,
                         "single_word": False, "special": True}
            for index, text in enumerate(["<unk>", "<s>", "</s>"])},
        "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>",
        "mask_token": {"__type": "AddedToken", "content": "<mask>", "lstrip": True, "rstrip": False,
                       "single_word": False, "normalized": False, "special": True},
        "chat_template": [{"name": "tool_use", "template": "wrong"},
                          {"name": "default",
                           "template": "{{ bos_token }}{{ messages[0].content }}"}],
    },
    "metaspace": {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "<unk>",
                  "clean_up_tokenization_spaces": False},
}


def write_json(path, value):
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    path.write_text(text + "\n", encoding="utf-8")


def write_folder(name, tokenizer):
    folder = DATA / name
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    config = json.dumps(CONFIGS[name], ensure_ascii=False, indent=1)
    (folder / "tokenizer_config.json").write_text(config + "\n", encoding="utf-8")
    if name == "byte_level":
        template = (DATA / "templates" / "chatml.jinja").read_text(encoding="utf-8")
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
        names = {"additional_special_tokens": ["<|im_start|>"]}
        write_json(folder / "special_tokens_map.json", names)
    return transformers.AutoTokenizer.from_pretrained(str(folder))


def texts_of(rng):
    mixed = ["".join(rng.sample(TEXTS[3:-6], rng.randint(2, 4))) for _ in range(150)]
    ranges = [(0x20, 0x7E), (0xAC00, 0xD7A3), (0x1100, 0x11FF), (0x3131, 0x318E), (0x4E00, 0x9FFF),
              (0x1F300, 0x1F6FF), (0x80, 0x24F)]
    noise = ["".join(chr(rng.randint(*rng.choice(ranges))) for _ in range(rng.randint(1, 40)))
             for _ in range(80)]
    return TEXTS + mixed + noise


def encodings_of(name, reference, rng):
    texts = []
    for text in texts_of(rng):
        ids = reference.encode(text, add_special_tokens=True)
        plain = reference.encode(text, add_special_tokens=False)
        texts.append({"text": text, "ids": ids, "plain_ids": plain})
    random_ids = [[rng.randrange(len(reference) + 3) for _ in range(rng.randint(0, 25))]
                  for _ in range(150)]
    if name == "sentencepiece":
        # Runs of byte tokens, valid and invalid, between texts.
        for _ in range(150):
            ids = []
            for _ in range(rng.randint(1, 5)):
                data = bytearray("".join(rng.choice("햏뷁펲🙂é▁ a") for _ in range(3)).encode())
                if rng.random() < 0.4:
                    del data[rng.randrange(len(data))]
                ids += [3 + byte for byte in data]
                ids += [rng.randrange(259, len(reference)) for _ in range(rng.randint(0, 2))]
            random_ids.append(ids)
    lists = random_ids + [entry["ids"] for entry in texts[::2]]
    decoded = [{"ids": ids, "text": reference.decode(ids, skip_special_tokens=False),
                "skipped": reference.decode(ids, skip_special_tokens=True)} for ids in lists]
    return {"vocab_size": max(reference.get_vocab().values()) + 1, "eos_id": reference.eos_token_id,
            "special_ids": sorted(reference.all_special_ids), "texts": texts, "decoded": decoded}


def render(reference, template, messages, arguments, generate, continued):
    case = {"template": template, "messages": messages, "arguments": arguments,
            "add_generation_prompt": generate, "continue_final_message": continued}
    source = (DATA / "templates" / f"{template}.jinja").read_text(encoding="utf-8")
    return case | answer(reference, source, messages, arguments, generate, continued)


def answer(reference, source, messages, arguments, generate, continued):
    """The prompt, or how it failed: in the template's own words, or in the library's."""
    case = {}
    try:
        case["prompt"] = reference.apply_chat_template(
            messages, chat_template=source, tokenize=False, add_generation_prompt=generate,
            continue_final_message=continued, **arguments)
    except jinja2.exceptions.TemplateError as error:
        case["raised" if type(error) is jinja2.exceptions.TemplateError else "fails"] = str(error)
    except (TypeError, ValueError, KeyError, AttributeError, IndexError, RuntimeError,
            AssertionError) as error:
        case["fails"] = str(error)
    return case


def renderings_of(reference):
    cases = []
    for path in sorted((DATA / "templates").glob("*.jinja")):
        if path.stem == "parts_only":
            continue
        for name, messages in MESSAGES.items():
            for index, arguments in enumerate(ARGUMENTS):
                if path.stem == "llama31" and "date_string" not in arguments:
                    continue  # today's date can't be a golden
                cases.append(render(reference, path.stem, messages, arguments, index != 1, False))
            last = messages[-1].get("content") if messages else None
            # The grab bag prints messages twice, and with them the mark of the continued end.
            if path.stem != "grab_bag" and last and messages[-1].get("role") == "assistant":
                cases.append(render(reference, path.stem, messages, ARGUMENTS[1], False, True))
    for template in ["parts", "parts_only"]:
        cases.append(render(reference, template, PARTS, {}, True, False))
        cases.append(render(reference, template, PARTS, {}, False, True))
    return cases


def main():
    rng = random.Random(20240726)
    folders = {"byte_level": train_byte_level(), "sentencepiece": train_sentencepiece(),
               "metaspace": write_metaspace()}
    for name, tokenizer in folders.items():
        reference = write_folder(name, tokenizer)
        write_json(DATA / f"{name}.json", encodings_of(name, reference, rng))
        if name == "sentencepiece":
            write_json(DATA / "renderings.json", renderings_of(reference))
            write_json(DATA / "expressions.json", [
                {"source": source} | answer(reference, source, MESSAGES["one"], {}, False, False)
                for source in EXPRESSIONS])


if __name__ == "__main__":
    main()
