#include "common/base/safe_text.hpp"

#include <doctest/doctest.h>

#include <string_view>

namespace weir {
namespace {

std::string shown(std::string_view bytes) { return safe_text(bytes); }

TEST_CASE("valid UTF-8 stays as it is, to the first and last of each size") {
  for (const char* text : {"Emma said:\n\t\"No.\"", "caf\u00e9 \u2014 \u20ac", "\u00a0\u07ff",
                           "\u0800\ud7ff\ue000\uffff", "\U00010000\U0010ffff", "\\x1b"}) {
    CHECK(shown(text) == text);
  }
}

TEST_CASE("bytes that are no UTF-8 are shown by their number, those around them as they are") {
  CHECK(shown("a\x80z") == "a\\x80z");
  CHECK(shown("\xc3(") == "\\xc3(");                           // cut short
  CHECK(shown("\xe2\x82") == "\\xe2\\x82");                    // by the end
  CHECK(shown("\xe2\x82\xe2\x82\xac") == "\\xe2\\x82\u20ac");  // by another
  CHECK(shown("\xc0\xaf") == "\\xc0\\xaf");                    // longer than need be
  CHECK(shown("\xe0\x9f\xbf") == "\\xe0\\x9f\\xbf");
  CHECK(shown("\xf0\x8f\xbf\xbf") == "\\xf0\\x8f\\xbf\\xbf");
  CHECK(shown("\xed\xa0\x80") == "\\xed\\xa0\\x80");           // a surrogate
  CHECK(shown("\xf4\x90\x80\x80") == "\\xf4\\x90\\x80\\x80");  // beyond the last
  CHECK(shown("\xff") == "\\xff");
}

TEST_CASE("nothing that a terminal obeys gets through") {
  CHECK(shown("\x1b[2J") == "\\x1b[2J");
  CHECK(shown("a\r\a\x7f") == "a\\x0d\\x07\\x7f");
  CHECK(shown(std::string_view("\0", 1)) == "\\x00");
  CHECK(shown("\xc2\x9b") == "\\xc2\\x9b");  // CSI in one character
}

TEST_CASE("characters come as soon as they are whole") {
  SafeText text;
  CHECK(text.add('a') == "a");
  CHECK(text.add(0xe2).empty());
  CHECK(text.add(0x82).empty());
  CHECK(text.add(0xac) == "\u20ac");
  CHECK(text.end().empty());
}

}  // namespace
}  // namespace weir
