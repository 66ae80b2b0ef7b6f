// Reading what somebody else made: files, names, JSON, arrays and graphs, each within a bound. The rules and the words
// are those of gsvexport.untrusted. What is not read is a Refused.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "error.hpp"

struct evp_md_ctx_st;  // libcrypto's EVP_MD_CTX

namespace gsv {

using Json = nlohmann::json;
using Bytes = std::vector<unsigned char>;

constexpr uint64_t LARGEST_MANIFEST = 4 << 20;
constexpr uint64_t LARGEST_MODEL = 1 << 20;
constexpr uint64_t LARGEST_JSON = 8 << 20;
constexpr uint64_t LARGEST_ARRAY = 256 << 20;
constexpr uint64_t LARGEST_MEMBER = 16ull << 30;

// A regular file, open for reading; closed when it goes out of scope.
class File {
public:
    explicit File(const std::string& path);
    ~File();
    File(const File&) = delete;
    File& operator=(const File&) = delete;
    uint64_t size() const { return size_; }
    size_t read(unsigned char* into, size_t count) const;  // until `count` or the end
    const unsigned char* map();                            // all of it; lives as long as the file

private:
    int handle_ = -1;
    uint64_t size_ = 0;
    void* mapped_ = nullptr;
};

bool safe_name(const std::string& name);
std::string inside(const std::string& folder, const std::string& name);
Bytes read_bytes(const std::string& path, uint64_t limit);
class Sha256 {
public:
    Sha256();
    void add(const unsigned char* data, size_t size);
    std::string hexadecimal();  // once, at the end

private:
    std::unique_ptr<evp_md_ctx_st, void (*)(evp_md_ctx_st*)> context_;
};

std::string sha256_file(const std::string& path);
std::string sha256_bytes(const unsigned char* data, size_t size);

Json parse_json(const unsigned char* data, size_t size);
Json read_json(const std::string& path, uint64_t limit);
const Json& at(const Json& table, const std::string& key);  // null where there is no table, or no such key
std::string text_of(const Json& value);                     // empty where it is no text

// Numbers of a .npy file: float32 or int64, whatever they were stored as; the other of the two is empty.
struct Array {
    std::vector<int64_t> shape;
    std::vector<float> floats;
    std::vector<int64_t> ints;
    bool whole = false;  // ints hold the values
};

Array parse_array(const unsigned char* data, size_t size);
Array read_array(const std::string& path);

// Looks at every tensor of an ONNX graph whose bytes lie in another file: it has to be beside it, and long enough.
struct External {
    std::string name;
    uint64_t start, length;
};
std::vector<External> external_data(const unsigned char* data, size_t size);
void check_external(const std::string& folder, const std::string& file);

}  // namespace gsv
