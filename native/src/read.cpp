#include "read.hpp"

#include <fcntl.h>
#include <openssl/evp.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <new>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

namespace gsv {

namespace {

constexpr int MOST_DEPTH = 32;
constexpr size_t MOST_VALUES = 200000;
constexpr size_t LONGEST_NAME = 200;
constexpr size_t LONGEST_HEADER = 4096;
constexpr uint64_t MOST_FIELDS = 5000000;
constexpr int MOST_MESSAGES = 64;
const char DIGITS[] = "0123456789";
const char BEGINS[] = "0123456789_ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

[[noreturn]] void refuse_errno() {
    if (errno == ENOMEM) throw std::bad_alloc();  // no fault of the file
    throw Refused(std::string("cannot be read: ") + std::strerror(errno));
}

}  // namespace

File::File(const std::string& path) {
    // Nothing waits: a pipe without a writer does not hold anybody up.
    handle_ = ::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (handle_ < 0) refuse_errno();
    struct stat told;
    if (::fstat(handle_, &told) != 0 || !S_ISREG(told.st_mode)) {
        ::close(handle_);
        throw Refused("is no regular file");
    }
    size_ = static_cast<uint64_t>(told.st_size);
}

File::~File() {
    if (mapped_) ::munmap(mapped_, size_);
    ::close(handle_);
}

size_t File::read(unsigned char* into, size_t count) const {
    size_t got = 0;
    while (got < count) {
        ssize_t some = ::read(handle_, into + got, count - got);
        if (some < 0 && errno == EINTR) continue;
        if (some < 0) refuse_errno();
        if (some == 0) break;
        got += static_cast<size_t>(some);
    }
    return got;
}

const unsigned char* File::map() {
    if (size_ == 0) throw Refused("is empty");
    if (!mapped_) {
        void* found = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, handle_, 0);
        if (found == MAP_FAILED) refuse_errno();
        mapped_ = found;
    }
    return static_cast<const unsigned char*>(mapped_);
}

// Parts with `/` between them; each begins with a letter, a digit or `_`, so none is "..", hidden, or a drive's.
bool safe_name(const std::string& name) {
    if (name.size() > LONGEST_NAME) return false;
    for (size_t start = 0;; ++start) {
        size_t end = name.find('/', start);
        std::string part = name.substr(start, end - start);
        if (part.find_first_of(BEGINS) != 0 || part.find_first_not_of(std::string(BEGINS) + ".-") != std::string::npos)
            return false;
        if (end == std::string::npos) return true;
        start = end;
    }
}

std::string inside(const std::string& folder, const std::string& name) {
    if (!safe_name(name)) throw Refused("names a file '" + name.substr(0, 40) + "', which is no name inside a folder");
    std::string path = folder;
    std::istringstream parts(name);
    for (std::string part; std::getline(parts, part, '/');) {
        path += "/" + part;
        struct stat told;
        if (::lstat(path.c_str(), &told) == 0 && S_ISLNK(told.st_mode))
            throw Refused("names " + name + ", and " + path + " is a link, which is not followed");
    }
    return path;
}

Bytes read_bytes(const std::string& path, uint64_t limit) {
    File file(path);
    if (file.size() > limit)
        throw Refused("has " + std::to_string(file.size()) + " bytes; at most " + std::to_string(limit) + " are read");
    Bytes data(file.size());
    if (file.read(data.data(), data.size()) != data.size()) throw Refused("grows shorter while it is read");
    return data;
}

Sha256::Sha256() : context_(EVP_MD_CTX_new(), EVP_MD_CTX_free) {
    if (!context_ || EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr) != 1)
        throw Error(GSV_ENVIRONMENT, "libcrypto cannot make SHA-256");
}

void Sha256::add(const unsigned char* data, size_t size) { EVP_DigestUpdate(context_.get(), data, size); }

std::string Sha256::hexadecimal() {
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned size = 0;
    EVP_DigestFinal_ex(context_.get(), digest, &size);
    std::string text;
    for (unsigned i = 0; i < size; ++i) {
        text += "0123456789abcdef"[digest[i] >> 4];
        text += "0123456789abcdef"[digest[i] & 15];
    }
    return text;
}

std::string sha256_file(const std::string& path) {
    File file(path);
    Sha256 sum;
    Bytes piece(1 << 18);
    for (size_t got; (got = file.read(piece.data(), piece.size())) != 0;) sum.add(piece.data(), got);
    return sum.hexadecimal();
}

std::string sha256_bytes(const unsigned char* data, size_t size) {
    Sha256 sum;
    sum.add(data, size);
    return sum.hexadecimal();
}

