#include "pack.hpp"

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "flac.hpp"

namespace gsv {

namespace {

constexpr uint64_t LARGEST_PACK = 1 << 30;

[[noreturn]] void wrong_pack(const std::string& what) { throw Refused("is a damaged phrase pack: " + what); }

// nlohmann's own conversion takes -1 and 1.5, too.
uint64_t whole(const Json& value) {
    if (!value.is_number_unsigned()) wrong_pack("a number is none");
    return value;
}

Phrase phrase_of(const Json& table, uint64_t sound_size) {
    Phrase found;
    found.text = table.at("text");
    for (const Json& one : at(table, "slots")) {
        found.slots.push_back({one.at("name"), one.at("values")});
        if (found.slots.back().values.empty()) wrong_pack("a slot has no value");
    }
    for (const Json& one : table.at("pieces")) {
        if (!one.contains("slot")) {
            found.pieces.push_back({-1, {one.at("phones")}});
            continue;
        }
        uint64_t slot = whole(one["slot"]);
        std::vector<std::string> phones = one.at("phones");
        if (slot >= found.slots.size() || phones.size() != found.slots[slot].values.size())
            wrong_pack("a piece has no slot, or not all of its values");
        found.pieces.push_back({static_cast<int>(slot), std::move(phones)});
    }
    if (table.contains("others")) found.others = table["others"].get<std::map<std::string, std::string>>();
    if (table.contains("sound")) {
        const Json& place = table["sound"];
        found.start = whole(place.at("start"));
        found.size = whole(place.at("size"));
        found.digest = place.at("sha256");
        if (found.size > sound_size || found.start > sound_size - found.size)
            throw Refused("is a phrase pack that was cut short");
    }
    return found;
}

}  // namespace

std::string Phrase::filled(const Values& values) const {
    std::vector<std::string> problems;
    std::vector<size_t> choice;
    std::string key, names;
    for (const auto& [name, value] : values)
        if (std::none_of(slots.begin(), slots.end(), [&, &name = name](const Slot& one) { return one.name == name; }))
            problems.push_back("it has no slot '" + name.substr(0, 40) + "'");
    for (const Slot& slot : slots) {
        names += (names.empty() ? "" : ", ") + slot.name;
        auto given = values.find(slot.name);
        if (given == values.end()) {
            problems.push_back("slot '" + slot.name + "' has no value");
            continue;
        }
        auto at = std::find(slot.values.begin(), slot.values.end(), given->second);
        if (at == slot.values.end()) {
            std::string shown;
            for (size_t i = 0; i < std::min<size_t>(3, slot.values.size()); ++i)
                shown += (i ? ", " : "") + slot.values[i];
            if (slot.values.size() > 3) shown += ", … " + slot.values.back();
            problems.push_back("slot '" + slot.name + "' cannot be '" + given->second.substr(0, 40) + "'; it can be " +
                               shown);
            continue;
        }
        choice.push_back(static_cast<size_t>(at - slot.values.begin()));
        key += (key.empty() ? "" : " ") + std::to_string(choice.back());
    }
    if (!problems.empty())
        throw Error(GSV_INPUT, "'" + text + "' cannot be filled")
            .problems(problems)
            .limit(names.empty() ? "no slot" : names);
    if (auto other = others.find(key); other != others.end()) return other->second;
    std::string phones;
    for (const Filling& piece : pieces) {
        const std::string& some = piece.phones[piece.slot < 0 ? 0 : choice[static_cast<size_t>(piece.slot)]];
        phones += (phones.empty() || some.empty() ? "" : " ") + some;
    }
    return phones;
}

Pack::Pack(const std::string& path) : path_(path) {
    try {
        file_ = std::make_unique<File>(path);
        if (file_->size() > LARGEST_PACK)
            throw Refused("has " + std::to_string(file_->size()) + " bytes; a phrase pack has at most " +
                          std::to_string(LARGEST_PACK));
        parse(file_->map(), file_->size());
    } catch (const Refused& error) {
        throw Error(GSV_INPUT, path + " " + error.text).fix("make it again: gsvexport phrases");
    }
}

// "gsvexport phrases FORM LENGTH\n", so many bytes of JSON, and the sound.
void Pack::parse(const unsigned char* data, size_t size) {
    std::string head(reinterpret_cast<const char*>(data), std::min<size_t>(size, 40));
    unsigned form = 0;
    unsigned long length = 0;
    int place = 0;
    std::sscanf(head.c_str(), "gsvexport phrases %4u %9lu%n", &form, &length, &place);
    if (!form) throw Refused("is no phrase pack");
    if (form != 1) throw Refused("is a phrase pack of form " + std::to_string(form) + "; this release reads 1");
    if (!place || head[static_cast<size_t>(place++)] != '\n') throw Refused("is no phrase pack");
    size_t left = size - static_cast<size_t>(place);
    if (length > LARGEST_JSON || length > left) throw Refused("is a phrase pack that was cut short");
    data_ = data + place + length;
    Json told = parse_json(data + place, length);
    try {
        voice = told.at("voice");
        language = told.at("language");
        symbols = told.at("symbols");
        rate = static_cast<int32_t>(std::min<uint64_t>(whole(told.at("rate")), 1 << 20));
        for (const auto& [name, table] : told.at("phrases").items()) phrases[name] = phrase_of(table, left - length);
    } catch (const Json::exception& error) {
        wrong_pack(error.what());
    }
    if (rate < 1000) wrong_pack("'rate' is wrong");
}

const Phrase& Pack::phrase(const std::string& name) const {
    auto found = phrases.find(name);
    if (found != phrases.end()) return found->second;
    std::string known;
    size_t shown = 0;
    for (const auto& [one, _] : phrases)
        if (shown++ < 20) known += (known.empty() ? "" : ", ") + one;
    throw Error(GSV_INPUT, "the pack has no phrase '" + name.substr(0, 80) + "'").limit(known).fix("name one of these");
}

std::vector<int16_t> Pack::sound(const Phrase& phrase) const {
    if (!phrase.size || !plays_flac()) return {};
    const unsigned char* from = data_ + phrase.start;
    if (sha256_bytes(from, phrase.size) != phrase.digest)
        throw Error(GSV_INPUT, path_ + " is a phrase pack whose sound is damaged").fix("copy it again");
    return flac_samples(from, phrase.size, rate);
}

}  // namespace gsv
