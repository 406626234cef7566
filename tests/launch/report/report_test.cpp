#include "launch/report/report.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <regex>
#include <set>

#include "common/base/error.hpp"
#include "tests/launch/checkpoints.hpp"
#include "tests/temporary_folder.hpp"

namespace weir {
namespace {

using test::output_of;
using test::TemporaryFolder;
using Json = nlohmann::json;

/// A run folder with these lines of metrics.
struct Run {
  TemporaryFolder folder;

  explicit Run(const std::string& lines) { write("metrics.jsonl", lines); }
  void write(const char* name, const std::string& words) const {
    std::ofstream(folder / name) << words;
  }
  std::string page() const {
    output_of(report, {folder.path().string()});
    std::ifstream file(folder / "report.html");
    return {std::istreambuf_iterator<char>(file), {}};
  }
};

/// What the page draws, as it says itself.
Json data_of(const std::string& page) {
  const std::string begin = "<script type=\"application/json\" id=\"data\">";
  const std::size_t at = page.find(begin) + begin.size();
  return Json::parse(page.substr(at, page.find("</script>", at) - at));
}

/// The series of a chart, null if there is none.
Json series_of(const Json& data, const std::string& title, const std::string& name) {
  for (const Json& chart : data["charts"]) {
    for (const Json& series : chart["series"]) {
      if (chart["title"] == title && series["name"] == name) return series;
    }
  }
  return nullptr;
}

bool has(const std::string& text, const std::string& words) {
  return text.find(words) != std::string::npos;
}

/// What makes a text no well-formed XML, empty if nothing does: tags that do not nest, attributes
/// that are not quoted or come twice, markup or half an entity in the words between.
std::string fault_of(const std::string& xml) {
  static const std::regex tag(
      R"(^<(/?)([A-Za-z][A-Za-z0-9]*)((?:\s+[A-Za-z][A-Za-z0-9:-]*="[^"<]*")*)\s*(/?)>)");
  static const std::regex attribute(R"(([A-Za-z][A-Za-z0-9:-]*)=")");
  static const std::regex entity("^&(amp|lt|gt|quot);");
  std::vector<std::string> open;
  for (std::size_t at = 0; at < xml.size();) {
    const std::string here = xml.substr(at, 30);
    if (xml[at] == '&') {
      if (!std::regex_search(here, entity)) return "entity: " + here;
      ++at;
    } else if (here.starts_with("<!DOCTYPE html>")) {
      at += 15;
    } else if (here.starts_with("<![CDATA[")) {
      at = xml.find("]]>", at);
      if (at == std::string::npos) return "CDATA does not end";
      at += 3;
    } else if (xml[at] == '<') {
      std::smatch found;
      const std::size_t end = xml.find('>', at);
      const std::string whole = xml.substr(at, end - at + 1);
      if (!std::regex_search(whole, found, tag)) return "tag: " + here;
      std::set<std::string> names;
      const std::string attributes = found[3];
      for (std::sregex_iterator each(attributes.begin(), attributes.end(), attribute), none;
           each != none; ++each) {
        if (!names.insert((*each)[1]).second) return "attribute twice: " + here;
      }
      if (found[1] == "/") {
        if (open.empty() || open.back() != found[2]) return "closes another: " + here;
        open.pop_back();
      } else if (found[4] != "/") {
        open.push_back(found[2]);
      }
      at = end + 1;
    } else {
      const auto code = static_cast<unsigned char>(xml[at]);
      if (code < 0x20 && code != '\n' && code != '\t') return "control character before " + here;
      ++at;
    }
  }
  return open.empty() ? "" : "does not close: " + open.back();
}

std::string step_line(index_t step, const std::string& more) {
  return text(R"({"kind":"step","step":)", step, ",", more, "}\n");
}

TEST_CASE("the test's own eyes: what is no XML is found") {
  CHECK(fault_of("<a b=\"c\">x &amp; y<d/></a>").empty());
  for (const char* bad : {"<a>", "<a></b>", "<a b=c></a>", "<a>x & y</a>", "<a b=\"1\" b=\"2\"/>",
                          "<a>\x01</a>", "a < b"}) {
    CAPTURE(bad);
    CHECK_FALSE(fault_of(bad).empty());
  }
}

TEST_CASE("the page draws every step's value, and its gaps, as the lines say them") {
  std::string lines = R"({"kind":"start","step":0,"unix_s":1764288000,"version":"0.1.0",)"
                      R"("layout":{"placement":"dedicated","replicas":2}})"
                      "\n";
  for (index_t step = 1; step <= 15; ++step) {
    const bool skipped = step == 7;
    const double loss = 5.0 - 0.25 * double(step);
    lines += step_line(
        step, text(R"("loss":)", skipped ? "null" : text(loss), R"(,"norm":)", 0.5 * double(step),
                   R"(,"threshold":1.5,"rate":0.001,"step_s":0.5,"waited_s":0.125,)",
                   R"("server_busy_s":0.0625,"server_waited_s":0.375,)",
                   R"("server_busy_imbalance":1.5,"server_bytes_imbalance":1.25,)",
                   R"("tokens_per_s":1000,"pushed_bytes":2097152,"pulled_bytes":0,"skip":")",
                   skipped ? "not_finite" : "none", "\""));
  }
  lines += R"({"kind":"validation","step":10,"loss":2.75})"
           "\n";
  const Run run(lines);
  const std::string page = run.page();
  CHECK(fault_of(page) == "");
  const Json data = data_of(page);
  CHECK(data["steps"] == Json({1, 15}));

