// OpenAI's conversations, `messages` and what goes with them, as chat prompts.
#ifndef BARAM_SERVER_OPENAI_MESSAGES_H_
#define BARAM_SERVER_OPENAI_MESSAGES_H_

#include <string>

#include "server/call.h"
#include "server/json_fields.h"

namespace baram::server {

// The prompt of a chat. The messages are kept as they came, but for the forms that templates do not
// know: no content is an empty text, other kinds of text parts are text, a past tool call has the
// object that its arguments spell. What is wrong fails the field it stands in.
// `reasoning_effort` is set if it is named.
ChatPrompt ReadChat(JsonFields& fields, std::string* reasoning_effort);

}  // namespace baram::server

#endif  // BARAM_SERVER_OPENAI_MESSAGES_H_
