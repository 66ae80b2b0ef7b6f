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
    bool force = false, verify = false, info = false, codes = false, list = false;
    int bench = 0;
    gsv_open_options open;
    gsv_say_options say;
};

enum Long {
    PHONES = 256,
    UNPACK,
    PACK,
    PHRASE,
    SLOT,
    RAW,
    STREAM,
    WINDOW,
    AHEAD,
    SEED,
    SPEED,
    NOISE,
    GREEDY,
    TOP_K,
    TOP_P,
    TEMPERATURE,
    PENALTY,
    MOST,
    NO_PROMPT,
    THREADS,
    ANY,
    SIZES,
    BENCH,
    VERIFY,
    INFO,
    CODES,
    VERSION,
    HELP,
    FORCE
};

const option OPTIONS[] = {{"phones", 1, nullptr, PHONES},
                          {"unpack", 1, nullptr, UNPACK},
                          {"pack", 1, nullptr, PACK},
                          {"phrase", 1, nullptr, PHRASE},
                          {"slot", 1, nullptr, SLOT},
                          {"output", 1, nullptr, 'o'},
                          {"raw", 1, nullptr, RAW},
                          {"stream", 0, nullptr, STREAM},
                          {"window", 1, nullptr, WINDOW},
                          {"ahead", 1, nullptr, AHEAD},
                          {"seed", 1, nullptr, SEED},
                          {"speed", 1, nullptr, SPEED},
                          {"noise-scale", 1, nullptr, NOISE},
                          {"greedy", 0, nullptr, GREEDY},
                          {"top-k", 1, nullptr, TOP_K},
                          {"top-p", 1, nullptr, TOP_P},
                          {"temperature", 1, nullptr, TEMPERATURE},
                          {"repetition-penalty", 1, nullptr, PENALTY},
                          {"max-tokens", 1, nullptr, MOST},
                          {"no-prompt", 0, nullptr, NO_PROMPT},
                          {"threads", 1, nullptr, THREADS},
                          {"any-machine", 0, nullptr, ANY},
                          {"sizes-only", 0, nullptr, SIZES},
                          {"bench", 1, nullptr, BENCH},
                          {"verify", 0, nullptr, VERIFY},
                          {"info", 0, nullptr, INFO},
                          {"codes", 0, nullptr, CODES},
                          {"version", 0, nullptr, VERSION},
                          {"help", 0, nullptr, HELP},
                          {"force", 0, nullptr, FORCE},
                          {nullptr, 0, nullptr, 0}};

inline double within(const char* name, const char* text, double low, double high) {
    double value = number(name, text);
    if (!(low <= value && value <= high)) wrong(std::string(name) + " is '" + text + "'; it is out of range");
    return value;
}

// False where there is nothing more to do.
inline bool read_options(int count, char** words, Options& all) {
    gsv_open_options_init(&all.open);
    gsv_say_options_init(&all.say);
    bool pieces = false, window = false;
    for (int one; (one = getopt_long(count, words, "o:", OPTIONS, nullptr)) != -1;) {
        all.as_it_is = all.as_it_is && (one < STREAM || one > NO_PROMPT);
        switch (one) {
            case PHONES: all.phones = optarg; break;
            case UNPACK: all.unpack = optarg; break;
            case PACK: all.pack = optarg; break;
            case PHRASE: all.phrase = optarg; break;
            case SLOT: {
                const char* equals = std::strchr(optarg, '=');
                if (!equals) wrong(std::string("--slot is '") + optarg + "'; it must be SLOT=VALUE");
                all.slots[std::string(optarg, static_cast<size_t>(equals - optarg))] = equals + 1;
                break;
            }
            case 'o': all.out = optarg; break;
            case RAW: all.raw = optarg; break;
            case STREAM: pieces = true; break;
            case WINDOW: all.say.window = within("--window", optarg, 0.02, 60), window = true; break;
            case AHEAD: all.say.ahead = static_cast<int32_t>(whole("--ahead", optarg, 0, 1000)); break;
            case SEED: all.say.seed = seed_of(optarg); break;
            case SPEED: all.say.speed = number("--speed", optarg); break;
            case NOISE: all.say.noise_scale = within("--noise-scale", optarg, 0, 4); break;
            case GREEDY: all.say.greedy = 1; break;
            case TOP_K: all.say.top_k = static_cast<int32_t>(whole("--top-k", optarg, 1, 1 << 30)); break;
            case TOP_P: all.say.top_p = within("--top-p", optarg, 0, 1); break;
            case TEMPERATURE: all.say.temperature = within("--temperature", optarg, 0, 100); break;
            case PENALTY: all.say.repetition_penalty = within("--repetition-penalty", optarg, 0.01, 100); break;
            case MOST: all.say.max_tokens = static_cast<int32_t>(whole("--max-tokens", optarg, 1, 1 << 30)); break;
            case NO_PROMPT: all.say.no_prompt = 1; break;
            case THREADS: all.open.threads = static_cast<int32_t>(whole("--threads", optarg, 0, 4096)); break;
            case ANY: all.open.any_machine = 1; break;
            case SIZES: all.open.sizes_only = 1; break;
            case BENCH: all.bench = static_cast<int>(whole("--bench", optarg, 1, 1000000)); break;
            case VERIFY: all.verify = true; break;
            case INFO: all.info = true; break;
            case CODES: all.codes = true; break;
            case FORCE: all.force = true; break;
            case VERSION: std::printf("gsvsay %s, ABI %u\n", GSV_VERSION, gsv_abi_version()); return false;
            case HELP: std::fputs(USAGE, stdout); return false;
            default: throw Failure{GSV_INPUT, "gsvsay --help tells the options"};
        }
    }
    if (pieces && !window) all.say.window = 0.4;
    if (window && !pieces) wrong("--window is for speech in pieces\n  fix:   add --stream");
    if (optind + 1 != count) wrong("name one artifact\n  fix:   gsvsay --help");
    all.artifact = words[optind];
    if (!all.unpack.empty()) return true;
    if (!all.pack.empty() && !all.phones.empty()) wrong("both --phones and --pack were given\n  fix:   give one of them");
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
