// Converts OpenAI's conversations, `messages` and related fields, to chat prompts.
#ifndef BARAM_SERVER_OPENAI_MESSAGES_H_
#define BARAM_SERVER_OPENAI_MESSAGES_H_

#include <string>

#include "server/call.h"
#include "server/json_fields.h"

namespace baram::server {

// The prompt of a chat. Messages are kept as received, except for forms that templates do not know:
// missing content becomes an empty text, other kinds of text parts become text, the arguments of a
// past tool call become the object that they spell. Errors are recorded for the field they occur
// in. `reasoning_effort` is set if present.
ChatPrompt ReadChat(JsonFields& fields, std::string* reasoning_effort);

}  // namespace baram::server

#endif  // BARAM_SERVER_OPENAI_MESSAGES_H_
