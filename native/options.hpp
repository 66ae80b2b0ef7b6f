// What gsvsay is told on its command line.
#pragma once

#include <getopt.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "gsv.h"

const char USAGE[] =
    "usage: gsvsay ARTIFACT --phones \"HH AH0 L OW1 .\" -o out.wav\n"
    "       gsvsay ARTIFACT --phones \"...\" --raw - | aplay -f S16_LE -r 32000\n"
    "       gsvsay ARTIFACT --pack car.gsvp --phrase turn-left --slot metres=250 -o left.wav\n"
    "       gsvsay ARTIFACT --verify | --info | --phones \"...\" --bench N\n"
    "       gsvsay FILE.gsv --unpack FOLDER\n"
    "\n"
    "ARTIFACT is the folder of an unpacked artifact.\n"
    "  --phones TEXT          what to say, by name or number\n"
    "  --pack FILE --phrase NAME --slot SLOT=VALUE   say a phrase of a pack; without --phrase: list them\n"
    "  -o FILE                write a WAV file; --force replaces it\n"
    "  --raw FILE             write 16-bit little-endian samples as they come; - is standard output\n"
    "  --stream               begin before the sentence is written; --window S, --ahead CODES (0: all)\n"
    "  --seed N --speed X --noise-scale X --greedy --top-k N --top-p X --temperature X --repetition-penalty X\n"
    "  --max-tokens N --no-prompt --threads N --any-machine --sizes-only\n"
    "  --bench N              say it N times and print figures\n"
    "  --verify               run the golden vectors\n"
    "  --info                 what the artifact says of itself\n"
    "  --codes                print the codes instead of speaking\n"
    "  --version --help\n";

struct Failure {
    int code;
    std::string text;
};

[[noreturn]] inline void wrong(const std::string& text) { throw Failure{GSV_INPUT, text}; }

inline double number(const char* name, const char* text) {
    char* end = nullptr;
    double value = std::strtod(text, &end);
    if (!*text || *end) wrong(std::string(name) + " is '" + text + "'; it must be a number");
    return value;
}

inline long long whole(const char* name, const char* text, long long low, long long high) {
    char* end = nullptr;
    errno = 0;
    long long value = std::strtoll(text, &end, 10);
    if (!*text || *end || errno || value < low || value > high)
        wrong(std::string(name) + " is '" + text + "'; it must be a whole number from " + std::to_string(low) + " to " +
              std::to_string(high));
    return value;
}

inline uint64_t seed_of(const char* text) {
    char* end = nullptr;
    errno = 0;
    uint64_t value = std::strtoull(text, &end, 10);
    if (!*text || *end || errno || *text == '-' || *text == '+' || *text == ' ')
        wrong(std::string("--seed is '") + text + "'; it must be a whole number from 0 to 18446744073709551615");
    return value;
}

struct Options {
    std::string artifact, unpack, phones, pack, phrase, out, raw;
    std::map<std::string, std::string> slots;
    bool as_it_is = true;  // nothing was said about how to speak
    bool pieces = false, window = false;
    bool force = false, verify = false, info = false, codes = false, list = false, version = false, help = false;
    int bench = 0;
    gsv_open_options open;
    gsv_say_options say;
};

inline double within(const char* name, const char* text, double low, double high) {
    double value = number(name, text);
    if (!(low <= value && value <= high)) wrong(std::string(name) + " is '" + text + "'; it is out of range");
    return value;
}

inline int32_t whole32(const char* name, const char* text, int32_t low, int32_t high) {
    return static_cast<int32_t>(whole(name, text, low, high));
}

// A word of the command line; what it does with its value, which is a null pointer where it has none.
struct Word {
    const char* name;
    bool value, speaks;  // whether it has one; whether it says how to speak
    void (*take)(Options&, const char*);
};