Json parse_json(const unsigned char* data, size_t size) {
    size_t values = 0;
    std::vector<std::set<std::string>> keys;
    auto bound = [&](int depth, Json::parse_event_t event, Json& parsed) {
        if (depth > MOST_DEPTH) throw Refused("is deeper than " + std::to_string(MOST_DEPTH) + " tables and lists");
        if (++values > MOST_VALUES) throw Refused("has more than " + std::to_string(MOST_VALUES) + " values");
        if (event == Json::parse_event_t::object_start) keys.emplace_back();
        if (event == Json::parse_event_t::object_end) keys.pop_back();
        if (event == Json::parse_event_t::key && !keys.back().insert(parsed.get<std::string>()).second)
            throw Refused("has a key twice in one table");
        return true;
    };
    try {
        return Json::parse(data, data + size, bound);
    } catch (const Json::exception& error) {
        throw Refused(std::string("is no JSON: ") + error.what());
    }
}

const Json& at(const Json& table, const std::string& key) {
    static const Json nothing;
    auto found = table.is_object() ? table.find(key) : table.end();
    return found == table.end() ? nothing : *found;
}

std::string text_of(const Json& value) { return value.is_string() ? value.get<std::string>() : std::string(); }

Json read_json(const std::string& path, uint64_t limit) {
    Bytes data = read_bytes(path, limit);
    return parse_json(data.data(), data.size());
}

// ---- .npy: numpy's NEP 1, versions 1 and 2 ----

namespace {

struct Header {
    char kind[4] = "";
    std::vector<int64_t> shape;
};

// The one description that numpy writes of an array of numbers: {'descr': '<f4', 'fortran_order': False, 'shape': (1,
// 2), }
Header header_of(const std::string& text) {
    Header found;
    int place = 0;
    std::sscanf(text.c_str(), "{'descr': '%3[^']', 'fortran_order': False, 'shape': (%n", found.kind, &place);
    if (!place) throw Refused("is no .npy array of numbers, row by row: its description is another");
    const char* now = text.c_str() + place;
    for (size_t digits; (digits = std::strspn(now, DIGITS)) && digits <= 15 && found.shape.size() < 8;) {
        found.shape.push_back(std::stoll(now));
        now += digits;
        now += std::strspn(now, ", ");
    }
    if (std::strncmp(now, "), }", 4) != 0) throw Refused("is no .npy array: its shape cannot be read");
    return found;
}

float half(uint16_t bits) {
    int exponent = bits >> 10 & 31, fraction = bits & 1023;
    float size = exponent == 0    ? std::ldexp(static_cast<float>(fraction), -24)
                 : exponent == 31 ? (fraction ? NAN : INFINITY)
                                  : std::ldexp(static_cast<float>(fraction + 1024), exponent - 25);
    return bits >> 15 ? -size : size;
}

template <typename Stored, typename To, typename Convert>
void convert(const unsigned char* data, size_t size, uint64_t count, std::vector<To>& into, Convert how) {
    if (count * sizeof(Stored) != size) throw Refused("is damaged: its size is not that of its shape");
    into.resize(count);
    for (size_t i = 0; i < count; ++i) {
        Stored one;
        std::memcpy(&one, data + i * sizeof(Stored), sizeof(Stored));
        into[i] = static_cast<To>(how(one));
    }
}

}  // namespace

Array parse_array(const unsigned char* data, size_t size) {
    if (size < 12 || std::memcmp(data, "\x93NUMPY", 6) != 0 || (data[6] != 1 && data[6] != 2) || data[7] != 0)
        throw Refused("is no .npy array of version 1 or 2");
    size_t start = data[6] == 1 ? 10 : 12;
    size_t length = data[8] | data[9] << 8;
    if (data[6] == 2) length |= static_cast<size_t>(data[10]) << 16 | static_cast<size_t>(data[11]) << 24;
    if (length > std::min(LONGEST_HEADER, size - start)) throw Refused("is no .npy array: its description is too long");
    Header told = header_of(std::string(reinterpret_cast<const char*>(data) + start, length));
    const std::string kind = told.kind;
    Array found;
    found.shape = told.shape;
    found.whole = kind[1] != 'f';
    uint64_t count = 1;
    for (int64_t one : told.shape) {
        if (one && count > LARGEST_ARRAY / static_cast<uint64_t>(one)) throw Refused("has a shape beyond all measure");
        count *= static_cast<uint64_t>(one);
    }
    data += start + length;
    size -= start + length;
    auto same = [](auto one) { return one; };
    if (kind == "<f4") convert<float>(data, size, count, found.floats, same);
    else if (kind == "<f8") convert<double>(data, size, count, found.floats, same);
    else if (kind == "<f2") convert<uint16_t>(data, size, count, found.floats, half);
    else if (kind == "<i8") convert<int64_t>(data, size, count, found.ints, same);
    else if (kind == "<i4") convert<int32_t>(data, size, count, found.ints, same);
    else if (kind == "<i2") convert<int16_t>(data, size, count, found.ints, same);
    else if (kind == "|i1") convert<int8_t>(data, size, count, found.ints, same);
    else if (kind == "|u1" || kind == "|b1") convert<uint8_t>(data, size, count, found.ints, same);
    else throw Refused("is an array of " + kind + "; this reader takes numbers alone");
    return found;
}

Array read_array(const std::string& path) {
    Bytes data = read_bytes(path, LARGEST_ARRAY);
    return parse_array(data.data(), data.size());
}

