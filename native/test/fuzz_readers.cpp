// Every reader, on bytes from anywhere: the first byte chooses which. It may refuse, and nothing else.
// clang: a libFuzzer target. Other compilers: a driver, fuzz_readers RUNS SEED FILE..., that damages the files in
// memory.
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <random>

#include "pack.hpp"
#include "read.hpp"
#include "symbols.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    if (size < 1) return 0;
    int reader = data[0] % 5;
    ++data, --size;
    try {
        if (reader == 0) gsv::parse_json(data, size);
        if (reader == 1) gsv::parse_array(data, size);
        if (reader == 2) gsv::external_data(data, size);
        if (reader == 3) {
            std::string text(reinterpret_cast<const char*>(data), size);
            gsv::safe_name(text);
            gsv::phone_ids(text, "v2");
        }
        if (reader == 4) {
            gsv::Pack pack(data, size);
            for (const auto& [name, phrase] : pack.phrases) {
                gsv::Values values;
                for (const gsv::Slot& slot : phrase.slots) values[slot.name] = slot.values.back();
                phrase.filled(values);
            }
        }
    } catch (const gsv::Refused&) {
    } catch (const gsv::Error&) {
    }
    return 0;
}

#ifdef GSV_FUZZ_DRIVER
int main(int count, char** words) {
    if (count < 4) return std::fputs("fuzz_readers RUNS SEED FILE...\n", stderr), 2;
    std::vector<std::vector<uint8_t>> seeds;
    for (int i = 3; i < count; ++i) {
        std::string name = words[i];
        std::ifstream stream(name, std::ios::binary);
        std::vector<uint8_t> bytes(1, name.find(".json") != std::string::npos   ? 0
                                      : name.find(".npy") != std::string::npos  ? 1
                                      : name.find(".onnx") != std::string::npos ? 2
                                      : name.find(".gsvp") != std::string::npos ? 4
                                                                                : 3);
        bytes.insert(bytes.end(), std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>());
        if (bytes.size() > 1 << 18) bytes.resize(1 << 18);
        seeds.push_back(bytes);
    }
    std::mt19937_64 random(static_cast<uint64_t>(std::atoll(words[2])));
    long runs = std::atol(words[1]);
    for (long run = 0; run < runs; ++run) {
        std::vector<uint8_t> bytes = seeds[random() % seeds.size()];
        size_t most =
            std::min<size_t>(bytes.size(), random() % 2 ? 300 : bytes.size());  // half of the damage: at the start
        for (uint64_t change = 1 + random() % 8; change-- && bytes.size() > 1;) {
            size_t place = 1 + random() % (std::max<size_t>(most, 2) - 1);
            if (place >= bytes.size()) continue;
            switch (random() % 4) {
                case 0: bytes[place] = static_cast<uint8_t>(random()); break;
                case 1: bytes[place] = static_cast<uint8_t>(random() % 2 ? 255 : 0); break;
                case 2: bytes.resize(place); break;
                default:
                    bytes.insert(bytes.begin() + static_cast<std::ptrdiff_t>(place), bytes[random() % bytes.size()]);
                    break;
            }
        }
        LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
    }
    std::printf("%ld inputs\n", runs);
}
#endif
