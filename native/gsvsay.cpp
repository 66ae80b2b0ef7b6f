// gsvsay: speaks an unpacked artifact. Exit codes are those of gsvexport's command line.
#include <fcntl.h>
#include <getopt.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "gsv.h"

namespace {

const char USAGE[] =
    "usage: gsvsay ARTIFACT --phones \"HH AH0 L OW1 .\" -o out.wav\n"
    "       gsvsay ARTIFACT --phones \"...\" --raw - | aplay -f S16_LE -r 32000\n"
    "       gsvsay ARTIFACT --verify | --info | --phones \"...\" --bench N\n"
    "\n"
    "ARTIFACT is the folder of an unpacked artifact.\n"
    "  --phones TEXT          what to say, by name or number\n"
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

[[noreturn]] void wrong(const std::string& text) { throw Failure{GSV_INPUT, text}; }

gsv_voice* volatile speaking = nullptr;  // for the signal handler alone
volatile std::sig_atomic_t interrupted = 0;

void interrupt(int) {
    interrupted = 1;
    gsv_cancel(speaking);
}

double number(const char* name, const char* text) {
    char* end = nullptr;
    double value = std::strtod(text, &end);
    if (!*text || *end) wrong(std::string(name) + " is '" + text + "'; it must be a number");
    return value;
}

long long whole(const char* name, const char* text, long long low, long long high) {
    char* end = nullptr;
    errno = 0;
    long long value = std::strtoll(text, &end, 10);
    if (!*text || *end || errno || value < low || value > high)
        wrong(std::string(name) + " is '" + text + "'; it must be a whole number from " + std::to_string(low) + " to " +
              std::to_string(high));
    return value;
}

uint64_t seed_of(const char* text) {
    char* end = nullptr;
    errno = 0;
    uint64_t value = std::strtoull(text, &end, 10);
    if (!*text || *end || errno || *text == '-' || *text == '+' || *text == ' ')
        wrong(std::string("--seed is '") + text + "'; it must be a whole number from 0 to 18446744073709551615");
    return value;
}

void write_all(int handle, const void* data, size_t size, const std::string& where) {
    auto from = static_cast<const char*>(data);
    while (size) {
        ssize_t some = ::write(handle, from, size);
        if (some < 0 && errno == EINTR && !interrupted) continue;
        if (interrupted) throw Failure{GSV_CANCELLED, "interrupted"};
        if (some < 0) throw Failure{GSV_ENVIRONMENT, where + " cannot be written: " + std::strerror(errno)};
        from += some;
        size -= static_cast<size_t>(some);
    }
}

std::vector<int16_t> pcm(const float* samples, size_t count, size_t& clipped) {
    std::vector<int16_t> found(count);
    clipped += gsv_pcm16(samples, count, found.data());
    return found;
}

// The whole file or none: it is written under another name first.
void write_wav(const std::string& path, const std::vector<float>& samples, int32_t rate, bool force, size_t& clipped) {
    std::vector<int16_t> data = pcm(samples.data(), samples.size(), clipped);
    uint32_t size = static_cast<uint32_t>(2 * data.size()), riff = 36 + size, sixteen = 16,
             hertz = static_cast<uint32_t>(rate), second = 2 * hertz;
    uint16_t one = 1, two = 2, bits = 16;
    std::string head;
    auto add = [&](const void* from, size_t count) { head.append(static_cast<const char*>(from), count); };
    add("RIFF", 4), add(&riff, 4), add("WAVEfmt ", 8), add(&sixteen, 4), add(&one, 2), add(&one, 2), add(&hertz, 4);
    add(&second, 4), add(&two, 2), add(&bits, 2), add("data", 4), add(&size, 4);
    std::string work = path + "." + std::to_string(::getpid()) + ".part";
    int handle = ::open(work.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (handle < 0) throw Failure{GSV_ENVIRONMENT, path + " cannot be written: " + std::strerror(errno)};
    try {
        write_all(handle, head.data(), head.size(), path);
        write_all(handle, data.data(), 2 * data.size(), path);
        if (::close(handle) != 0) throw Failure{GSV_ENVIRONMENT, path + " cannot be written: " + std::strerror(errno)};
        handle = -1;
        // A link appears only where nothing is; a rename replaces.
        if ((force ? ::rename(work.c_str(), path.c_str()) : ::link(work.c_str(), path.c_str())) != 0) {
            bool there = errno == EEXIST;
            throw Failure{there ? GSV_INPUT : GSV_ENVIRONMENT,
                          there ? path + " exists\n  fix:   choose another name, or add --force"
                                : path + " cannot be written: " + std::strerror(errno)};
        }
        if (!force) ::unlink(work.c_str());
    } catch (...) {
        if (handle >= 0) ::close(handle);
        ::unlink(work.c_str());
        throw;
    }
}

struct Options {
    std::string artifact, phones, out, raw;
    bool force = false, verify = false, info = false, codes = false;
    int bench = 0;
    gsv_open_options open;
    gsv_say_options say;
};

enum Long {
    PHONES = 256,
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

double within(const char* name, const char* text, double low, double high) {
    double value = number(name, text);
    if (!(low <= value && value <= high)) wrong(std::string(name) + " is '" + text + "'; it is out of range");
    return value;
}

// False where there is nothing more to do.
bool read_options(int count, char** words, Options& all) {
    gsv_open_options_init(&all.open);
    gsv_say_options_init(&all.say);
    bool pieces = false, window = false;
    for (int one; (one = getopt_long(count, words, "o:", OPTIONS, nullptr)) != -1;) {
        switch (one) {
            case PHONES: all.phones = optarg; break;
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
    int aims = !all.out.empty() + !all.raw.empty() + all.verify + all.info + all.codes + (all.bench > 0);
    if (aims != 1) wrong("say what to do: one of -o, --raw, --bench, --codes, --verify and --info");
    if (all.phones.empty() && !all.verify && !all.info)
        wrong("nothing to say\n  fix:   give --phones \"HH AH0 L OW1 .\"");
    if (!all.out.empty() && !all.force && ::access(all.out.c_str(), F_OK) == 0)
        wrong(all.out + " exists\n  fix:   choose another name, or add --force");
    return true;
}

struct Heard {
    std::vector<float> samples;
    int raw = -1;
    std::string name;
    size_t clipped = 0;
    Failure failure = {0, ""};
};

int take(void* user, const float* samples, size_t count) {
    auto heard = static_cast<Heard*>(user);
    try {
        if (heard->raw < 0) {
            heard->samples.insert(heard->samples.end(), samples, samples + count);
        } else {
            std::vector<int16_t> data = pcm(samples, count, heard->clipped);
            write_all(heard->raw, data.data(), 2 * data.size(), heard->name);
        }
    } catch (const Failure& one) {
        heard->failure = one;
        return 1;
    } catch (const std::bad_alloc&) {
        heard->failure = {GSV_ENVIRONMENT, "there is not enough memory"};
        return 1;
    }
    return interrupted;
}

int drop(void*, const float*, size_t) { return interrupted; }
void print(void*, const char* line) { std::puts(line); }

double peak_megabytes() {
    rusage used = {};
    getrusage(RUSAGE_SELF, &used);
    return static_cast<double>(used.ru_maxrss) / 1e3;
}

void bench(gsv_voice* voice, const std::vector<int64_t>& phones, const Options& all, const gsv_info& info,
           double opening) {
    std::vector<double> factors, firsts;
    double sound = 0;
    char error[GSV_ERROR_SIZE];
    for (int run = 0; run < all.bench; ++run) {
        gsv_said said = {};
        said.size = sizeof said;
        gsv_status status =
            gsv_say(voice, phones.data(), phones.size(), &all.say, drop, nullptr, &said, error, sizeof error);
        if (status) throw Failure{status, error};
        sound = static_cast<double>(said.samples) / info.rate;
        factors.push_back(said.seconds / sound);
        firsts.push_back(said.first_sound);
        if (run == 0)
            std::printf("open_s %.3f  first_sound_s %.3f  (from the start %.3f)\n", opening, said.first_sound,
                        opening + said.first_sound);
    }
    auto middle = [](std::vector<double> from) {
        std::sort(from.begin(), from.end());
        return from[from.size() / 2];
    };
    std::printf("sound_s %.2f  rtf %.4f  first_sound_s %.3f  n %d  peak_mb %.1f\n", sound, middle(factors),
                middle(firsts), all.bench, peak_megabytes());
}

void work(const Options& all) {
    char error[GSV_ERROR_SIZE];
    auto began = std::chrono::steady_clock::now();
    gsv_voice* voice = nullptr;
    if (gsv_status status = gsv_open(all.artifact.c_str(), &all.open, &voice, error, sizeof error))
        throw Failure{status, error};
    struct Closing {
        gsv_voice* voice;
        ~Closing() {
            speaking = nullptr;
            gsv_close(voice);
        }
    } closing = {voice};
    double opening = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
    speaking = voice;
    if (interrupted) throw Failure{GSV_CANCELLED, "interrupted"};
    gsv_info info = {};
    info.size = sizeof info;
    gsv_describe(voice, &info, nullptr, 0);
    if (all.info) {
        std::printf(
            "name %s\nlanguage %s\nversion %s\nsymbols %s\ntarget %s\nrate %d\nhop %d\nphones %d\nprompted %d\nstreams "
            "%d\n",
            info.name, info.language, info.version, info.symbols, info.target, info.rate, info.hop, info.phones,
            info.prompted, info.streams);
        return;
    }
    if (all.verify) {
        if (gsv_status status = gsv_verify(voice, print, nullptr, error, sizeof error)) throw Failure{status, error};
        return;
    }
    size_t count = 0;
    std::vector<int64_t> phones(all.phones.size());
    if (gsv_status status =
            gsv_phones(voice, all.phones.c_str(), phones.data(), phones.size(), &count, error, sizeof error))
        throw Failure{status, error};
    phones.resize(count);
    if (all.bench) return bench(voice, phones, all, info, opening);
    if (all.codes) {
        std::vector<int64_t> codes(65536);
        gsv_status status = gsv_tokens(voice, phones.data(), phones.size(), &all.say, codes.data(), codes.size(),
                                       &count, error, sizeof error);
        if (status) throw Failure{status, error};
        for (size_t i = 0; i < std::min(count, codes.size()); ++i)
            std::printf("%s%lld", i ? " " : "", static_cast<long long>(codes[i]));
        std::puts("");
        return;
    }
    Heard heard;
    heard.name = all.raw == "-" ? "standard output" : all.raw;
    if (all.raw == "-") heard.raw = STDOUT_FILENO;
    else if (!all.raw.empty()) {
        heard.raw = ::open(all.raw.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | (all.force ? O_TRUNC : O_EXCL), 0666);
        if (heard.raw < 0)
            throw Failure{errno == EEXIST ? GSV_INPUT : GSV_ENVIRONMENT,
                          all.raw + " cannot be written: " + std::strerror(errno)};
    }
    gsv_said said = {};
    said.size = sizeof said;
    gsv_status status =
        gsv_say(voice, phones.data(), phones.size(), &all.say, take, &heard, &said, error, sizeof error);
    if (heard.raw > STDERR_FILENO && ::close(heard.raw) != 0 && !status)
        throw Failure{GSV_ENVIRONMENT, all.raw + " cannot be written: " + std::strerror(errno)};
    if (heard.failure.code) throw heard.failure;
    if (status) throw Failure{interrupted ? GSV_CANCELLED : status, interrupted ? "interrupted" : error};
    if (!all.out.empty()) write_wav(all.out, heard.samples, info.rate, all.force, heard.clipped);
    std::string clipped = heard.clipped ? ", " + std::to_string(heard.clipped) + " samples clipped" : "";
    std::fprintf(stderr, "%s  %.2f s at %d Hz, first sound after %.2f s%s\n",
                 all.out.empty() ? heard.name.c_str() : all.out.c_str(), static_cast<double>(said.samples) / info.rate,
                 info.rate, said.first_sound, clipped.c_str());
    if (!said.ended)
        std::fprintf(stderr, "warning: it did not end by itself: the limit of %zu codes cut it off\n", said.codes);
}

}  // namespace

int main(int count, char** words) {
    struct sigaction action = {};
    action.sa_handler = interrupt;
    sigaction(SIGINT, &action, nullptr);
    sigaction(SIGTERM, &action, nullptr);
    std::signal(SIGPIPE, SIG_IGN);  // a listener that has gone is an error in words
    try {
        Options all;
        if (read_options(count, words, all)) work(all);
        if (std::fflush(stdout) != 0)
            throw Failure{GSV_ENVIRONMENT, std::string("standard output cannot be written: ") + std::strerror(errno)};
        return 0;
    } catch (const Failure& one) {
        std::fprintf(stderr, "error: %s\n", one.text.c_str());
        return one.code;
    } catch (const std::bad_alloc&) {
        std::fputs("error: there is not enough memory\n", stderr);
        return GSV_ENVIRONMENT;
    } catch (const std::exception& one) {
        std::fprintf(stderr, "error: a defect in gsvsay: %s\n", one.what());
        return GSV_DEFECT;
    }
}
