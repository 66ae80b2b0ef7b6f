#include "artifact.hpp"

#include <sys/stat.h>
#include <sys/utsname.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

namespace gsv {

namespace {

const char* const SPOKEN[] = {"v1", "v2", "v2Pro", "v2ProPlus"};
const char* const STAGES[] = {"prefill", "step", "acoustic", "vocoder"};
constexpr size_t MOST_PROBLEMS = 20;

// A table of a JSON text with its bounds: what is not as it has to be is noted, and all of it told at once.
class Table {
public:
    Table(const Json& value, std::string where, std::vector<std::string>& problems)
        : value_(value.is_object() ? value : empty()), where_(std::move(where)), problems_(problems) {
        if (!value.is_object()) note("is no table");
    }

    int64_t whole(const char* key, int64_t low, int64_t high) {
        auto found = value_.find(key);
        if (found != value_.end() && found->is_number_integer()) {
            bool beyond = found->is_number_unsigned() && found->get<uint64_t>() > static_cast<uint64_t>(INT64_MAX);
            int64_t number = beyond ? INT64_MAX : found->get<int64_t>();
            if (low <= number && number <= high && !beyond) return number;
        }
        note(std::string(key) + " is no whole number from " + std::to_string(low) + " to " + std::to_string(high));
        return low;
    }

    double number(const char* key, double low, double high) {
        auto found = value_.find(key);
        if (found != value_.end() && found->is_number() && low <= found->get<double>() && found->get<double>() <= high)
            return found->get<double>();
        note(std::string(key) + " is no number in its range");
        return low;
    }

    std::string text(const char* key, size_t most = 200) {
        auto found = value_.find(key);
        if (found != value_.end() && found->is_string() && found->get_ref<const std::string&>().size() <= most)
            return found->get<std::string>();
        note(std::string(key) + " is no text");
        return "";
    }

    std::map<std::string, std::string> texts(const char* key) {
        std::map<std::string, std::string> result;
        auto found = value_.find(key);
        if (found == value_.end()) return result;
        if (!found->is_object() || found->size() > 32) {
            note(std::string(key) + " is no table of names");
            return result;
        }
        for (const auto& [name, file] : found->items())
            if (file.is_string() && safe_name(file.get<std::string>())) result[name] = file.get<std::string>();
            else note(std::string(key) + " names a file that is no name inside a folder");
        return result;
    }

    const Json& at(const char* key) const {
        auto found = value_.find(key);
        return found == value_.end() ? empty() : *found;
    }

private:
    static const Json& empty() {
        static const Json nothing = Json::object();
        return nothing;
    }
    void note(const std::string& what) { problems_.push_back(where_ + ": " + what); }

