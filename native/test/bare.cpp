// bare FOLDER PHONES PROMPT CODES CHANNELS [THREADS]: ONNX Runtime alone at the work of one sentence, on zeros, and its peak of
// memory: what a program has to have that runs these graphs. What gsvsay takes beyond it is its own.
#include <onnxruntime_cxx_api.h>
#include <sys/resource.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

int main(int count, char** words) {
    if (count < 6) return std::fputs("bare FOLDER PHONES PROMPT CODES CHANNELS [THREADS]\n", stderr), 2;
    const int64_t phones = std::atoi(words[2]), prompt = std::atoi(words[3]), codes = std::atoi(words[4]),
                  channels = std::atoi(words[5]);
    const int threads = count > 6 ? std::atoi(words[6]) : 1;
    // The length of an axis that a graph leaves open, by the name of its input.
    auto length = [&](const std::string& name, size_t axis) {
        if (axis == 0) return int64_t{1};
        if (axis == 1 && (name == "noise" || name == "latent")) return channels;
        if (name == "prompt") return prompt;
        if (name == "codes") return codes;
        if (name == "ge") return int64_t{axis == 1 ? 512 : 1};  // of v1 and v2
        if (name == "noise" || name == "latent") return 2 * codes;
        return name.rfind("keys", 0) == 0 || name.rfind("values", 0) == 0 ? phones + prompt + codes : phones;
    };
    Ort::Env env(ORT_LOGGING_LEVEL_ERROR, "bare");
    env.CreateAndRegisterAllocator(Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault), nullptr);
    Ort::SessionOptions options;  // as src/graph.cpp
    options.SetIntraOpNumThreads(threads);
    options.SetInterOpNumThreads(1);
    options.AddConfigEntry("session.force_spinning_stop", "1");
    options.AddConfigEntry("session.use_env_allocators", "1");
    options.DisableMemPattern();
    std::vector<Ort::Session> sessions;
    for (const char* stage : {"prefill", "step", "acoustic", "vocoder"})
        sessions.emplace_back(env, (std::string(words[1]) + "/" + stage + ".onnx").c_str(), options);
    Ort::AllocatorWithDefaultOptions allocator;
    auto here = Ort::MemoryInfo::CreateCpu(OrtDeviceAllocator, OrtMemTypeCPU);
    for (Ort::Session& session : sessions) {
        std::vector<std::string> names, outputs;
        std::vector<Ort::Value> values;
        std::vector<std::vector<char>> held;  // zeros
        for (size_t i = 0; i < session.GetInputCount(); ++i) {
            names.push_back(session.GetInputNameAllocated(i, allocator).get());
            auto type = session.GetInputTypeInfo(i);
            auto told = type.GetTensorTypeAndShapeInfo();
            std::vector<int64_t> shape = told.GetShape();
            for (size_t axis = 0; axis < shape.size(); ++axis)
                if (shape[axis] < 0) shape[axis] = length(names.back(), axis);
            size_t bytes = told.GetElementType() == ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64 ? 8 : 4;
            for (int64_t one : shape) bytes *= static_cast<size_t>(one);
            held.emplace_back(bytes);
            values.push_back(Ort::Value::CreateTensor(here, held.back().data(), bytes, shape.data(), shape.size(),
                                                      told.GetElementType()));
        }
        for (size_t i = 0; i < session.GetOutputCount(); ++i)
            outputs.push_back(session.GetOutputNameAllocated(i, allocator).get());
        std::vector<const char*> in, out;
        for (const std::string& one : names) in.push_back(one.c_str());
        for (const std::string& one : outputs) out.push_back(one.c_str());
        session.Run(Ort::RunOptions(), in.data(), values.data(), values.size(), out.data(), out.size());
    }
    rusage used = {};
    getrusage(RUSAGE_SELF, &used);
    std::printf("peak_mb %.1f\n", static_cast<double>(used.ru_maxrss) / 1e3);
}