  const Json loss = series_of(data, "Loss", "training");
  REQUIRE(loss["steps"].size() == 14);  // all but the skipped one
  for (std::size_t i = 0; i < 14; ++i) {
    const double step = loss["steps"][i];
    CHECK(step == (i < 6 ? double(i + 1) : double(i + 2)));
    CHECK(loss["values"][i] == 5.0 - 0.25 * step);
  }
  CHECK(series_of(data, "Loss", "validation")["values"] == Json({2.75}));
  CHECK(series_of(data, "Norm of the gradient", "norm")["values"][14] == 7.5);
  CHECK(series_of(data, "Norm of the gradient", "threshold of the clip")["values"][0] == 1.5);
  CHECK(series_of(data, "Time of a step", "computing")["values"][3] == 375);  // ms
  CHECK(series_of(data, "Time of a step", "waiting for servers")["values"][3] == 125);
  const std::string servers = "Time of the servers in a step, mean";
  CHECK(series_of(data, servers, "busy")["values"][3] == 62.5);
  CHECK(series_of(data, servers, "waiting")["values"][3] == 375);
  const std::string imbalance = "Imbalance between servers, busiest over mean";
  CHECK(series_of(data, imbalance, "busy time")["values"][3] == 1.5);
  CHECK(series_of(data, imbalance, "bytes")["values"][3] == 1.25);
  const std::string traffic = "Pushed and pulled by a worker, a step";
  CHECK(series_of(data, traffic, "pushed")["values"][0] == 2);          // MiB
  CHECK(series_of(data, traffic, "pulled").is_null());                  // nothing was
  CHECK(series_of(data, "Staleness", "staleness, at most").is_null());  // no such field

  REQUIRE(data["marks"].size() == 1);
  CHECK(data["marks"][0]["step"] == 7);
  CHECK(data["marks"][0]["words"] == "step 7 skipped: not finite");
  CHECK(has(page, "<title>step 7 skipped: not finite</title>"));
  CHECK(has(page, "placement dedicated, replicas 2"));
  CHECK(has(page, "2025-11-28 00:00:00 UTC"));
  CHECK(has(page, "Step 15 is the newest; there is no summary yet"));
}

TEST_CASE("a field that later versions write has its chart as soon as lines have it") {
  const Run run(step_line(1, R"("loss":1,"staleness":0)") +
                step_line(2, R"("loss":1,"staleness":3)"));
  CHECK(series_of(data_of(run.page()), "Staleness", "staleness, at most")["values"] ==
        Json({0, 3}));
}

