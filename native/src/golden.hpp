// What an artifact brings to be judged by: its golden vectors and its report.
#pragma once

#include "read.hpp"

namespace gsv {

struct Case {
    std::string stage, name;
    std::map<std::string, Array> arrays;  // by port, of both sides
};

std::vector<Case> read_cases(const std::string& folder);
Json read_report(const std::string& folder);

}  // namespace gsv
