// gsvsay: speaks an unpacked artifact. Exit codes are those of gsvexport's command line.
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "options.hpp"

namespace {

gsv_voice* volatile speaking = nullptr;  // for the signal handler alone
volatile std::sig_atomic_t interrupted = 0;

void interrupt(int) {
    interrupted = 1;
    gsv_cancel(speaking);
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

// The pack that --pack names, closed when it goes out of scope.
class Pack {
public:
    explicit Pack(const Options& all) {
        char error[GSV_ERROR_SIZE];
        if (all.pack.empty()) return;
        if (gsv_status status = gsv_pack_open(all.pack.c_str(), &pack_, error, sizeof error))
            throw Failure{status, error};
    }
    ~Pack() { gsv_pack_close(pack_); }
    Pack(const Pack&) = delete;
    Pack& operator=(const Pack&) = delete;
    const gsv_pack* get() const { return pack_; }

private:
    gsv_pack* pack_ = nullptr;
};

// A line that counts, where somebody sits in front of it.
int unpacked(void*, uint64_t done, uint64_t total) {
    static int shown = -1;
    int share = total ? static_cast<int>(100.0 * static_cast<double>(done) / static_cast<double>(total)) : 100;
    if (share != shown && ::isatty(STDERR_FILENO))
        std::fprintf(stderr, "\runpacking %3d %%%s", share, share == 100 ? "\r\033[K" : "");
    shown = share;
    return interrupted;
}

void work(const Options& all) {
    char error[GSV_ERROR_SIZE];
    if (!all.unpack.empty()) {
        if (gsv_status status =
                gsv_unpack(all.artifact.c_str(), all.unpack.c_str(), unpacked, nullptr, error, sizeof error))
            throw Failure{status, interrupted ? "interrupted" : error};
        return;
    }
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
    Pack pack(all);
    if (all.list) {
        for (size_t i = 0; const char* name = gsv_pack_phrase(pack.get(), i); ++i) std::puts(name);
        return;
    }
    std::vector<gsv_slot> slots;
    for (const auto& [name, value] : all.slots) slots.push_back({name.c_str(), value.c_str()});
    size_t count = 0;
    std::vector<int64_t> phones(pack.get() ? 4096 : all.phones.size());
    gsv_status read =
        pack.get() ? gsv_pack_phones(pack.get(), voice, all.phrase.c_str(), slots.data(), slots.size(), phones.data(),
                                     phones.size(), &count, error, sizeof error)
                   : gsv_phones(voice, all.phones.c_str(), phones.data(), phones.size(), &count, error, sizeof error);
    if (read) throw Failure{read, error};
    phones.resize(std::min(count, phones.size()));
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
        pack.get() ? gsv_pack_say(pack.get(), voice, all.phrase.c_str(), slots.data(), slots.size(),
                                  all.as_it_is ? nullptr : &all.say, take, &heard, &said, error, sizeof error)
                   : gsv_say(voice, phones.data(), phones.size(), &all.say, take, &heard, &said, error, sizeof error);
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
    struct sigaction before = {};
    if (sigaction(SIGHUP, nullptr, &before) == 0 && before.sa_handler != SIG_IGN)  // as nohup has it
        sigaction(SIGHUP, &action, nullptr);
    std::signal(SIGPIPE, SIG_IGN);  // a listener that has gone is an error in words
    std::signal(SIGXFSZ, SIG_IGN);  // and so is a file that may not grow
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
