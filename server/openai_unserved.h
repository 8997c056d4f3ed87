// Fields that OpenAI's, vLLM's and SGLang's clients know and this server does not serve.
#ifndef BARAM_SERVER_OPENAI_UNSERVED_H_
#define BARAM_SERVER_OPENAI_UNSERVED_H_

#include "server/json_fields.h"

namespace baram::server {

// Fails fields that ask for another answer than this server gives: ignoring one would answer
// another question than was asked. Each is allowed in the forms that mean "off", and as null.
//
// Fields that change no word of an answer are ignored instead: user, safety_identifier,
// prompt_cache_key, metadata, store, parallel_tool_calls, and all that are not known.
//
// With `shows_tools`, tools that tool_choice "none" forbids to call are no error; it is set if
// there are any, since a template may show them all the same.
void RefuseUnserved(JsonFields& fields, bool* shows_tools = nullptr);

}  // namespace baram::server

#endif  // BARAM_SERVER_OPENAI_UNSERVED_H_
