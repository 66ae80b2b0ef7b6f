#include "symbols.hpp"

#include <algorithm>
#include <set>
#include <sstream>
#include <unordered_map>

#include "error.hpp"

namespace gsv {

namespace {

const char* const V1[] =
#include "symbols_v1.inc"
    ;
const char* const V2[] =
#include "symbols_v2.inc"
    ;

template <size_t N>
std::vector<int64_t> ids(const std::string& text, const char* const (&table)[N], const std::string& name) {
    std::unordered_map<std::string, int64_t> known;
    for (size_t i = 0; i < N; ++i) known.emplace(table[i], static_cast<int64_t>(i));
    std::vector<int64_t> found;
    std::vector<std::string> problems;
    std::set<std::string> told;
    std::istringstream stream(text);
    for (std::string word; stream >> word;) {
        auto place = known.find(word);
        bool number =
            word.size() < 10 && std::all_of(word.begin(), word.end(), [](char c) { return c >= '0' && c <= '9'; });
        if (number && std::stol(word) < static_cast<long>(N)) found.push_back(std::stol(word));
        else if (!number && place != known.end()) found.push_back(place->second);
        else if (told.insert(word).second)
            problems.push_back(number ? "phone id " + word + " is not between 0 and " + std::to_string(N - 1)
                                      : "unknown phone '" + word.substr(0, 40) + "'");
    }
    if (!problems.empty())
        throw Error(GSV_INPUT, "phones that the " + name + " table does not have")
            .problems(problems)
            .limit(std::to_string(N) + " phones, ids 0 to " + std::to_string(N - 1))
            .fix("use names or ids of the " + name + " table; unknown sounds are written UNK");
    return found;
}

}  // namespace

std::vector<int64_t> phone_ids(const std::string& text, const std::string& table) {
    if (table == "v2") return ids(text, V2, table);
    if (table.rfind("v1", 0) == 0) return ids(text, V1, table);
    throw Error(GSV_ARTIFACT, "there is no phone table '" + table.substr(0, 40) + "'").limit("v1 or v2");
}

}  // namespace gsv
