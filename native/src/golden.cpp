#include "golden.hpp"

#include <nlohmann/json.hpp>

namespace gsv {

constexpr size_t MOST_CASES = 64;

std::vector<Case> read_cases(const std::string& folder) {
    std::string where = folder + "/golden";
    std::vector<Case> found;
    auto unread = [&](const std::string& why) {
        return Error(GSV_ARTIFACT, where + " holds no golden vectors that could be read")
            .problems({why})
            .fix("build the artifact again");
    };
    try {
        Json index = read_json(inside(folder, "golden/golden.json"), LARGEST_JSON);
        const Json& cases = index.at("cases");
        if (cases.size() > MOST_CASES) throw Refused("golden.json lists too many cases");
        for (const Json& row : cases) {
            Case one = {row.at("stage"), row.at("name"), {}};
            for (const char* side : {"inputs", "outputs"})
                for (const auto& [port, file] : row.at(side).items())
                    if (port != "keys" && port != "values") one.arrays[port] = read_array(inside(where, file));
            found.push_back(std::move(one));
        }
    } catch (const Refused& error) {
        throw unread(error.text);
    } catch (const Json::exception& error) {
        throw unread(error.what());
    }
    if (found.empty()) throw unread("golden.json lists no case");
    return found;
}

Json read_report(const std::string& folder) {
    try {
        Json found = read_json(inside(folder, "report.json"), LARGEST_JSON);
        if (!at(found, "checks").is_array()) throw Refused("is no report");
        return found;
    } catch (const Refused& error) {
        throw Error(GSV_ARTIFACT, folder + "/report.json " + error.text).fix("unpack the artifact again");
    }
}

}  // namespace gsv
