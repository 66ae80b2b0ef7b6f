#include "unpack.hpp"

#include <fcntl.h>
#include <ftw.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>

#include "read.hpp"

#ifdef GSV_BROTLI
#include <brotli/decode.h>
#endif

namespace gsv {

namespace {

constexpr size_t LOCAL = 30;  // bytes of a local header before the name
constexpr uint64_t MOST_TIMES = 100, MOST_MEMBERS = 4096;
constexpr uint32_t WIDE = 0xFFFFFFFF;
constexpr size_t PIECE = 1 << 18;
const char FIX[] = "get the artifact again, or build it again";

[[noreturn]] void damaged(const std::string& what) { throw Refused("is damaged: " + what); }

template <typename Number>
Number little(const unsigned char* from) {
    Number value = 0;
    for (size_t i = sizeof(Number); i-- > 0;) value = static_cast<Number>(value << 8 | from[i]);
    return value;
}

struct Lying {
    std::string name;
    size_t start, size;  // of its stored bytes
};

// The member whose local header is at `place`, which is moved behind its bytes; false where the directory begins.
bool next_member(const unsigned char* data, size_t size, size_t& place, Lying& found) {
    if (size - place >= 4 && std::memcmp(data + place, "PK\1\2", 4) == 0) return false;
    const unsigned char* head = data + place;
    if (size - place < LOCAL || std::memcmp(head, "PK\3\4", 4) != 0) damaged("a member's header is missing");
    if (little<uint16_t>(head + 6) != 0 || little<uint16_t>(head + 8) != 0) damaged("a member is no stored one");
    uint64_t length = little<uint32_t>(head + 22);
    size_t name = little<uint16_t>(head + 26), extra = little<uint16_t>(head + 28);
    if (size - place < LOCAL + name + extra) damaged("it was cut short");
    found.name.assign(reinterpret_cast<const char*>(head + LOCAL), name);
    if (length == WIDE) {
        if (extra != 20 || little<uint16_t>(head + LOCAL + name) != 1) damaged("a member's header is wrong");
        length = little<uint64_t>(head + LOCAL + name + 4);
    } else if (extra) damaged("a member's header is wrong");
    found.start = place + LOCAL + name + extra;
    if (length > size - found.start) damaged("it was cut short");
    found.size = static_cast<size_t>(length);
    place = found.start + found.size;
    return true;
}

// How far all of it is, for who watches.
struct Told {
    const Watch& watch;
    uint64_t total = 0, done = 0;

    void add(size_t size) {
        done += size;
        if (!watch(std::min(done, total), total)) throw Error(GSV_CANCELLED, "cancelled");
    }
};

// A new file, whose bytes are counted and summed as they are written.
class Out {
public:
    Out(const std::string& path, uint64_t most, Told& told) : path_(path), most_(most), told_(told) {
        handle_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (handle_ < 0) failed();
    }
    ~Out() {
        if (handle_ >= 0) ::close(handle_);
    }
    Out(const Out&) = delete;
    Out& operator=(const Out&) = delete;

    void add(const unsigned char* data, size_t size) {
        if (size > most_ - written_) damaged("it holds more than it declares");
        while (size) {
            ssize_t some = ::write(handle_, data, std::min(size, PIECE));
            if (some < 0 && errno == EINTR) continue;
            if (some < 0) failed();
            size_t written = static_cast<size_t>(some);
            sum_.add(data, written);
            written_ += written;
            data += written;
            size -= written;
            told_.add(written);
        }
    }

    std::string close() {
        int handle = handle_;
        handle_ = -1;
        if (written_ != most_) damaged("it is shorter than it declares");
        if (::close(handle) != 0) failed();
        return sum_.hexadecimal();
    }

private:
    [[noreturn]] void failed() {
        throw Error(GSV_ENVIRONMENT, path_ + " cannot be written: " + std::strerror(errno))
            .fix("free some space, or choose another place");
    }

