#include "artifact.hpp"

#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

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
        : value_(value), where_(std::move(where)), problems_(problems) {
        if (!value.is_object()) note("is no table");
    }

    int64_t whole(const char* key, int64_t low, int64_t high) {
        const Json& found = at(value_, key);
        if (found.is_number_integer() && found >= low && found <= high) return found;
        note(std::string(key) + " is no whole number from " + std::to_string(low) + " to " + std::to_string(high));
        return low;
    }

    double number(const char* key, double low, double high) {
        const Json& found = at(value_, key);
        if (found.is_number() && low <= found.get<double>() && found.get<double>() <= high) return found;
        note(std::string(key) + " is no number in its range");
        return low;
    }

    std::string text(const char* key, size_t most = 200) {
        const Json& found = at(value_, key);
        if (!found.is_string() || text_of(found).size() > most) note(std::string(key) + " is no text");
        return text_of(found);
    }

    std::map<std::string, std::string> names(const char* key) {
        std::map<std::string, std::string> found;
        for (const auto& [name, file] : at(value_, key).items())
            if (safe_name(text_of(file)) && found.size() < 32) found[name] = file;
            else note(std::string(key) + " names a file that is no name inside a folder");
        return found;
    }

private:
    void note(const std::string& what) { problems_.push_back(where_ + ": " + what); }

    const Json& value_;
    std::string where_;
    std::vector<std::string>& problems_;
};

// A table of the schema that is known.
Json table_of(const std::string& folder, const char* name, uint64_t limit, int64_t schema, const char* fix) {
    std::string where = folder + "/" + name;
    Json found;
    try {
        found = read_json(inside(folder, name), limit);
    } catch (const Refused& error) {
        throw Error(GSV_ARTIFACT, where + " " + error.text).fix(fix);
    }
    if (at(found, "schema") == schema) return found;
    throw Error(GSV_ARTIFACT, where + " has a schema that this release does not know")
        .found(at(found, "schema").dump(-1, ' ', true, Json::error_handler_t::replace).substr(0, 40))
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

// The features that every core has; none where the system does not list them, or in another architecture's words, as
// an emulator's does.
std::set<std::string> features(const std::string& arch) {
    std::ifstream stream("/proc/cpuinfo");
    std::map<std::string, int> cores;  // that have each of the kernel's words
    int count = 0;
    for (std::string line; std::getline(stream, line);) {
        if (line.rfind("flags", 0) != 0 && line.rfind("Features", 0) != 0) continue;
        ++count;
        for (const std::string& word : words_of(line)) ++cores[word];
    }
    std::set<std::string> found;
    for (const Feature& one : FEATURES) {
        auto needs = words_of(one.words);
        auto everywhere = [&](const std::string& word) { return count && cores[word] == count; };
        if (arch == one.arch && std::all_of(needs.begin(), needs.end(), everywhere)) found.insert(one.name);
    }
    for (const char* either : {"avx-vnni", "avx512-vnni"})  // VNNI comes in two encodings, and either does
        if (found.count("avx-vnni") || found.count("avx512-vnni")) found.insert(either);
    return found;
}

void check_machine(const Json& target, const std::string& where) {
    const Json& device = at(target, "device");
    std::string wanted = text_of(at(device, "arch")), here = architecture(), list, missing;
    std::set<std::string> has = features(here);
    for (const Json& one : at(device, "features")) {
        list += (list.empty() ? " with " : ", ") + text_of(one);
        if (!has.empty() && !has.count(text_of(one))) missing += (missing.empty() ? " without " : ", ") + text_of(one);
    }
    if (wanted.empty() || (wanted == here && missing.empty())) return;
    throw Error(GSV_ARTIFACT, where + " was made for another machine: " + text_of(at(target, "name")) + " (" +
                                  text_of(at(target, "title")) + ")")
        .problems({"it wants " + wanted + list, "this machine is " + here + (wanted == here ? missing : "")})
        .fix(
            "build it for this machine (gsvexport targets lists devices); to open it all the same: --any-machine, or "
            "any_machine in C");
}

// Every member that the manifest lists has its size and SHA-256.
void check_members(const Json& manifest, const std::string& folder, bool sizes_only) {
    std::vector<std::string> problems;
    Json members = at(manifest, "members");
    if (!members.is_object() || members.empty() || members.size() > 4096)
        throw Error(GSV_ARTIFACT, folder + "/manifest.json lists no members").fix("unpack the artifact again");
    if (at(manifest, "report").is_object()) members["report.json"] = manifest["report"];
    for (const auto& [name, told] : members.items()) {
        std::string first = name.substr(0, 200);
        size_t before = problems.size();
        if (before > MOST_PROBLEMS) break;
        Table table(told, first, problems);
        auto size = static_cast<uint64_t>(table.whole("size", 0, LARGEST_MEMBER));
        std::string digest = table.text("sha256", 64);
        if (problems.size() > before) continue;
        try {
            std::string path = inside(folder, name);
            if (::access(path.c_str(), F_OK) != 0) problems.push_back(first + ": missing");
            else if (File(path).size() != size) problems.push_back(first + ": its size is not what the manifest says");
            else if (!sizes_only && sha256_file(path) != digest)
                problems.push_back(first + ": has changed (SHA-256 differs)");
        } catch (const Refused& error) {
            problems.push_back(first + " " + error.text);
        }
    }
    if (!problems.empty()) throw Error(GSV_ARTIFACT, folder + " is damaged").problems(problems).fix("unpack it again");
}

}  // namespace

