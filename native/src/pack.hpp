// A phrase pack (docs/phrases.md): sentences that the Python front end has read into phones, ready to be filled.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "read.hpp"

namespace gsv {

using Values = std::map<std::string, std::string>;  // by slot

struct Filling {
    int slot = -1;  // below 0: always the same
    std::vector<std::string> phones;
};

struct Slot {
    std::string name;
    std::vector<std::string> values;
};

struct Phrase {
    std::string text;
    std::vector<Slot> slots;
    std::vector<Filling> pieces;
    std::map<std::string, std::string> others;  // phones of what the pieces do not give, by the places of its values
    uint64_t start = 0, size = 0;               // of its sound in the file; none where size is 0
    std::string digest;

    // Phone names between spaces; GSV_INPUT tells every slot and value that is wrong.
    std::string filled(const Values& values) const;
};

class Pack {
public:
    explicit Pack(const std::string& path);
    Pack(const unsigned char* data, size_t size) { parse(data, size); }  // without sound

    const Phrase& phrase(const std::string& name) const;
    std::vector<int16_t> sound(const Phrase& phrase) const;  // empty where there is none that can be played

    std::string voice, language, symbols;
    int32_t rate = 0;
    std::map<std::string, Phrase> phrases;

private:
    void parse(const unsigned char* data, size_t size);

    std::string path_;
    std::unique_ptr<File> file_;
    const unsigned char* data_ = nullptr;
};

}  // namespace gsv
