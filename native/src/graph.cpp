#include "graph.hpp"

#include <algorithm>
#include <cstring>
#include <thread>

namespace gsv {

namespace {

bool known_library() {
    const OrtApi* api = OrtGetApiBase()->GetApi(ORT_API_VERSION);
    if (api) Ort::InitApi(api);
    return api != nullptr;
}

Ort::MemoryInfo here() { return Ort::MemoryInfo::CreateCpu(OrtDeviceAllocator, OrtMemTypeCPU); }

}  // namespace

void check_library() {
    static const bool known = known_library();
    if (!known)
        throw Error(GSV_ENVIRONMENT, std::string("libonnxruntime ") + OrtGetApiBase()->GetVersionString() +
                                         " is older than the header that this library was built with")
            .limit("1." + std::to_string(ORT_API_VERSION) + " or newer")
            .fix("install a newer libonnxruntime, or build with its own header");
}

Ort::Value floats(float* data, size_t count, const std::vector<int64_t>& shape) {
    return Ort::Value::CreateTensor<float>(here(), data, count, shape.data(), shape.size());
}

Ort::Value ints(int64_t* data, size_t count, const std::vector<int64_t>& shape) {
    return Ort::Value::CreateTensor<int64_t>(here(), data, count, shape.data(), shape.size());
}

bool no_memory(const char* told) {
    for (const char* words : {"bad_alloc", "allocate memory"})
        if (std::strstr(told, words)) return true;
    return false;
}

template <typename Work>
auto Graph::guarded(const char* doing, Work work) -> decltype(work()) {
    try {
        return work();
    } catch (const Ort::Exception& error) {
        std::string told = error.what();
        if (told.find("terminate") != std::string::npos) throw Error(GSV_CANCELLED, "cancelled");
        if (no_memory(error.what()))
            throw Error(GSV_ENVIRONMENT, "there is not enough memory to " + (doing + (" stage '" + stage_)) + "'")
                .found(told.substr(0, 300))
                .fix("speak shorter sentences, or build the artifact for fewer bits");
        throw Error(GSV_BACKEND, "ONNX Runtime cannot " + (doing + (" stage '" + stage_)) + "': " + told)
            .fix("verify the artifact on this machine");
    }
}

Graph::Graph(Ort::Env& env, const Artifact& artifact, const std::string& stage, int threads) : stage_(stage) {
    const std::string& file = artifact.files.at(stage);
    try {
        check_external(artifact.folder, file);
    } catch (const Refused& error) {
        throw Error(GSV_ARTIFACT, artifact.folder + "/" + file + " " + error.text)
            .fix("get it again, or build it again");
    }
    // As gsvexport/backends/onnxruntime/session.py sets them, so that both compute the same.
    Ort::SessionOptions options;
    options.SetLogSeverityLevel(4);  // errors come as exceptions, and nothing goes to standard error
    int cores = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
    options.SetIntraOpNumThreads(std::min(threads, cores));
    options.SetInterOpNumThreads(1);
    options.AddConfigEntry("session.force_spinning_stop", "1");
    options.AddConfigEntry("session.use_env_allocators", "1");
    options.DisableMemPattern();
    guarded("load", [&] { session_ = Ort::Session(env, (artifact.folder + "/" + file).c_str(), options); });
    Ort::AllocatorWithDefaultOptions allocator;
    // gsvexport/passes/signed_bytes.py: Python gives such a graph another form, which takes ONNX's own library.
    if (overflows() &&
        session_.GetModelMetadata().LookupCustomMetadataMapAllocated("gsvexport.signed_bytes", allocator).get())
        throw Error(GSV_ARTIFACT, artifact.folder + "/" + file +
                                      " was made for another processor, and this one's kernels for signed bytes overflow")
            .fix("build it for this machine (gsvexport targets lists devices)");
    for (size_t i = 0; i < session_.GetInputCount(); ++i)
        inputs_.push_back(session_.GetInputNameAllocated(i, allocator).get());
    for (size_t i = 0; i < session_.GetOutputCount(); ++i)
        outputs_.push_back(session_.GetOutputNameAllocated(i, allocator).get());
}

bool Graph::takes(const std::string& name) const {
    return std::find(inputs_.begin(), inputs_.end(), name) != inputs_.end();
}

std::vector<int64_t> Graph::shape(const std::string& output) const {
    auto found = std::find(outputs_.begin(), outputs_.end(), output);
    if (found == outputs_.end()) return {};
    auto info = session_.GetOutputTypeInfo(static_cast<size_t>(found - outputs_.begin()));
    return info.GetTensorTypeAndShapeInfo().GetShape();
}

std::vector<Ort::Value> Graph::run(std::vector<Feed> feeds, const Ort::RunOptions& options) {
    std::vector<const char*> names, wanted;
    std::vector<Ort::Value> values;
    for (Feed& feed : feeds)
        if (takes(feed.name)) {
            names.push_back(feed.name.c_str());
            values.push_back(std::move(feed.value));
        }
    for (const std::string& name : outputs_) wanted.push_back(name.c_str());
    return guarded("run", [&] {
        return session_.Run(options, names.data(), values.data(), values.size(), wanted.data(), wanted.size());
    });
}

void Graph::run(const Ort::IoBinding& binding, const Ort::RunOptions& options) {
    guarded("run", [&] { session_.Run(options, binding); });
}

}  // namespace gsv