const Word WORDS[] = {
    {"phones", true, false, [](Options& all, const char* text) { all.phones = text; }},
    {"unpack", true, false, [](Options& all, const char* text) { all.unpack = text; }},
    {"pack", true, false, [](Options& all, const char* text) { all.pack = text; }},
    {"phrase", true, false, [](Options& all, const char* text) { all.phrase = text; }},
    {"slot", true, false,
     [](Options& all, const char* text) {
         const char* equals = std::strchr(text, '=');
         if (!equals) wrong(std::string("--slot is '") + text + "'; it must be SLOT=VALUE");
         all.slots[std::string(text, equals)] = equals + 1;
     }},
    {"output", true, false, [](Options& all, const char* text) { all.out = text; }},
    {"raw", true, false, [](Options& all, const char* text) { all.raw = text; }},
    {"stream", false, true, [](Options& all, const char*) { all.pieces = true; }},
    {"window", true, true,
     [](Options& all, const char* text) { all.say.window = within("--window", text, 0.02, 60), all.window = true; }},
    {"ahead", true, true, [](Options& all, const char* text) { all.say.ahead = whole32("--ahead", text, 0, 1000); }},
    {"seed", true, true, [](Options& all, const char* text) { all.say.seed = seed_of(text); }},
    {"speed", true, true, [](Options& all, const char* text) { all.say.speed = number("--speed", text); }},
    {"noise-scale", true, true,
     [](Options& all, const char* text) { all.say.noise_scale = within("--noise-scale", text, 0, 4); }},
    {"greedy", false, true, [](Options& all, const char*) { all.say.greedy = 1; }},
    {"top-k", true, true, [](Options& all, const char* text) { all.say.top_k = whole32("--top-k", text, 1, 1 << 30); }},
    {"top-p", true, true, [](Options& all, const char* text) { all.say.top_p = within("--top-p", text, 0, 1); }},
    {"temperature", true, true,
     [](Options& all, const char* text) { all.say.temperature = within("--temperature", text, 0, 100); }},
    {"repetition-penalty", true, true,
     [](Options& all, const char* text) {
         all.say.repetition_penalty = within("--repetition-penalty", text, 0.01, 100);
     }},
    {"max-tokens", true, true,
     [](Options& all, const char* text) { all.say.max_tokens = whole32("--max-tokens", text, 1, 1 << 30); }},
    {"no-prompt", false, true, [](Options& all, const char*) { all.say.no_prompt = 1; }},
    {"threads", true, false,
     [](Options& all, const char* text) { all.open.threads = whole32("--threads", text, 0, 4096); }},
    {"any-machine", false, false, [](Options& all, const char*) { all.open.any_machine = 1; }},
    {"sizes-only", false, false, [](Options& all, const char*) { all.open.sizes_only = 1; }},
    {"bench", true, false, [](Options& all, const char* text) { all.bench = whole32("--bench", text, 1, 1000000); }},
    {"verify", false, false, [](Options& all, const char*) { all.verify = true; }},
    {"info", false, false, [](Options& all, const char*) { all.info = true; }},
    {"codes", false, false, [](Options& all, const char*) { all.codes = true; }},
    {"version", false, false, [](Options& all, const char*) { all.version = true; }},
    {"help", false, false, [](Options& all, const char*) { all.help = true; }},
    {"force", false, false, [](Options& all, const char*) { all.force = true; }},
};

// False where there is nothing more to do.
inline bool read_options(int count, char** words, Options& all) {
    gsv_open_options_init(&all.open);
    gsv_say_options_init(&all.say);
    std::vector<option> known;
    for (const Word& word : WORDS) known.push_back({word.name, word.value, nullptr, 0});
    known.push_back({nullptr, 0, nullptr, 0});
    for (int found, place = 0; (found = getopt_long(count, words, "o:", known.data(), &place)) != -1;) {
        if (found == 'o') all.out = optarg;
        else if (found != 0) wrong("gsvsay --help tells the options");
        else {
            WORDS[place].take(all, optarg);
            all.as_it_is = all.as_it_is && !WORDS[place].speaks;
        }
    }
    if (all.version) std::printf("gsvsay %s, ABI %u\n", GSV_VERSION, gsv_abi_version());
    if (all.help) std::fputs(USAGE, stdout);
    if (all.version || all.help) return false;
    if (all.pieces && !all.window) all.say.window = 0.4;
    if (all.window && !all.pieces) wrong("--window is for speech in pieces\n  fix:   add --stream");
    if (optind + 1 != count) wrong("name one artifact\n  fix:   gsvsay --help");
    all.artifact = words[optind];
    if (!all.unpack.empty()) return true;
    if (!all.pack.empty() && !all.phones.empty())
        wrong("both --phones and --pack were given\n  fix:   give one of them");
    if (all.pack.empty() && (!all.phrase.empty() || !all.slots.empty()))
        wrong("--phrase and --slot are of a pack\n  fix:   add --pack FILE");
    if (!all.pack.empty() && all.phrase.empty()) {
        all.list = true;
        return true;
    }
    int aims = !all.out.empty() + !all.raw.empty() + all.verify + all.info + all.codes + (all.bench > 0);
    if (aims != 1) wrong("say what to do: one of -o, --raw, --bench, --codes, --verify and --info");
    if (all.phones.empty() && all.pack.empty() && !all.verify && !all.info)
        wrong("nothing to say\n  fix:   give --phones \"HH AH0 L OW1 .\"");
    if (!all.out.empty() && !all.force && ::access(all.out.c_str(), F_OK) == 0)
        wrong(all.out + " exists\n  fix:   choose another name, or add --force");
    return true;
}