bool overflows() {
    std::set<std::string> has = features("x86-64");
    return architecture() == "x86-64" && !has.empty() && !has.count("avx-vnni");
}

Artifact read_artifact(const std::string& folder, bool any_machine, bool sizes_only) {
    struct stat there;
    if (::stat(folder.c_str(), &there) != 0)
        throw Error(GSV_INPUT, folder + " does not exist").fix("pass the folder of an unpacked artifact");
    if (!S_ISDIR(there.st_mode))
        throw Error(GSV_INPUT, folder + " is no folder").fix("unpack the artifact first: gsvsay A.gsv --unpack FOLDER");
    Json manifest = table_of(folder, "manifest.json", LARGEST_MANIFEST, 2, "pass the folder of an unpacked artifact");
    check_members(manifest, folder, sizes_only);
    const Json& members = manifest["members"];
    if (!members.contains("model.json"))
        throw Error(GSV_ARTIFACT, folder + "/manifest.json does not list model.json").fix("build the artifact again");
    Json model = table_of(folder, "model.json", LARGEST_MODEL, 1, "build the artifact again");

    std::vector<std::string> problems;
    Table top(model, "model.json", problems), dims(at(model, "dims"), "model.json: dims", problems),
        sampling(at(model, "sampling"), "model.json: sampling", problems);
    Artifact found;
    found.folder = folder;
    found.name = top.text("name");
    found.language = top.text("language", 16);
    found.version = top.text("version", 16);
    found.symbols = top.text("symbols", 16);
    found.rate = static_cast<int32_t>(top.whole("rate", 1000, 768000));
    found.hop = static_cast<int32_t>(top.whole("hop", 1, 1 << 20));
    found.files = top.names("files");
    found.baked = top.names("baked");
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
    found.sampling.top_k = sampling.whole("top_k", 1, 1ll << 31);
    found.sampling.top_p = sampling.number("top_p", 0, 1);
    found.sampling.temperature = sampling.number("temperature", 0, 100);
    found.sampling.repetition_penalty = sampling.number("repetition_penalty", 0.01, 100);
    const Json& context = at(model, "vocoder_context");
    auto frames = [](const Json& one) { return one.is_number_integer() && one >= 0 && one <= (1 << 20); };
    if (context.size() == 2 && context.is_array() && frames(context[0]) && frames(context[1]))
        std::copy(context.begin(), context.end(), found.context);
    bool told = !found.version.empty();  // where it is not, the problems tell
    if (told && std::find(std::begin(SPOKEN), std::end(SPOKEN), found.version) == std::end(SPOKEN))
        throw Error(GSV_VOICE, found.name + " is a " + found.version + " voice, which this runtime does not speak")
            .limit("v1, v2, v2Pro, v2ProPlus")
            .fix("use gsvexport's Python runtime for it");
    if (!problems.empty())
        throw Error(GSV_ARTIFACT, folder + "/model.json cannot be right")
            .problems(problems)
            .fix("build the artifact again");

    for (const char* stage : STAGES) {
        auto file = found.files.find(stage);
        if (file == found.files.end()) problems.push_back(std::string("it holds no stage '") + stage + "'");
        else if (!members.contains(file->second)) problems.push_back(file->second + " is no member of it");
        std::string backend = text_of(at(at(at(manifest, "stages"), stage), "backend"));
        if (backend != "onnxruntime")
            problems.push_back(std::string("stage '") + stage + "' is run by " +
                               (backend.empty() ? "nobody knows what" : backend));
    }
    if (!problems.empty())
        throw Error(GSV_VOICE, folder + " cannot be spoken by this runtime")
            .problems(problems)
            .limit("prefill, step, acoustic and vocoder of ONNX Runtime")
            .fix("build it for a target whose stages ONNX Runtime runs: x86-64-int8, raspberry-pi-5, ...");
    found.target = text_of(at(at(manifest, "target"), "name"));
    if (!any_machine) check_machine(at(manifest, "target"), folder);
    return found;
}

}  // namespace gsv
