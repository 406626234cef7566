#include "launch/run_paths.hpp"

#include <algorithm>
#include <functional>

#include "common/base/error.hpp"
#include "common/base/ini.hpp"
#include "launch/run/run_folder.hpp"
#include "worker/data/file_list.hpp"

namespace weir {
namespace {

Setting& setting_of(ParsedConfig& parsed, std::string_view name) {
  return *std::ranges::find(parsed.settings, name, &Setting::name);
}

bool is_given(const Setting& setting) { return setting.source > Source::file; }

/// Gives the setting the value, as if the file had said so.
void set(ParsedConfig& parsed, const char* name, const std::string& value) {
  Setting& setting = setting_of(parsed, name);
  setting.value = value;
  setting.source = Source::file;
  apply_settings(chosen_options(parsed.config, {name}), {setting});
}

bool same_folder(const fs::path& left, const fs::path& right) {
  std::error_code error;
  return fs::equivalent(left, right, error);
}

/// A list of files with each path changed; `@` before the path of a list stays.
std::string with_paths(const std::string& list,
                       const std::function<fs::path(const fs::path&)>& change) {
  std::vector<std::string> items = worker::items_of(list);
  for (std::string& item : items) {
    const std::string mark = item.starts_with('@') ? "@" : "";
    item = mark + change(item.substr(mark.size())).string();
  }
  return worker::list_of(items);
}

/// The path without `a/..`, unless `a` is a link, since the path would then become another one.
fs::path absolute_path(const fs::path& path) {
  const fs::path whole = fs::absolute(path);
  const fs::path normal = whole.lexically_normal();
  std::error_code error;
  return fs::exists(whole, error) && !fs::equivalent(whole, normal, error) ? whole : normal;
}

/// The run folder that config.ini names.
std::string run_in(const fs::path& file) {
  for (const IniEntry& entry : read_ini(file)) {
    if (entry.name == "run") return entry.value;
  }
  return RunConfig().run;
}

/// Whether there is something at the path, or at the folder of a pattern.
bool is_there(const fs::path& path) {
  std::error_code error;
  if (fs::exists(path, error)) return true;
  const bool is_pattern = path.filename().string().find_first_of("*?[") != std::string::npos;
  return is_pattern && fs::is_directory(path.parent_path(), error);
}

}  // namespace

void settle_run(ParsedConfig& parsed, const fs::path& file) {
  const fs::path folder = file.has_parent_path() ? file.parent_path() : fs::path(".");
  if (file.filename() != "config.ini" || !is_run_folder(folder)) return;
  const fs::path before = run_in(file);
  const std::string& run = parsed.config.run;
  if (!is_given(setting_of(parsed, "run"))) {
    set(parsed, "run", folder.string());
    if (!same_folder(before, folder)) {
      parsed.remarks.push_back(text("the run is ", folder.string(), ", where ", file.string(),
                                    " lies; it was ", before.string(), " when that was written"));
    }
  } else if (!same_folder(run, folder)) {
    const bool by_variable = setting_of(parsed, "run").source == Source::environment;
    parsed.remarks.push_back(text("the run is ", run, ", as ", by_variable ? "WEIR_RUN" : "--run",
                                  " says; only its settings come from ", file.string()));
  }
  for (const auto& [name, value] :
       {std::pair("resume", "auto"), std::pair("accept-changed-data", "false"),
        std::pair("trace", "")}) {
    if (!is_given(setting_of(parsed, name))) set(parsed, name, value);
  }
  for (const char* const name : {"data.files", "data.validation"}) {
    const Setting& setting = setting_of(parsed, name);
    if (is_given(setting)) continue;
    set(parsed, name, find_data_again(setting.value, before, folder, parsed.remarks));
  }
}

std::vector<Setting> with_absolute_paths(std::vector<Setting> settings) {
  for (Setting& setting : settings) {
    if (setting.value.empty()) continue;
    if (setting.name == "data.files" || setting.name == "data.validation") {
      setting.value = with_paths(setting.value, absolute_path);
    } else if (setting.name == "run" || setting.name == "replay" || setting.name == "trace" ||
               (setting.name == "resume" && setting.value != "auto" && setting.value != "never")) {
      setting.value = absolute_path(setting.value).string();
    }
  }
  return settings;
}

std::string find_data_again(const std::string& list, const fs::path& before, const fs::path& now,
                            std::vector<std::string>& remarks) {
  return with_paths(list, [&](const fs::path& path) {
    const fs::path beside = path.lexically_relative(before);
    const fs::path again = absolute_path(now / beside);
    if (is_there(path) || beside.empty() || !is_there(again)) return path;
    remarks.push_back(text("reads ", again.string(), ", as ", path.string(), " is not there"));
    return again;
  });
}

}  // namespace weir
