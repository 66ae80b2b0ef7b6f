#include "read.hpp"

#include <fcntl.h>
#include <openssl/evp.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <memory>
#include <new>
#include <nlohmann/json.hpp>
#include <set>

namespace gsv {

namespace {

constexpr int MOST_DEPTH = 32;
constexpr size_t MOST_VALUES = 200000;
constexpr size_t LONGEST_NAME = 200;
constexpr size_t LONGEST_HEADER = 4096;
constexpr uint64_t MOST_FIELDS = 5000000;
constexpr int MOST_MESSAGES = 64;

[[noreturn]] void refuse_errno() {
    if (errno == ENOMEM) throw std::bad_alloc();  // no fault of the file
    throw Refused(std::string("cannot be read: ") + std::strerror(errno));
}

bool is_letter(char one) { return (one >= 'a' && one <= 'z') || (one >= 'A' && one <= 'Z'); }
bool is_digit(char one) { return one >= '0' && one <= '9'; }

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
    if (name.empty() || name.size() > LONGEST_NAME) return false;
    bool first = true;
    for (char one : name) {
        if (one == '/') {
            if (first) return false;
            first = true;
            continue;
        }
        bool common = is_letter(one) || is_digit(one) || one == '_';
        if (!common && (first || (one != '.' && one != '-'))) return false;
        first = false;
    }
    return !first;
}

std::string inside(const std::string& folder, const std::string& name) {
    if (!safe_name(name)) throw Refused("names a file '" + name.substr(0, 40) + "', which is no name inside a folder");
    std::string path = folder;
    size_t start = 0;
    while (start <= name.size()) {
        size_t end = std::min(name.find('/', start), name.size());
        path += "/" + name.substr(start, end - start);
        struct stat told;
        if (::lstat(path.c_str(), &told) == 0 && S_ISLNK(told.st_mode))
            throw Refused("names " + name + ", and " + path + " is a link, which is not followed");
        start = end + 1;
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

Json read_json(const std::string& path, uint64_t limit) {
    Bytes data = read_bytes(path, limit);
    return parse_json(data.data(), data.size());
}

// ---- .npy: numpy's NEP 1, versions 1 and 2 ----

namespace {

// The one description that numpy writes: {'descr': '<f4', 'fortran_order': False, 'shape': (1, 2), }
struct Header {
    std::string kind;
    bool fortran = false;
    std::vector<int64_t> shape;
};

class HeaderText {
public:
    explicit HeaderText(std::string text) : text_(std::move(text)) {}

    Header parse() {
        Header found;
        std::set<std::string> seen;
        take('{');
        while (!at('}')) {
            std::string key = quoted();
            if (!seen.insert(key).second) fail();
            take(':');
            if (key == "descr") found.kind = quoted();
            else if (key == "fortran_order") found.fortran = truth();
            else if (key == "shape") found.shape = numbers();
            else fail();
            if (!at('}')) take(',');
        }
        take('}');
        blank();
        if (place_ != text_.size() || seen.size() != 3) fail();
        return found;
    }

private:
    [[noreturn]] static void fail() { throw Refused("is no .npy array: its description cannot be read"); }
    void blank() {
        while (place_ < text_.size() && (text_[place_] == ' ' || text_[place_] == '\n')) ++place_;
    }
    bool at(char one) {
        blank();
        return place_ < text_.size() && text_[place_] == one;
    }
    void take(char one) {
        if (!at(one)) fail();
        ++place_;
    }
    std::string quoted() {
        take('\'');
        size_t end = text_.find('\'', place_);
        if (end == std::string::npos || end - place_ > 40) fail();
        std::string found = text_.substr(place_, end - place_);
        place_ = end + 1;
        return found;
    }
    bool truth() {
        blank();
        for (const char* word : {"True", "False"})
            if (text_.compare(place_, std::strlen(word), word) == 0) {
                place_ += std::strlen(word);
                return word[0] == 'T';
            }
        fail();
    }
    std::vector<int64_t> numbers() {
        std::vector<int64_t> found;
        take('(');
        while (!at(')')) {
            size_t start = place_;
            int64_t value = 0;
            while (place_ < text_.size() && is_digit(text_[place_]) && place_ - start < 15)
                value = 10 * value + (text_[place_++] - '0');
            if (place_ == start || found.size() == 8) fail();
            found.push_back(value);
            if (!at(')')) take(',');
        }
        take(')');
        return found;
    }
    std::string text_;
    size_t place_ = 0;
};

float half(uint16_t bits) {
    int exponent = bits >> 10 & 31, fraction = bits & 1023;
    float size = exponent == 0    ? std::ldexp(static_cast<float>(fraction), -24)
                 : exponent == 31 ? (fraction ? NAN : INFINITY)
                                  : std::ldexp(static_cast<float>(fraction + 1024), exponent - 25);
    return bits >> 15 ? -size : size;
}

template <typename Stored, typename To, typename Convert>
void convert(const unsigned char* data, size_t count, std::vector<To>& into, Convert how) {
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
    Header told = HeaderText(std::string(reinterpret_cast<const char*>(data) + start, length)).parse();
    start += length;
    const std::map<std::string, size_t> sizes = {{"<f4", 4}, {"<f2", 2}, {"<f8", 8}, {"<i8", 8}, {"<i4", 4},
                                                 {"<i2", 2}, {"|i1", 1}, {"|u1", 1}, {"|b1", 1}};
    auto width = sizes.find(told.kind);
    if (width == sizes.end()) throw Refused("is an array of " + told.kind + "; this reader takes numbers alone");
    bool empty = std::find(told.shape.begin(), told.shape.end(), 0) != told.shape.end();
    uint64_t count = empty ? 0 : 1, most = (size - start) / width->second;
    for (int64_t one : told.shape) {
        if (!empty && count > most / static_cast<uint64_t>(one))
            throw Refused("is damaged: it is shorter than its shape");
        if (!empty) count *= static_cast<uint64_t>(one);
    }
    if (count * width->second != size - start) throw Refused("is damaged: its size is not that of its shape");
    if (told.fortran && told.shape.size() > 1) throw Refused("is stored column by column, which is not read here");
    Array found;
    found.shape = told.shape;
    const unsigned char* values = data + start;
    auto same = [](auto one) { return one; };
    found.whole = told.kind[1] != 'f';
    if (told.kind == "<f4") convert<float>(values, count, found.floats, same);
    else if (told.kind == "<f8") convert<double>(values, count, found.floats, same);
    else if (told.kind == "<f2") convert<uint16_t>(values, count, found.floats, half);
    else if (told.kind == "<i8") convert<int64_t>(values, count, found.ints, same);
    else if (told.kind == "<i4") convert<int32_t>(values, count, found.ints, same);
    else if (told.kind == "<i2") convert<int16_t>(values, count, found.ints, same);
    else if (told.kind == "|i1") convert<int8_t>(values, count, found.ints, same);
    else convert<uint8_t>(values, count, found.ints, same);
    return found;
}

Array read_array(const std::string& path) {
    Bytes data = read_bytes(path, LARGEST_ARRAY);
    return parse_array(data.data(), data.size());
}

// ---- ONNX: the graph is walked as protobuf's wire format and not built ----

namespace {

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

class Walk {
public:
    Walk(const unsigned char* data, size_t size) : data_(data), size_(size) {}

    std::vector<External> tensors() {
        struct Pending {
            Message message;
            size_t start, end;
            int depth;
        };
        std::vector<External> found;
        std::vector<Pending> pending = {{MODEL, 0, size_, 0}};
        while (!pending.empty()) {
            Pending now = pending.back();
            pending.pop_back();
            std::map<std::string, std::string> told;
            for (size_t place = now.start; place < now.end;) {
                Field field = next(place, now.end);
                Message message = field.bytes ? inner(now.message, field.number) : NOTHING;
                if (message == ENTRY) {
                    auto [key, value] = entry(field.start, field.end);
                    told[key] = value;
                } else if (message != NOTHING) {
                    if (now.depth == MOST_MESSAGES) throw Refused("is no ONNX graph: it is too deep");
                    pending.push_back({message, field.start, field.end, now.depth + 1});
                }
            }
            if (!told.empty()) found.push_back({told["location"], number(told, "offset"), number(told, "length")});
        }
        return found;
    }

private:
    struct Field {
        uint64_t number;
        size_t start, end;
        bool bytes;
    };

    Field next(size_t& place, size_t end) {
        if (++fields_ > MOST_FIELDS) throw Refused("is no ONNX graph: it has too many fields");
        uint64_t tag = varint(place, end);
        Field found = {tag >> 3, place, place, false};
        switch (tag & 7) {
            case 0: varint(place, end); break;
            case 1: skip(place, end, 8); break;
            case 5: skip(place, end, 4); break;
            case 2: {
                uint64_t length = varint(place, end);
                found.start = place;
                skip(place, end, length);
                found.end = place;
                found.bytes = true;
                break;
            }
            default: throw Refused("is no ONNX graph");
        }
        return found;
    }

    std::pair<std::string, std::string> entry(size_t start, size_t end) {
        std::string parts[2];
        while (start < end) {
            Field field = next(start, end);
            if (field.bytes && (field.number == 1 || field.number == 2))
                parts[field.number - 1].assign(reinterpret_cast<const char*>(data_) + field.start,
                                               std::min<size_t>(field.end - field.start, 2 * LONGEST_NAME));
        }
        return {parts[0], parts[1]};
    }

    uint64_t varint(size_t& place, size_t end) {
        uint64_t value = 0;
        for (int shift = 0; shift < 70; shift += 7) {
            if (place >= end) throw Refused("is no ONNX graph: it is cut short");
            unsigned char one = data_[place++];
            if (shift < 64) value |= static_cast<uint64_t>(one & 127) << shift;
            if (one < 128) return value;
        }
        throw Refused("is no ONNX graph");
    }

    static void skip(size_t& place, size_t end, uint64_t length) {
        if (length > end - place) throw Refused("is no ONNX graph: it is cut short");
        place += length;
    }

    static uint64_t number(const std::map<std::string, std::string>& told, const char* key) {
        auto found = told.find(key);
        if (found == told.end()) return 0;
        const std::string& text = found->second;
        if (text.empty() || text.size() > 18 || !std::all_of(text.begin(), text.end(), is_digit))
            throw Refused(std::string("has a tensor whose ") + key + " is no number");
        return std::stoull(text);
    }

    const unsigned char* data_;
    size_t size_;
    uint64_t fields_ = 0;
};

}  // namespace

std::vector<External> external_data(const unsigned char* data, size_t size) { return Walk(data, size).tensors(); }

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
