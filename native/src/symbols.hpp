// The phone tables, which the build writes from gsvexport/text/symbols_*.json.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace gsv {

// The ids of phones between spaces, by name or number; `table` is "v1", "v1-2024-08" or "v2".
std::vector<int64_t> phone_ids(const std::string& text, const std::string& table);

}  // namespace gsv