TEST_CASE("100,000 steps make a page of less than 2 MB that keeps every spike") {
  std::string lines;
  for (index_t step = 1; step <= 100'000; ++step) {
    lines += step_line(step, text(R"("loss":)", step == 54'321 ? 9.5 : 2 + double(step % 7) / 100,
                                  R"(,"norm":)", step == 7'777 ? 0.001 : 1 + double(step % 5),
                                  R"(,"skip":")", step % 50 == 0 ? "spike" : "none", "\""));
  }
  const std::string page = Run(lines).page();
  CHECK(page.size() < 2'000'000);
  CHECK(fault_of(page) == "");
  const Json data = data_of(page);
  const auto find = [](const Json& series, double step) {
    for (std::size_t i = 0; i < series["steps"].size(); ++i) {
      if (series["steps"][i] == step) return series["values"][i].get<double>();
    }
    return std::nan("");
  };
  CHECK(find(series_of(data, "Loss", "training"), 54'321) == 9.5);
  CHECK(find(series_of(data, "Norm of the gradient", "norm"), 7'777) == 0.001);
  CHECK(data["marks"].size() <= 201);
  index_t skipped = 0;
  for (const Json& mark : data["marks"]) {
    const std::string words = mark["words"];
    skipped += words.starts_with("step ") ? 1 : std::stoi(words);
  }
  CHECK(skipped == 2000);
  CHECK(has(page, "<th>skipped steps</th><td>2,000 spike</td>"));
}

TEST_CASE("the step that went back is told apart from the spikes that led to it") {
  std::string lines;
  for (index_t step = 1; step <= 15; ++step) {
    const char* skip = step == 7 || step == 8 ? "spike" : step == 9 ? "rollback" : "none";
    lines += step_line(step, text(R"("loss":2,"norm":1,"skip":")", skip, "\""));
  }
  const Run run(lines);
  const std::string page = run.page();
  const Json data = data_of(page);
  REQUIRE(data["marks"].size() == 3);
  CHECK(data["marks"][1]["words"] == "step 8 skipped: spike");
  CHECK(data["marks"][2]["words"] == "step 9 skipped: rollback");
  CHECK(has(page, "<th>skipped steps</th><td>1 rollback, 2 spike</td>"));
}

TEST_CASE("lives, the summary, and settings other than the defaults are told") {
  const Run run(
      "{\"kind\":\"start\",\"step\":0,\"unix_s\":1764288000}\n" + step_line(1, "\"loss\":3") +
      step_line(2, "\"loss\":3") + "{\"kind\":\"start\",\"step\":1,\"unix_s\":1764291600}\n" +
      step_line(2, "\"loss\":2.5") +
      R"({"kind":"summary","step":2,"stopped":false,"loss":2.5,"elapsed_s":8,"waited_s":2,)"
      R"("server_busy_s":2,"server_waited_s":5.5,)"
      R"("server_busy_imbalance":1.5,"server_bytes_imbalance":1.25})"
      "\n"
      R"({"kind":"supervision","step":2,"restarts":1,"lost_steps":1,"productive_s":8,"wall_s":10})"
      "\n");
  run.write("config.ini", "steps = 2\nmodel.width = 128\nclip.policy = <script>\nseed = 1\n");
  run.write("environment.txt", "host       a & b\ncores      2\n");
  const std::string page = run.page();
  CHECK(fault_of(page) == "");
  CHECK(has(page, "Finished after step 2."));
  CHECK(has(page, "<th>resumed</th><td>2025-11-28 01:00:00 UTC, at step 1</td>"));
  CHECK(has(page, "<title>resumed at step 1</title>"));
  CHECK(has(page, "<th>waiting for servers</th><td>2.00 s  25 %</td>"));
  CHECK(has(page,
            "<th>servers</th><td>busy 2.00 s, waiting 5.50 s (73 %); "
            "busiest over mean: time 1.50, bytes 1.25</td>"));
  CHECK(has(page, "<th>loss</th><td>2.5000 nats</td>"));
  CHECK(has(page, "<th>steps</th><td>2</td>"));
  CHECK(has(page,
            "<th>under weir run</th>"
            "<td>1 restart, 1 lost step, productive 8.0 of 10.0 s (ETTR 0.80)</td>"));
  CHECK(has(page, "<th>clip.policy</th><td>&lt;script&gt;</td>"));
  CHECK(has(page, "<th>host</th><td>a &amp; b</td>"));
  CHECK_FALSE(has(page, "<th>seed</th>"));  // that is the default
}

TEST_CASE("values that no chart can hold make no chart, and many lives few marks") {
  const Run run(step_line(1, R"("loss":1e308,"norm":2)") +
                step_line(2, R"("loss":-1e308,"norm":3)") +
                step_line(3, R"("loss":-1e308,"step_s":1e299,"waited_s":-1e308,"norm":2)"));
  const std::string page = run.page();
  CHECK(fault_of(page) == "");
  CHECK(series_of(data_of(page), "Loss", "training").is_null());
  CHECK_FALSE(series_of(data_of(page), "Norm of the gradient", "norm").is_null());

  std::string lines;
  for (int life = 0; life < 3000; ++life) {
    lines += text(R"({"kind":"start","step":)", life, "}\n", step_line(life + 1, R"("loss":1)"));
  }
  const std::string many = Run(lines).page();
  CHECK(data_of(many)["marks"].size() <= 201);
  CHECK(has(many, "<th>resumed</th><td>2,899 times before</td>"));
}

TEST_CASE("the page needs nothing from elsewhere") {
  const std::string page = Run(step_line(1, "\"loss\":1")).page();
  static const std::regex outside(R"((src|href|url|import|fetch)\s*[=(])");
  CHECK_FALSE(std::regex_search(page, outside));
  std::string rest = page;  // the names of formats are no addresses that are visited
  for (const std::string name : {"http://www.w3.org/1999/xhtml", "http://www.w3.org/2000/svg"}) {
    for (std::size_t at; (at = rest.find(name)) != std::string::npos;) rest.erase(at, name.size());
  }
  CHECK_FALSE(has(rest, "://"));
}

TEST_CASE("--out takes the page elsewhere; an old page is replaced, nothing else is left behind") {
  const Run run(step_line(1, "\"loss\":1"));
  const std::string other = (run.folder / "page.html").string();
  std::ofstream(other) << "old";
  const std::string said = output_of(report, {run.folder.path().string(), "--out", other});
  CHECK(said == other + ": 1 charts, steps 0 to 2\n");
  CHECK_FALSE(fs::exists(run.folder / "report.html"));
  std::ifstream page(other);
  std::string line;
  std::getline(page, line);
  CHECK(line == "<!DOCTYPE html>");
  CHECK(std::distance(fs::directory_iterator(run.folder.path()), {}) == 2);
}

TEST_CASE("folders that are none, or of no run, or without a step, are refused with what to do") {
  const TemporaryFolder folder;
  const std::string path = folder.path().string();
  const auto refusal = [&](const Arguments& arguments) {
    try {
      report(arguments);
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string("not refused");
  };
  CHECK(refusal({}) == "report: name a run folder");
  CHECK(refusal({path + "/none"}) == path + "/none: there is no such folder");
  CHECK(refusal({path}) == path + " has no metrics.jsonl; name the run folder of a `weir train`");
  std::ofstream(folder / "metrics.jsonl") << "{\"kind\":\"start\",\"step\":0}\n";
  CHECK(refusal({path}) == path + "/metrics.jsonl holds no step yet; try again when one is done");
  std::ofstream(folder / "metrics.jsonl") << step_line(1, "\"loss\":1");
  CHECK(refusal({path, "--out", path}) == "cannot write " + path + ": it is a folder");
  CHECK(has(refusal({path, "--out", path + "/none/page.html"}), "No such file or directory"));
  CHECK(has(refusal({path, "--oot", "x"}), "did you mean --out?"));
}

}  // namespace
}  // namespace weir
