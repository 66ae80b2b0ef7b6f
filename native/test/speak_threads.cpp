// speak_threads FOLDER PACK PHRASE: two voices in three threads, by phones and by a pack, and a fourth that cancels.
// For ThreadSanitizer: TSAN_OPTIONS="suppressions=native/test/tsan.txt report_mutex_bugs=0". Every call speaks, is
// cancelled, or is refused because the voice is busy.
#include <gsv.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <thread>

namespace {

std::atomic<int> spoke{0}, cancelled{0}, refused{0}, failed{0};

void count(gsv_status status, const char* error) {
    if (status == GSV_OK) ++spoke;
    else if (status == GSV_CANCELLED) ++cancelled;
    else if (status == GSV_INPUT) ++refused;
    else {
        ++failed;
        std::fprintf(stderr, "%s\n", error);
    }
}

int drop(void*, const float*, size_t) { return 0; }

}  // namespace

int main(int words, char** word) {
    if (words != 4) return std::fputs("speak_threads FOLDER PACK PHRASE\n", stderr), 2;
    char error[GSV_ERROR_SIZE];
    gsv_voice* voices[2] = {};
    gsv_pack* pack = nullptr;
    gsv_open_options how;
    gsv_open_options_init(&how);
    how.threads = 1;
    for (gsv_voice*& one : voices)
        if (gsv_open(word[1], &how, &one, error, sizeof error)) return std::fprintf(stderr, "%s\n", error), 1;
    if (gsv_pack_open(word[2], &pack, error, sizeof error)) return std::fprintf(stderr, "%s\n", error), 1;
    auto speak = [&](gsv_voice* voice) {
        char told[GSV_ERROR_SIZE];
        gsv_say_options options;
        gsv_say_options_init(&options);
        options.window = 0.4;
        options.max_tokens = 40;
        for (int turn = 0; turn < 4; ++turn) {
            const int64_t phones[] = {30 + turn, 40, 50, 3};
            count(gsv_pack_say(pack, voice, word[3], nullptr, 0, nullptr, drop, nullptr, nullptr, told, sizeof told),
                  told);
            count(gsv_say(voice, phones, 4, &options, drop, nullptr, nullptr, told, sizeof told), told);
        }
    };
    std::thread first(speak, voices[0]), second(speak, voices[1]), third(speak, voices[0]), fourth([&] {
        for (int turn = 0; turn < 8; ++turn) {
            gsv_cancel(voices[turn % 2]);
            std::this_thread::sleep_for(std::chrono::milliseconds(100));
        }
    });
    first.join(), second.join(), third.join(), fourth.join();
    std::printf("%d spoke, %d were cancelled, %d refused, %d failed\n", spoke.load(), cancelled.load(), refused.load(),
                failed.load());
    gsv_pack_close(pack);
    for (gsv_voice* one : voices) gsv_close(one);
    return failed.load() != 0;
}
