// What stands in a folder or a file in place of a model as we read it.
#ifndef BARAM_ENGINE_MODEL_OTHER_FORMATS_H_
#define BARAM_ENGINE_MODEL_OTHER_FORMATS_H_

#include <string>
#include <string_view>

namespace baram {

// To go on behind the sentence that a file is missing: a file of another format that the folder
// holds, and what makes a model of it. Empty: none that is known.
std::string OtherFormat(const std::string& folder);
// What a file is that is named as safetensors and begins so, and how to mend it; null: not known.
// Asked where the beginning is too large for a header's length, as most of these are.
const char* OtherFormatOf(std::string_view begin);

}  // namespace baram

#endif  // BARAM_ENGINE_MODEL_OTHER_FORMATS_H_
