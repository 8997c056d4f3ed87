// Fields that OpenAI's, vLLM's and SGLang's clients know and this server does not serve.
#ifndef BARAM_SERVER_OPENAI_UNSERVED_H_
#define BARAM_SERVER_OPENAI_UNSERVED_H_

#include "server/json_fields.h"

namespace baram::server {

// Fails a field that would change the answer and does not: ignoring it would answer another
// question than was asked. Each is allowed in the forms that mean "off", and null everywhere.
//
// Not among them, and so ignored, is what changes no word of an answer: user, safety_identifier,
// prompt_cache_key, metadata, store, parallel_tool_calls, and whatever is not known at all.
//
// Where `shows_tools` is given, tools that tool_choice "none" forbids to call are no error, and
// told there: only a template that shows tools makes something of them.
void RefuseUnserved(JsonFields& fields, bool* shows_tools = nullptr);

}  // namespace baram::server

#endif  // BARAM_SERVER_OPENAI_UNSERVED_H_
