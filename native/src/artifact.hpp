// What an unpacked artifact says of itself: manifest.json and model.json, and whether its files are what they say.
#pragma once

#include <string>
#include <vector>

#include "read.hpp"
#include "sampling.hpp"

namespace gsv {

struct Artifact {
    std::string folder, name, language, version, symbols, target;
    int32_t rate = 0, hop = 0, eos = 0;
    int32_t layers = 0, width = 0, heads = 0, codes_and_end = 0, channels = 0, phones = 0, text_phones = 0, codes = 0,
            positions = 0;
    int32_t context[2] = {-1, -1};  // latent frames around a frame that its sound depends on
    Sampling sampling;
    std::map<std::string, std::string> files, baked;  // by stage, by constant

    bool streams() const { return context[0] >= 0; }
};

Artifact read_artifact(const std::string& folder, bool any_machine, bool sizes_only);

// Whether this processor adds pairs of products of bytes in 16 bits, which overflow: x86 without VNNI.
bool overflows();

}  // namespace gsv
