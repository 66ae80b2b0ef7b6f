// A `.gsv` as a folder: docs/artifact.md, and PKWARE's APPNOTE.TXT 6.3, sections 4.3.7 and 4.5.3.
#pragma once

#include <string>

namespace gsv {

// Writes the members of the artifact `file` into `folder`, which must not exist; it appears complete or not at all.
void unpack(const std::string& file, const std::string& folder);

}  // namespace gsv
