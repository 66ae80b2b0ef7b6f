// One graph in ONNX Runtime. Its exceptions become Errors that name the stage.
#pragma once

#define ORT_API_MANUAL_INIT
#include <onnxruntime_cxx_api.h>
#undef ORT_API_MANUAL_INIT

#include <memory>
#include <string>
#include <vector>

#include "artifact.hpp"

namespace gsv {

// A tensor over memory that somebody else keeps.
Ort::Value floats(float* data, size_t count, const std::vector<int64_t>& shape);
Ort::Value ints(int64_t* data, size_t count, const std::vector<int64_t>& shape);

struct Feed {
    std::string name;
    Ort::Value value;
};

class Graph {
public:
    Graph(Ort::Env& env, const Artifact& artifact, const std::string& stage, int threads);

    const std::vector<std::string>& inputs() const { return inputs_; }
    const std::vector<std::string>& outputs() const { return outputs_; }
    bool takes(const std::string& name) const;
    std::vector<int64_t> shape(const std::string& output) const;

    // All outputs, in the order of outputs(). Feeds that the graph does not take are left out.
    std::vector<Ort::Value> run(std::vector<Feed> feeds, const Ort::RunOptions& options);
    void run(const Ort::IoBinding& binding, const Ort::RunOptions& options);
    Ort::Session& session() { return session_; }

private:
    template <typename Work>
    auto guarded(const char* doing, Work work) -> decltype(work());

    std::string stage_;
    Ort::Session session_{nullptr};
    std::vector<std::string> inputs_, outputs_;
};

// Whether ONNX Runtime speaks of memory that it did not get.
bool no_memory(const char* told);

// Makes sure that the library of this process knows the interface that this was compiled with.
void check_library();

}  // namespace gsv
