// Fields that OpenAI's, vLLM's and SGLang's clients send and this server does not serve.
#ifndef BARAM_SERVER_OPENAI_UNSERVED_H_
#define BARAM_SERVER_OPENAI_UNSERVED_H_

#include "server/json_fields.h"

namespace baram::server {

// Fails fields that would change the answer: ignoring one would answer a different question from
// the one asked. Each is accepted in the forms that mean "off", and as null.
//
// Fields that do not change an answer's text are ignored instead: user, safety_identifier,
// prompt_cache_key, metadata, store, parallel_tool_calls, and all unknown fields.
//
// With `shows_tools`, tools that tool_choice "none" forbids to call are no error; it is set if
// there are any, since a template may show them nonetheless.
void RefuseUnserved(JsonFields& fields, bool* shows_tools = nullptr);

}  // namespace baram::server

#endif  // BARAM_SERVER_OPENAI_UNSERVED_H_
