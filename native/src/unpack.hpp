// A `.gsv` as a folder: docs/artifact.md, and PKWARE's APPNOTE.TXT 6.3, sections 4.3.7 and 4.5.3.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

namespace gsv {

// Told how many bytes of all are written; false ends the work.
using Watch = std::function<bool(uint64_t done, uint64_t total)>;

// Writes the members of the artifact `file` into `folder`, which must not exist; it appears complete or not at all.
void unpack(const std::string& file, const std::string& folder, const Watch& watch);

}  // namespace gsv
