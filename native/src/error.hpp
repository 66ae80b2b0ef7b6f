// What went wrong, for people: the texts have the form of gsvexport.errors.
#pragma once

#include <exception>
#include <string>
#include <vector>

#include "gsv.h"

namespace gsv {

struct Error : std::exception {
    gsv_status status;
    std::string text;

    Error(gsv_status status, std::string text) : status(status), text(std::move(text)) {}
    const char* what() const noexcept override { return text.c_str(); }

    Error problems(const std::vector<std::string>& found) && {
        for (const auto& one : found) text += "\n  - " + one;
        return std::move(*this);
    }
    Error found(const std::string& value) && { return std::move(*this).line("found: ", value); }
    Error limit(const std::string& value) && { return std::move(*this).line("limit: ", value); }
    Error fix(const std::string& value) && { return std::move(*this).line("fix:   ", value); }

private:
    Error line(const char* label, const std::string& value) && {
        text += std::string("\n  ") + label + value;
        return std::move(*this);
    }
};

// Why a file is not read, in words that follow its name.
struct Refused : std::exception {
    std::string text;
    explicit Refused(std::string text) : text(std::move(text)) {}
    const char* what() const noexcept override { return text.c_str(); }
};

}  // namespace gsv