    const Json& value_;
    std::string where_;
    std::vector<std::string>& problems_;
};

Json json_of(const std::string& folder, const char* name, uint64_t limit, const char* fix) {
    try {
        return read_json(inside(folder, name), limit);
    } catch (const Refused& error) {
        throw Error(GSV_ARTIFACT, folder + "/" + name + " " + error.text).fix(fix);
    }
}

void check_schema(const Json& value, int64_t schema, const std::string& where) {
    if (value.is_object() && value.value("schema", Json()) == schema) return;
    std::string found = "no schema";
    if (value.is_object() && value.contains("schema"))
        found = value["schema"].dump(-1, ' ', true, Json::error_handler_t::replace).substr(0, 40);
    throw Error(GSV_ARTIFACT, where + " has a schema that this release does not know")
        .found(found)
        .limit(std::to_string(schema))
        .fix("build the artifact again, or use the release that made it");
}

// ---- the machine, as gsvexport/target/machine.py tells it ----

struct Feature {
    const char *arch, *name, *words;
};
// A target's word for a feature → the kernel's words for it in /proc/cpuinfo.
const Feature FEATURES[] = {
    {"x86-64", "avx2", "avx2"},
    {"x86-64", "fma", "fma"},
    {"x86-64", "f16c", "f16c"},
    {"x86-64", "avx512", "avx512f avx512bw avx512dq avx512vl"},
    {"x86-64", "avx512-vnni", "avx512_vnni"},
    {"x86-64", "avx-vnni", "avx_vnni"},
    {"x86-64", "amx", "amx_int8"},
    {"aarch64", "neon", "asimd"},
    {"aarch64", "dotprod", "asimddp"},
    {"aarch64", "fp16", "fphp asimdhp"},
    {"aarch64", "bf16", "bf16"},
    {"aarch64", "i8mm", "i8mm"},
    {"aarch64", "sve", "sve"},
    {"aarch64", "sve2", "sve2"},
    {"aarch64", "sme", "sme"},
};

std::set<std::string> words_of(const std::string& text) {
    std::istringstream stream(text);
    std::set<std::string> found;
    for (std::string word; stream >> word;) found.insert(word);
    return found;
}

std::string architecture() {
    struct utsname told;
    std::string machine = ::uname(&told) == 0 ? told.machine : "an unknown machine";
    if (machine == "x86_64" || machine == "amd64") return "x86-64";
    return machine == "arm64" ? "aarch64" : machine;
}

// The features that every core has; `known` is false where the system does not list them.
std::set<std::string> features(const std::string& arch, bool& known) {
    std::ifstream stream("/proc/cpuinfo");
    std::set<std::string> common;
    known = false;
    for (std::string line; std::getline(stream, line);) {
        size_t colon = line.find(':');
        if (colon == std::string::npos || (line.rfind("flags", 0) != 0 && line.rfind("Features", 0) != 0)) continue;
        std::set<std::string> words = words_of(line.substr(colon + 1)), both;
        if (!known) both = words;
        else
            std::set_intersection(common.begin(), common.end(), words.begin(), words.end(),
                                  std::inserter(both, both.end()));
        common = both;
        known = true;
    }
    std::set<std::string> found;
    for (const Feature& one : FEATURES) {
        if (arch != one.arch) continue;
        auto needs = words_of(one.words);
        if (std::includes(common.begin(), common.end(), needs.begin(), needs.end())) found.insert(one.name);
    }
    known = known && !found.empty();  // a list of another architecture's words (an emulator's) tells nothing
    for (const char* either : {"avx-vnni", "avx512-vnni"})  // VNNI comes in two encodings, and either does
        if (found.count("avx-vnni") || found.count("avx512-vnni")) found.insert(either);
    return found;
}

void check_machine(const Json& target, const std::string& where) {
    auto device = target.is_object() ? target.find("device") : target.end();
    if (device == target.end() || !device->is_object() || !device->contains("arch") || !(*device)["arch"].is_string())
        return;
    std::string wanted = (*device)["arch"], here = architecture(), list, missing;
    bool known = false;
    std::set<std::string> has = features(here, known);
    for (const Json& one : device->value("features", Json::array())) {
        if (!one.is_string()) continue;
        list += (list.empty() ? "" : ", ") + one.get<std::string>();
        if (known && !has.count(one)) missing += (missing.empty() ? "" : ", ") + one.get<std::string>();
    }
    if (wanted == here && missing.empty()) return;
    auto told = [&](const char* key, const char* otherwise) {
        return target.contains(key) && target[key].is_string() ? target[key].get<std::string>()
                                                               : std::string(otherwise);
    };
    throw Error(GSV_ARTIFACT,
                where + " was made for another machine: " + told("name", "?") + " (" + told("title", "no title") + ")")
        .problems({"it wants " + wanted + (list.empty() ? "" : " with " + list),
                   "this machine is " + here + (wanted == here ? " without " + missing : "")})
        .fix(
            "build it for this machine (gsvexport targets lists devices); to open it all the same: --any-machine, or "
            "any_machine in C");
}

// Every member that the manifest lists has its size and SHA-256.
void check_members(const Json& manifest, const std::string& folder, bool sizes_only) {
    std::vector<std::string> problems;
    const Json& members = manifest.contains("members") ? manifest["members"] : Json();
    if (!members.is_object() || members.empty() || members.size() > 4096)
        throw Error(GSV_ARTIFACT, folder + "/manifest.json lists no members").fix("unpack the artifact again");
    Json all = members;
    if (manifest.contains("report") && manifest["report"].is_object()) all["report.json"] = manifest["report"];
    for (const auto& [name, told] : all.items()) {
        if (problems.size() > MOST_PROBLEMS) break;
        std::string first = name.substr(0, 200);
        std::vector<std::string> ignored;
        Table table(told, first, ignored);
        int64_t size = table.whole("size", 0, LARGEST_MEMBER);
        std::string digest = table.text("sha256", 64);
        if (!ignored.empty()) {
            problems.push_back(ignored[0]);
            continue;
        }
        try {
            std::string path = inside(folder, name);
            struct stat there;
            if (::stat(path.c_str(), &there) != 0) problems.push_back(first + ": missing");
            else if (!S_ISREG(there.st_mode) || there.st_size != size)
                problems.push_back(first + ": its size is not what the manifest says");
            else if (!sizes_only && sha256_file(path) != digest)
                problems.push_back(first + ": has changed (SHA-256 differs)");
        } catch (const Refused& error) {
            problems.push_back(first + " " + error.text);
        }
    }
    if (!problems.empty()) throw Error(GSV_ARTIFACT, folder + " is damaged").problems(problems).fix("unpack it again");
}

}  // namespace

Artifact read_artifact(const std::string& folder, bool any_machine, bool sizes_only) {
    struct stat there;
    if (::stat(folder.c_str(), &there) != 0)
        throw Error(GSV_INPUT, folder + " does not exist").fix("pass the folder of an unpacked artifact");
    if (!S_ISDIR(there.st_mode))
        throw Error(GSV_INPUT, folder + " is no folder")
            .fix("unpack the artifact first: gsvsay A.gsv --unpack FOLDER");
    Json manifest = json_of(folder, "manifest.json", LARGEST_MANIFEST, "pass the folder of an unpacked artifact");
    check_schema(manifest, 2, folder + "/manifest.json");
    check_members(manifest, folder, sizes_only);
    if (!manifest["members"].contains("model.json"))
        throw Error(GSV_ARTIFACT, folder + "/manifest.json does not list model.json").fix("build the artifact again");
    Json model = json_of(folder, "model.json", LARGEST_MODEL, "build the artifact again");
    check_schema(model, 1, folder + "/model.json");

    std::vector<std::string> problems;
    Table top(model, "model.json", problems), dims(top.at("dims"), "model.json: dims", problems);
    Artifact found;
    found.folder = folder;
    found.name = top.text("name");
    found.language = top.text("language", 16);
    found.version = top.text("version", 16);
    found.symbols = top.text("symbols", 16);
    found.rate = static_cast<int32_t>(top.whole("rate", 1000, 768000));
    found.hop = static_cast<int32_t>(top.whole("hop", 1, 1 << 20));
    found.files = top.texts("files");
    found.baked = top.texts("baked");
    struct {
        int32_t& into;
        const char* key;
        int64_t most;
    } const sizes[] = {{found.layers, "L", 256},
                       {found.heads, "H", 1024},
                       {found.width, "D", 1 << 20},
                       {found.codes_and_end, "V", 1 << 20},
                       {found.channels, "I", 1 << 20},
                       {found.phones, "phones", 1 << 20},
                       {found.text_phones, "text_phones", 1 << 20},
                       {found.codes, "codes", 1 << 20},
                       {found.positions, "positions", 1 << 20}};
    for (const auto& one : sizes) one.into = static_cast<int32_t>(dims.whole(one.key, 1, one.most));
    found.eos = static_cast<int32_t>(top.whole("eos", 0, found.codes_and_end - 1));
    Table sampling(top.at("sampling"), "model.json: sampling", problems);
    found.sampling.top_k = sampling.whole("top_k", 1, 1ll << 31);
    found.sampling.top_p = sampling.number("top_p", 0, 1);
    found.sampling.temperature = sampling.number("temperature", 0, 100);
    found.sampling.repetition_penalty = sampling.number("repetition_penalty", 0.01, 100);
    if (const Json& context = top.at("vocoder_context"); context.is_array() && context.size() == 2)
        for (int i = 0; i < 2; ++i)
            if (context[i].is_number_integer() && context[i] >= 0 && context[i] <= (1 << 20))
                found.context[i] = context[i];
    if (found.context[1] < 0) found.context[0] = -1;
    if (!problems.empty())
        throw Error(GSV_ARTIFACT, folder + "/model.json cannot be right")
            .problems(problems)
            .fix("build the artifact again");

    if (std::find(std::begin(SPOKEN), std::end(SPOKEN), found.version) == std::end(SPOKEN))
        throw Error(GSV_VOICE, found.name + " is a " + found.version + " voice, which this runtime does not speak")
            .limit("v1, v2, v2Pro, v2ProPlus")
            .fix("use gsvexport's Python runtime for it");
    const Json& stages = manifest.contains("stages") ? manifest["stages"] : Json();
    for (const char* stage : STAGES) {
        auto file = found.files.find(stage);
        if (file == found.files.end()) problems.push_back(std::string("it holds no stage '") + stage + "'");
        else if (!manifest["members"].contains(file->second)) problems.push_back(file->second + " is no member of it");
        std::string backend;
        if (stages.is_object() && stages.contains(stage) && stages[stage].is_object() &&
            stages[stage].contains("backend") && stages[stage]["backend"].is_string())
            backend = stages[stage]["backend"];
        if (backend != "onnxruntime")
            problems.push_back(std::string("stage '") + stage + "' is run by " +
                               (backend.empty() ? "nobody knows what" : backend));
    }
    if (!problems.empty())
        throw Error(GSV_VOICE, folder + " cannot be spoken by this runtime")
            .problems(problems)
            .limit("prefill, step, acoustic and vocoder of ONNX Runtime")
            .fix("build it for a target whose stages ONNX Runtime runs: x86-64-int8, raspberry-pi-5, ...");
    const Json& target = manifest.contains("target") ? manifest["target"] : Json();
    if (target.is_object() && target.contains("name") && target["name"].is_string()) found.target = target["name"];
    if (!any_machine) check_machine(target, folder);
    return found;
}

}  // namespace gsv
