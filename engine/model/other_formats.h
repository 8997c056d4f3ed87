// OtherFormat: what a folder that is no model as we read it holds instead.
#ifndef BARAM_ENGINE_MODEL_OTHER_FORMATS_H_
#define BARAM_ENGINE_MODEL_OTHER_FORMATS_H_

#include <string>

namespace baram {

// To go on behind the sentence that a file is missing: a file of another format that the folder
// holds, and what makes a model of it. Empty: none that is known.
std::string OtherFormat(const std::string& folder);

}  // namespace baram

#endif  // BARAM_ENGINE_MODEL_OTHER_FORMATS_H_