    std::string path_;
    uint64_t most_, written_ = 0;
    Told& told_;
    int handle_ = -1;
    Sha256 sum_;
};

void expand(const unsigned char* data, size_t size, Out& out) {
#ifdef GSV_BROTLI
    std::unique_ptr<BrotliDecoderState, void (*)(BrotliDecoderState*)> decoder(
        BrotliDecoderCreateInstance(nullptr, nullptr, nullptr), BrotliDecoderDestroyInstance);
    if (!decoder) throw std::bad_alloc();
    Bytes piece(PIECE);
    for (;;) {
        size_t room = piece.size();
        unsigned char* into = piece.data();
        BrotliDecoderResult told = BrotliDecoderDecompressStream(decoder.get(), &size, &data, &room, &into, nullptr);
        out.add(piece.data(), piece.size() - room);
        if (told == BROTLI_DECODER_RESULT_SUCCESS && !size) return;
        if (told != BROTLI_DECODER_RESULT_NEEDS_MORE_OUTPUT) damaged("it is no Brotli stream");
    }
#else
    (void)data, (void)size, (void)out;
    throw Error(GSV_ENVIRONMENT, "this library was built without libbrotlidec, and the artifact is compressed")
        .fix("build it with libbrotli-dev, or unpack with gsvexport");
#endif
}

struct Member {
    uint64_t size = 0, stored = 0;
    std::string digest, stored_digest;
    bool brotli = false;
};

Member member_of(const Json& told) {
    auto number = [&](const char* key) {
        const Json& value = at(told, key);
        if (!value.is_number_unsigned() || value > LARGEST_MEMBER) damaged("the manifest has a size that is none");
        return value.get<uint64_t>();
    };
    Member found;
    found.size = found.stored = number("size");
    found.digest = found.stored_digest = text_of(at(told, "sha256"));
    const Json& encoding = at(told, "encoding");
    if (encoding.is_null()) return found;
    if (encoding != "br") damaged("the manifest has an encoding that is unknown");
    found.brotli = true;
    found.stored = number("stored_size");
    found.stored_digest = text_of(at(told, "stored_sha256"));
    return found;
}

std::map<std::string, Member> members_of(const Json& manifest) {
    std::map<std::string, Member> found;
    if (at(manifest, "schema") != 2) throw Refused("has a manifest that this release does not know");
    const Json& members = at(manifest, "members");
    if (!members.is_object() || members.size() > MOST_MEMBERS) damaged("the manifest lists no members");
    for (const auto& [name, told] : members.items()) {
        if (!safe_name(name))
            throw Refused("names a file '" + name.substr(0, 40) + "', which is no name inside a folder");
        found[name] = member_of(told);
    }
    if (at(manifest, "report").is_object()) found["report.json"] = member_of(manifest["report"]);
    return found;
}

void make_folders(const std::string& folder, const std::string& name) {
    for (size_t slash = name.find('/'); slash != std::string::npos; slash = name.find('/', slash + 1)) {
        std::string path = folder + "/" + name.substr(0, slash);
        if (::mkdir(path.c_str(), 0777) != 0 && errno != EEXIST)
            throw Error(GSV_ENVIRONMENT, path + " cannot be made: " + std::strerror(errno));
    }
}

// A folder beside the one that is wanted, which is gone when it goes out of scope.
class Beside {
public:
    explicit Beside(const std::string& folder) : path(folder + "." + std::to_string(::getpid()) + ".part") {
        if (::mkdir(path.c_str(), 0777) != 0)
            throw Error(GSV_ENVIRONMENT, path + " cannot be made: " + std::strerror(errno)).fix("choose another place");
    }
    ~Beside() {
        auto remove = [](const char* one, const struct stat*, int, struct FTW*) { return ::remove(one); };
        if (!kept) ::nftw(path.c_str(), remove, 16, FTW_DEPTH | FTW_PHYS);
    }
    Beside(const Beside&) = delete;
    Beside& operator=(const Beside&) = delete;

    const std::string path;
    bool kept = false;
};

void check_room(const std::map<std::string, Member>& members, uint64_t packed, const std::string& folder) {
    uint64_t needed = 0;
    for (const auto& [_, member] : members) needed += member.size;
    if (needed > MOST_TIMES * packed)
        throw Refused("would unpack to " + std::to_string(needed) + " bytes, more than " + std::to_string(MOST_TIMES) +
                      " times its size");
    struct statvfs told;
    if (::statvfs(folder.c_str(), &told) == 0 && told.f_bavail * uint64_t{told.f_frsize} < needed)
        throw Error(GSV_ENVIRONMENT, "the artifact does not fit on the disk of " + folder)
            .found(std::to_string(told.f_bavail * uint64_t{told.f_frsize}) + " bytes free")
            .limit(std::to_string(needed) + " bytes are needed")
            .fix("free some space, or choose another place");
}

void write_members(const unsigned char* data, size_t size, const std::string& folder, const Watch& watch) {
    size_t place = 0;
    Lying found;
    if (!next_member(data, size, place, found) || found.name != "manifest.json" || found.size > LARGEST_MANIFEST)
        throw Refused("is no artifact: its first member is no manifest");
    std::map<std::string, Member> left = members_of(parse_json(data + found.start, found.size));
    check_room(left, size, folder);
    Told told = {watch, found.size};
    for (const auto& [_, member] : left) told.total += member.size;
    auto as_it_is = [&] {
        Out out(folder + "/" + found.name, found.size, told);
        out.add(data + found.start, found.size);
        out.close();
    };
    as_it_is();
    while (next_member(data, size, place, found)) {
        if (found.name == "signature.json" && left.empty() && found.size <= LARGEST_MODEL) {
            as_it_is();
            continue;
        }
        auto listed = left.find(found.name);
        if (listed == left.end()) damaged("'" + found.name.substr(0, 40) + "' is no member of it");
        const Member& member = listed->second;
        try {
            if (found.size != member.stored || sha256_bytes(data + found.start, found.size) != member.stored_digest)
                damaged("its size or SHA-256 is not what the manifest says");
            make_folders(folder, found.name);
            Out out(folder + "/" + found.name, member.size, told);
            if (member.brotli) expand(data + found.start, found.size, out);
            else out.add(data + found.start, found.size);
            if (out.close() != member.digest) damaged("its SHA-256 is not what the manifest says");
        } catch (const Refused& error) {
            throw Refused("holds " + found.name + ", which " + error.text);
        }
        left.erase(listed);
    }
    if (!left.empty()) damaged(left.begin()->first + " is missing");
}

}  // namespace

void unpack(const std::string& file, const std::string& to, const Watch& watch) {
    std::string folder = to;
    while (folder.size() > 1 && folder.back() == '/') folder.pop_back();
    struct stat there;
    if (::lstat(folder.c_str(), &there) == 0)
        throw Error(GSV_INPUT, folder + " exists").fix("choose another name, or remove it");
    try {
        File artifact(file);
        Beside work(folder);
        write_members(artifact.map(), artifact.size(), work.path, watch);
        // A folder that is there is whole, also after a power cut.
        int handle = ::open(work.path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        bool kept = handle >= 0 && ::syncfs(handle) == 0;
        if (handle >= 0) ::close(handle);
        if (!kept || ::rename(work.path.c_str(), folder.c_str()) != 0)
            throw Error(GSV_ENVIRONMENT, folder + " cannot be written: " + std::strerror(errno));
        work.kept = true;
    } catch (const Refused& error) {
        throw Error(GSV_ARTIFACT, file + " " + error.text).fix(FIX);
    }
}

}  // namespace gsv
