// Every reader, on bytes from anywhere: it may refuse, and nothing else.
// clang: a libFuzzer target for the reader that the environment's GSV_READER names (see READERS). Other compilers: a
// driver, fuzz_readers RUNS SEED FILE..., that damages files in memory; their names say which reader takes them.
#include <fcntl.h>
#include <ftw.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <random>

#include "artifact.hpp"
#include "flac.hpp"
#include "golden.hpp"
#include "pack.hpp"
#include "symbols.hpp"
#include "unpack.hpp"

namespace {

using Text = std::string;

// A folder in memory that is gone at the end.
class Scratch {
public:
    Scratch() {
        char name[] = "/dev/shm/gsv-fuzz-XXXXXX";
        if (!::mkdtemp(name)) std::abort();
        path_ = name;
    }
    ~Scratch() { clear(path_); }
    Text write(const Text& name, const Text& bytes) const {
        Text path = path_ + "/" + name;
        std::ofstream(path, std::ios::binary) << bytes;
        return path;
    }
    Text path(const Text& name) const { return path_ + "/" + name; }
    static void clear(const Text& path) {
        ::nftw(
            path.c_str(), [](const char* one, const struct stat*, int, struct FTW*) { return ::remove(one); }, 16,
            FTW_DEPTH | FTW_PHYS);
    }

private:
    Text path_;
};

const Scratch& scratch() {
    static const Scratch one;
    return one;
}

const unsigned char* bytes_of(const Text& text) { return reinterpret_cast<const unsigned char*>(text.data()); }

void json(const Text& data) { gsv::parse_json(bytes_of(data), data.size()); }
void npy(const Text& data) { gsv::parse_array(bytes_of(data), data.size()); }
void onnx(const Text& data) { gsv::external_data(bytes_of(data), data.size()); }

void phones(const Text& data) {
    gsv::safe_name(data);
    gsv::phone_ids(data, "v2");
}

void gsvp(const Text& data) {
    gsv::Pack pack(bytes_of(data), data.size());
    for (const auto& [name, phrase] : pack.phrases) {
        gsv::Values values;
        for (const gsv::Slot& slot : phrase.slots) values[slot.name] = slot.values.back();
        phrase.filled(values);
        pack.sound(phrase);
    }
}

void flac(const Text& data) {
    if (gsv::plays_flac()) gsv::flac_samples(bytes_of(data), data.size(), 32000);
}

void gsv_file(const Text& data) {
    Text folder = scratch().path("out");
    try {
        gsv::unpack(scratch().write("a.gsv", data), folder, [](uint64_t, uint64_t) { return true; });
    } catch (...) {
        Scratch::clear(folder);
        throw;
    }
    Scratch::clear(folder);
}

// As a member of an artifact lies in it.
Text stored(const Text& name, const Text& bytes) {
    Text head(30, 0);
    std::memcpy(head.data(), "PK\3\4", 4);
    for (int i = 0; i < 4; ++i) head[18 + i] = head[22 + i] = static_cast<char>(bytes.size() >> 8 * i);
    head[26] = static_cast<char>(name.size());
    return head + name + bytes;
}

// A Brotli stream in an artifact that is right but for what the stream holds.
void br(const Text& data) {
    gsv::Json member = {{"size", 50 * data.size()}, {"sha256", "?"}, {"encoding", "br"}, {"stored_size", data.size()}};
    member["stored_sha256"] = gsv::sha256_bytes(bytes_of(data), data.size());
    gsv::Json manifest = {{"schema", 2}, {"members", {{"a", member}}}};
    gsv_file(stored("manifest.json", manifest.dump()) + stored("a", data) + "PK\1\2");
}

void manifest(const Text& data) {
    scratch().write("manifest.json", data);
    gsv::read_artifact(scratch().path(""), false, true);
}

// model.json of a folder whose manifest is right.
void model(const Text& data) {
    scratch().write("model.json", data);
    gsv::Json all = {{"schema", 2}, {"members", {{"model.json", {{"size", data.size()}, {"sha256", ""}}}}}};
    for (const char* stage : {"prefill", "step", "acoustic", "vocoder"})
        all["stages"][stage] = {{"backend", "onnxruntime"}};
    manifest(all.dump());
}

// The index of the golden vectors, all of them one array; and the report, which tells nothing of the other.
void golden(const Text& data) {
    ::mkdir(scratch().path("golden").c_str(), 0777);
    scratch().write("golden/golden.json", data);
    scratch().write("report.json", data);
    try {
        gsv::read_report(scratch().path(""));
    } catch (const gsv::Error&) {
    }
    gsv::read_cases(scratch().path(""));
}

const struct {
    const char* name;
    void (*read)(const Text&);
} READERS[] = {{"manifest.json", manifest},
               {"model.json", model},
               {"golden.json", golden},
               {"json", json},
               {"npy", npy},
               {"onnx", onnx},
               {"gsvp", gsvp},
               {"flac", flac},
               {"gsv", gsv_file},
               {"br", br},
               {"phones", phones}};

// The reader of a file: by its whole name, or what follows the last dot.
void (*reader_of(const Text& path))(const Text&) {
    Text name = path.substr(path.rfind('/') + 1), ending = name.substr(name.rfind('.') + 1);
    for (const auto& one : READERS)
        if (name == one.name || ending == one.name) return one.read;
    std::fprintf(stderr, "there is no reader for '%s'\n", path.c_str());
    std::exit(2);
}

void read(void (*reader)(const Text&), const Text& data) {
    try {
        reader(data);
    } catch (const gsv::Refused&) {
    } catch (const gsv::Error& error) {
        if (error.status == GSV_DEFECT) std::abort();
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    static const auto reader = reader_of(std::getenv("GSV_READER") ? std::getenv("GSV_READER") : "json");
    read(reader, Text(reinterpret_cast<const char*>(data), size));
    return 0;
}

#ifdef GSV_FUZZ_DRIVER
int main(int count, char** words) {
    if (count < 4) return std::fputs("fuzz_readers RUNS SEED FILE...\n", stderr), 2;
    std::vector<Text> seeds;
    for (int i = 3; i < count; ++i) {
        std::ifstream stream(words[i], std::ios::binary);
        seeds.emplace_back(std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>());
        seeds.back().resize(std::min<size_t>(seeds.back().size(), 1 << 18));
    }
    std::mt19937_64 random(static_cast<uint64_t>(std::atoll(words[2])));
    long runs = std::atol(words[1]);
    for (long run = 0; run < runs; ++run) {
        size_t seed = random() % seeds.size();
        Text bytes = seeds[seed];
        // Half of the damage: at the start.
        size_t most = random() % 2 ? 300 : bytes.size();
        for (uint64_t change = random() % 8; change-- && !bytes.empty();) {
            size_t place = random() % std::min(std::max<size_t>(most, 1), bytes.size());
            switch (random() % 4) {
                case 0: bytes[place] = static_cast<char>(random()); break;
                case 1: bytes[place] = static_cast<char>(random() % 2 ? 255 : 0); break;
                case 2: bytes.resize(place); break;
                default: bytes.insert(place, 1, bytes[random() % bytes.size()]); break;
            }
        }
        read(reader_of(words[3 + seed]), bytes);
    }
    std::printf("%ld inputs\n", runs);
}
#endif