// ---- ONNX: the graph is walked as protobuf's wire format and not built ----

namespace {

struct Span {
    const unsigned char *at = nullptr, *end = nullptr;
};

enum Message { MODEL, TRAINING, GRAPH, NODE, ATTRIBUTE, FUNCTION, SPARSE, TENSOR, ENTRY, NOTHING };

// Field of a message → the message in it, as in gsvexport/untrusted/external.py. What is not here holds no tensor.
Message inner(Message message, uint64_t field) {
    switch (message) {
        case MODEL: return field == 7 ? GRAPH : field == 20 ? TRAINING : field == 25 ? FUNCTION : NOTHING;
        case TRAINING: return field == 1 || field == 2 ? GRAPH : NOTHING;
        case GRAPH: return field == 1 ? NODE : field == 5 ? TENSOR : field == 15 ? SPARSE : NOTHING;
        case NODE: return field == 5 ? ATTRIBUTE : NOTHING;
        case ATTRIBUTE:
            return field == 5 || field == 10    ? TENSOR
                   : field == 6 || field == 11  ? GRAPH
                   : field == 22 || field == 23 ? SPARSE
                                                : NOTHING;
        case FUNCTION: return field == 7 ? NODE : field == 11 ? ATTRIBUTE : NOTHING;
        case SPARSE: return field == 1 || field == 2 ? TENSOR : NOTHING;
        case TENSOR: return field == 13 ? ENTRY : NOTHING;
        default: return NOTHING;
    }
}

uint64_t number_of(const std::map<std::string, std::string>& told, const char* key) {
    auto found = told.find(key);
    if (found == told.end()) return 0;
    const std::string& text = found->second;
    if (text.empty() || text.size() > 18 || text.find_first_not_of(DIGITS) != std::string::npos)
        throw Refused(std::string("has a tensor whose ") + key + " is no number");
    return std::stoull(text);
}

class Walk {
public:
    std::vector<External> found;

    // A message, and all that lie in it.
    void message(Message kind, Span all, int depth) {
        if (depth > MOST_MESSAGES) throw Refused("is no ONNX graph: it is too deep");
        std::map<std::string, std::string> told;
        for (Field field; next(all, field);) {
            Message held = inner(kind, field.number);
            if (held == ENTRY) {
                std::string parts[2];
                for (Field part; next(field.bytes, part);)
                    if (part.number == 1 || part.number == 2)
                        parts[part.number - 1].assign(part.bytes.at, part.bytes.end);
                told[parts[0]] = parts[1];
            } else if (held != NOTHING) message(held, field.bytes, depth + 1);
        }
        if (!told.empty()) found.push_back({told["location"], number_of(told, "offset"), number_of(told, "length")});
    }

private:
    struct Field {
        uint64_t number = 0;
        Span bytes;
    };

    // The next field that is bytes; the others are passed over. False at the end.
    bool next(Span& all, Field& field) {
        while (all.at < all.end) {
            if (++fields_ > MOST_FIELDS) throw Refused("is no ONNX graph: it has too many fields");
            uint64_t tag = varint(all);
            switch (tag & 7) {
                case 0: varint(all); break;
                case 1: cut(all, 8); break;
                case 5: cut(all, 4); break;
                case 2: field = {tag >> 3, cut(all, varint(all))}; return true;
                default: throw Refused("is no ONNX graph");
            }
        }
        return false;
    }

    static uint64_t varint(Span& all) {
        uint64_t value = 0;
        for (int shift = 0; shift < 64 && all.at < all.end; shift += 7) {
            unsigned char one = *all.at++;
            value |= static_cast<uint64_t>(one & 127) << shift;
            if (one < 128) return value;
        }
        throw Refused("is no ONNX graph, or cut short");
    }

    static Span cut(Span& all, uint64_t length) {
        if (length > static_cast<uint64_t>(all.end - all.at)) throw Refused("is no ONNX graph: it is cut short");
        Span found = {all.at, all.at + length};
        all.at = found.end;
        return found;
    }

    uint64_t fields_ = 0;
};

}  // namespace

std::vector<External> external_data(const unsigned char* data, size_t size) {
    Walk walk;
    walk.message(MODEL, {data, data + size}, 0);
    return std::move(walk.found);
}

void check_external(const std::string& folder, const std::string& file) {
    std::string path = inside(folder, file);
    std::string beside = path.substr(0, path.rfind('/'));
    File graph(path);
    std::map<std::string, uint64_t> sizes;
    for (const External& one : external_data(graph.map(), graph.size())) {
        auto known = sizes.find(one.name);
        if (known == sizes.end()) known = sizes.emplace(one.name, File(inside(beside, one.name)).size()).first;
        if (one.start + one.length > known->second)
            throw Refused("wants bytes " + std::to_string(one.start) + " to " + std::to_string(one.start + one.length) +
                          " of " + one.name + ", which has " + std::to_string(known->second));
    }
}

}  // namespace gsv
