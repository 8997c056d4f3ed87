// Recognizes what a folder or a file holds instead of a model in safetensors.
#ifndef BARAM_ENGINE_MODEL_OTHER_FORMATS_H_
#define BARAM_ENGINE_MODEL_OTHER_FORMATS_H_

#include <string>
#include <string_view>

namespace baram {

// To append to the message that a file is missing: names a file of another format in the folder,
// and says how to get a model from it. Empty if none is recognized.
std::string OtherFormatInFolder(const std::string& folder);
// What a file that is named as safetensors but starts with `begin` really is, and what to do about
// it; null if unknown. Asked if its start is too large for the length of a header, as it is with
// most of these.
const char* AdviceForContent(std::string_view begin);

}  // namespace baram

#endif  // BARAM_ENGINE_MODEL_OTHER_FORMATS_H_
