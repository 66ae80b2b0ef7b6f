#include "pack.hpp"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>

#include "flac.hpp"

namespace gsv {

namespace {

constexpr uint64_t LARGEST_PACK = 1 << 30;
const char MAGIC[] = "gsvexport phrases ";

[[noreturn]] void wrong_pack(const std::string& what) { throw Refused("is a damaged phrase pack: " + what); }

const Json& member(const Json& table, const char* name, Json::value_t kind) {
    auto found = table.is_object() ? table.find(name) : table.end();
    if (!table.is_object() || found == table.end()) wrong_pack(std::string("'") + name + "' is missing");
    bool whole = kind == Json::value_t::number_unsigned;
    if (found->type() != kind && !(whole && found->is_number_integer() && *found >= 0))
        wrong_pack(std::string("'") + name + "' is wrong");
    return *found;
}

std::string text(const Json& table, const char* name) {
    return member(table, name, Json::value_t::string).get<std::string>();
}

uint64_t whole(const Json& table, const char* name) {
    return member(table, name, Json::value_t::number_unsigned).get<uint64_t>();
}

std::vector<std::string> texts(const Json& table, const char* name) {
    std::vector<std::string> found;
    for (const Json& one : member(table, name, Json::value_t::array)) {
        if (!one.is_string()) wrong_pack(std::string("'") + name + "' is wrong");
        found.push_back(one.get<std::string>());
    }
    return found;
}

// A whole number of up to `most` digits at `place`, which is moved behind it.
uint64_t digits(const unsigned char* data, size_t size, size_t& place, size_t most) {
    uint64_t value = 0;
    size_t from = place;
    while (place < size && place - from < most && data[place] >= '0' && data[place] <= '9')
        value = 10 * value + (data[place++] - '0');
    if (place == from) throw Refused("is no phrase pack");
    return value;
}

Phrase phrase_of(const Json& table, uint64_t sound_size) {
    Phrase found;
    found.text = text(table, "text");
    if (table.contains("slots"))
        for (const Json& one : member(table, "slots", Json::value_t::array)) {
            found.slots.push_back({text(one, "name"), texts(one, "values")});
            if (found.slots.back().values.empty()) wrong_pack("a slot has no value");
        }
    for (const Json& one : member(table, "pieces", Json::value_t::array)) {
        Filling piece;
        if (!one.is_object() || !one.contains("slot")) piece.phones.push_back(text(one, "phones"));
        else {
            uint64_t slot = whole(one, "slot");
            piece.phones = texts(one, "phones");
            if (slot >= found.slots.size() || piece.phones.size() != found.slots[slot].values.size())
                wrong_pack("a piece has no slot, or not all of its values");
            piece.slot = static_cast<int>(slot);
        }
        found.pieces.push_back(std::move(piece));
    }
    if (table.contains("others"))
        for (const auto& [key, phones] : member(table, "others", Json::value_t::object).items()) {
            if (!phones.is_string()) wrong_pack("'others' is wrong");
            found.others[key] = phones.get<std::string>();
        }
    if (table.contains("sound")) {
        const Json& place = table["sound"];
        found.start = whole(place, "start");
        found.size = whole(place, "size");
        found.digest = text(place, "sha256");
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
            problems.push_back("slot '" + slot.name + "' cannot be '" + given->second.substr(0, 40) +
                               "'; it can be " + shown);
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

void Pack::parse(const unsigned char* data, size_t size) {
    size_t place = sizeof MAGIC - 1;
    if (size <= place || std::memcmp(data, MAGIC, place) != 0) throw Refused("is no phrase pack");
    uint64_t form = digits(data, size, place, 4);
    if (form != 1) throw Refused("is a phrase pack of form " + std::to_string(form) + "; this release reads 1");
    if (place >= size || data[place++] != ' ') throw Refused("is no phrase pack");
    uint64_t length = digits(data, size, place, 9);
    if (place >= size || data[place++] != '\n') throw Refused("is no phrase pack");
    if (length > LARGEST_JSON || length > size - place) throw Refused("is a phrase pack that was cut short");
    Json told = parse_json(data + place, length);
    voice = text(told, "voice");
    language = text(told, "language");
    symbols = text(told, "symbols");
    uint64_t hertz = whole(told, "rate");
    if (hertz < 1000 || hertz > 768000) wrong_pack("'rate' is wrong");
    rate = static_cast<int32_t>(hertz);
    data_ = data + place + length;
    for (const auto& [name, table] : member(told, "phrases", Json::value_t::object).items())
        phrases[name] = phrase_of(table, size - place - length);
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
